"""``mcsync probe``: how does this Mailchimp account behave where Mailchimp's documents do not say?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, run
from mcsync.cli.tables import make_table

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.probe.service import Finding, Report


def probe(
    domain: Annotated[
        str,
        typer.Option(
            help="A domain of yours. Only made-up addresses of it and of its subdomains are used."
        ),
    ],
    audience: Annotated[
        str | None,
        typer.Option(
            help="Use this audience instead of making one and deleting it afterwards. Only the probe's"
            " own made-up addresses are then deleted from it, permanently."
        ),
    ] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Ask the connected Mailchimp account how it behaves, and keep the answers for the next sync.

    Takes up to two minutes. Nothing is sent to anybody. Exits 6 if something could not be removed.
    """
    from mcsync.features.probe import service

    out = Output(as_json)

    async def work(resources: Resources) -> Report:
        actor = await acting(resources, organisation)
        return await service.probe(
            resources, actor, domain=domain, audience_id=audience,
            on_step=lambda question: out.note(question.asks), on_leftover=out.warn,
        )  # fmt: skip

    report = run(out, work)
    out.result(told(report), lambda console: _show(console, report))
    if report.leftovers:
        raise typer.Exit(Exit.ATTENTION)


def told(report: Report) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "accountId": report.account_id,
        "audienceId": report.audience_id,
        "questions": [
            {
                "question": finding.question.name,
                "asks": finding.question.asks,
                "answer": finding.answer or "unknown",
                "seen": finding.seen,
                "assumed": finding.question.assumed,
                "differs": finding.differs,
                "follows": finding.question.follows if finding.differs else None,
            }
            for finding in report.findings
        ],
        "leftovers": list(report.leftovers),
    }


def _show(console: Console, report: Report) -> None:
    rows = [
        [finding.question.asks, finding.seen, finding.question.says(finding.question.assumed),
         _outcome(finding)]
        for finding in report.findings
    ]  # fmt: skip
    console.print(make_table(("question", "seen", "assumed", "what follows"), rows))
    differing = sum(finding.differs for finding in report.findings)
    unknown = sum(finding.answer is None for finding in report.findings)
    console.print(
        f"{len(rows)} questions: {differing} differ from what mcsync assumes, {unknown} unknown."
    )


def _outcome(finding: Finding) -> str:
    if finding.answer is None:
        return "The last known answer stays, or the assumption."
    return finding.question.follows if finding.differs else "as assumed"
