"""``mcsync webhooks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.cli.paging import dumped, every
from mcsync.core.auth import Actor

if TYPE_CHECKING:
    from mcsync.core.resources import Resources

webhooks = typer.Typer(no_args_is_help=True, help="Webhooks: how Mailchimp reports to mcsync.")

_COLUMNS = {
    "audienceId": "audience", "audienceName": "name", "status": "status", "signed": "signed",
    "checkedAt": "as of", "lastError": "error", "waiting": "waiting", "lastEventAt": "last event",
}  # fmt: skip
_NONE = "None: they are registered by themselves once MCSYNC_PUBLIC_URL is set and a segment exists"


async def _all(resources: Resources, actor: Actor) -> list[dict[str, Any]]:
    from mcsync.features.webhooks import service

    found = await every(lambda page: service.list_webhooks(resources, actor, page))
    return [dumped(webhook) for webhook in found]


@webhooks.command("list")
def webhooks_list(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """Show the webhook of each audience as of its last check (never its address); `check` looks now."""
    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        return await _all(resources, await acting(resources, organisation))

    out.table(run(out, work), _COLUMNS, empty=_NONE)


@webhooks.command("check")
def webhooks_check(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """Compare with Mailchimp now, repair what is missing; exits 6 where something still is wrong."""
    from mcsync.features.webhooks import service

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        who = await acting(resources, organisation)
        await service.check(resources, who.org_id)
        return await _all(resources, who)

    found = run(out, work)
    out.table(found, _COLUMNS, empty=_NONE)
    if any(row["status"] not in {"active", "removed"} for row in found):
        raise typer.Exit(Exit.ATTENTION)


@webhooks.command("rotate")
def webhooks_rotate(
    audience: Annotated[str, typer.Argument(help="Mailchimp's id of the audience.")],
    organisation: OrgOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Replace a webhook's secret address; the one before is accepted for 24 hours more."""
    from mcsync.features.webhooks import service

    out = Output(as_json)
    confirm(out, f"Replace the webhook address of audience {audience}?", yes=yes)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        return (await service.rotate(resources, actor, audience)).model_dump(
            mode="json", by_alias=True
        )

    done = run(out, work)

    def human(console: Console) -> None:
        console.print("A worker registers the new address within seconds: mcsync webhooks list")

    out.result(done, human)
