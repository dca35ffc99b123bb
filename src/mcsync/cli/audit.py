"""``mcsync audit``."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcsync.cli.administration import acting, choose_organisation
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, run
from mcsync.cli.paging import dumped, every
from mcsync.features.audit.actions import AuditAction

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.audit.schemas import AuditFilter, ExportKind

audit = typer.Typer(no_args_is_help=True, help="What was done, by whom, and the proof of it.")

Action = Annotated[
    AuditAction | None, typer.Option("--action", help="Only this action, such as segments.create.")
]
ActorId = Annotated[str | None, typer.Option("--actor", help="Only what the actor of this id did.")]
EntityId = Annotated[str | None, typer.Option("--entity", help="Only the row of this id.")]
Since = Annotated[datetime | None, typer.Option("--since", help="From this time on (UTC).")]
Until = Annotated[datetime | None, typer.Option("--until", help="Before this time (UTC).")]


@audit.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    action: Action = None,
    actor: ActorId = None,
    entity: EntityId = None,
    since: Since = None,
    until: Until = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List what was done, newest first."""
    from mcsync.features.audit import service

    out = Output(as_json)
    wanted = _filter(action, actor, entity, since, until)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        who = await acting(resources, organisation)
        found = await every(
            lambda page: service.list_entries(resources, who, page, wanted), most=limit
        )
        return [dumped(entry) for entry in found]

    columns = {
        "seq": "#", "at": "when", "actorLabel": "who", "action": "what", "entityType": "of",
        "entityId": "id",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="Nothing was done yet.")


@audit.command("verify")
def verify(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """Recompute the chain from its first entry to its newest. Exits 6 if anything was changed."""
    from mcsync.features.audit import service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        chosen = await choose_organisation(resources, organisation)
        answer = await service.verify(resources, chosen.id)
        return dumped(answer)

    found = run(out, work)
    told = (
        f"{found['entries']} entries, all in order. Newest hash: {found['head']}"
        if found["valid"]
        else f"Entry {found['brokenAt']} is not in order: {found['reason']}."
    )
    out.result(found, lambda console: console.print(told, soft_wrap=True))
    if not found["valid"]:
        raise typer.Exit(Exit.ATTENTION)


@audit.command("export")
def export(
    file: Annotated[
        Path, typer.Argument(help="Where to; .csv writes CSV, all else NDJSON.")
    ] = Path("-"),
    csv: Annotated[bool, typer.Option("--csv", help="CSV, also to standard output.")] = False,
    action: Action = None,
    actor: ActorId = None,
    entity: EntityId = None,
    since: Since = None,
    until: Until = None,
    organisation: OrgOption = None,
) -> None:
    """Write the entries, oldest first, to a file or (without one) to standard output."""
    from mcsync.features.audit import service

    out = Output()
    wanted = _filter(action, actor, entity, since, until)
    kind: ExportKind = "csv" if csv or file.suffix.lower() == ".csv" else "ndjson"

    async def work(resources: Resources) -> None:
        who = await acting(resources, organisation)
        target = sys.stdout.buffer if str(file) == "-" else file.open("wb")
        try:
            async for piece in service.export(resources, who, kind, wanted):
                await asyncio.to_thread(target.write, piece)
            target.flush()
        finally:
            if target is not sys.stdout.buffer:
                target.close()

    run(out, work)


def _filter(
    action: AuditAction | None, actor: str | None, entity: str | None, since: datetime | None,
    until: datetime | None,
) -> AuditFilter:  # fmt: skip
    from mcsync.features.audit.schemas import AuditFilter

    return AuditFilter(
        action=action, entity_id=entity, actor_id=actor, since=_utc(since), until=_utc(until)
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None else moment.replace(tzinfo=UTC)
