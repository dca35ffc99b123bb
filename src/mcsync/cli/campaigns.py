"""``mcsync campaigns``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.cli.paging import dumped, every
from mcsync.cli.tables import make_table
from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError
from mcsync.core.web.paging import MAX_LIMIT

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.campaigns.schemas import CampaignView

campaigns = typer.Typer(no_args_is_help=True, help="Campaigns that are followed: opens and clicks.")

CampaignArgument = Annotated[
    str, typer.Argument(help="Our id, Mailchimp's id, or the title of the campaign.")
]


async def _all(resources: Resources, actor: Actor, **filters: str | None) -> list[CampaignView]:
    from mcsync.features.campaigns import service

    return await every(lambda page: service.list_campaigns(resources, actor, page, **filters))


async def _chosen(resources: Resources, actor: Actor, wanted: str) -> CampaignView:
    tracked, name = await _all(resources, actor), wanted.lower()
    for one in tracked:
        if name in (str(one.id), one.campaign_id.lower()):
            return one
    titled = [one for one in tracked if one.title.lower() == name]
    if len(titled) > 1:
        message = "Several tracked campaigns have this title; give the id of one: " + ", ".join(
            one.campaign_id for one in titled
        )
        raise ConflictError(message, code="several_campaigns")
    if not titled:
        message = "There is no such tracked campaign; `mcsync campaigns list` shows all."
        raise NotFoundError(message, code="campaign_not_found")
    return titled[0]


@campaigns.command("list")
def campaigns_list(
    status: Annotated[str | None, typer.Option(help="Only of this status.")] = None,
    search: Annotated[str | None, typer.Option(help="Only titles with this text.")] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List the tracked campaigns, the last tracked first, with how their opens grew."""
    from mcsync.features.campaigns import service
    from mcsync.features.campaigns.words import Status

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        if status is not None and status not in get_args(Status):
            message = f"The status must be one of {', '.join(get_args(Status))}."
            raise BadRequestError(message)
        actor = await acting(resources, organisation)
        found = await _all(resources, actor, status=status, search=search)
        grown = await service.last_opens(resources, actor, [one.id for one in found])
        return [dumped(one) | {"lastOpens": grown.get(one.id, [])} for one in found]

    found = run(out, work)
    out.result(found, lambda console: show_campaigns(console, found))


@campaigns.command("available")
def campaigns_available(
    search: Annotated[str | None, typer.Option(help="Only titles with this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 20,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List what the connected account has: campaigns not tracked first."""
    from mcsync.features.campaigns import available

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        found = await every(
            lambda page: available.list_available(resources, actor, page, search), most=limit
        )
        return [dumped(one) for one in found]

    columns = {
        "campaignId": "campaign", "title": "title", "status": "status", "sendTime": "sent",
        "trackedId": "tracked as",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None: the account has no campaigns yet")


@campaigns.command("track")
def campaigns_track(
    campaign_id: Annotated[str, typer.Argument(help="Mailchimp's id of the campaign.")],
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Follow a campaign of the connected account from now on."""
    from mcsync.features.campaigns import service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        return dumped(await service.track(resources, actor, campaign_id))

    shown = run(out, work)
    out.result(shown, lambda console: show_campaign(console, shown))


@campaigns.command("refresh")
def campaigns_refresh(
    campaign: Annotated[
        str | None, typer.Argument(help="One campaign; without it, all that may still move.")
    ] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Read figures anew now. Without a campaign: a whole round, in few calls, as every six hours."""
    from mcsync.features.campaigns import refresh, service

    out = Output(as_json)

    async def one(resources: Resources, wanted: str) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        chosen = await _chosen(resources, actor, wanted)
        return dumped(await service.refresh_stats(resources, actor, chosen.id))

    async def every(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        await service.ask_round(resources, actor)
        outcome = await refresh.work_on(resources, actor.org_id, stopping=asyncio.Event())
        if outcome is None:
            message = "A worker is at it already; look again in a minute."
            raise ConflictError(message)
        return {**outcome.diff(), "error": outcome.error}

    if campaign is not None:
        wanted = campaign
        shown = run(out, lambda resources: one(resources, wanted))
        out.result(shown, lambda console: show_campaign(console, shown))
        return
    done = run(out, every)
    out.result(done, lambda console: _show_round(console, done))
    if done["error"]:
        raise typer.Exit(Exit.ATTENTION)


@campaigns.command("untrack")
def campaigns_untrack(
    campaign: CampaignArgument,
    organisation: OrgOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Stop following a campaign. Nothing changes at Mailchimp, and its history is kept."""
    from mcsync.features.campaigns import service

    out = Output(as_json)
    confirm(out, f"Stop tracking {campaign!r}?", yes=yes)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        chosen = await _chosen(resources, actor, campaign)
        return dumped(await service.untrack(resources, actor, chosen.id))

    shown = run(out, work)
    out.result(shown, lambda console: console.print("No longer tracked."))


@campaigns.command("history")
def campaigns_history(
    campaign: CampaignArgument,
    svg: Annotated[bool, typer.Option("--svg", help="Print a plot as SVG instead.")] = False,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a campaign's figures over time."""
    from mcsync.features.campaigns import service

    out = Output(as_json)

    async def drawn(resources: Resources) -> str:
        actor = await acting(resources, organisation)
        chosen = await _chosen(resources, actor, campaign)
        return await service.plot_history(resources, actor, chosen.id)

    async def told(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        tracking_id: UUID = (await _chosen(resources, actor, campaign)).id
        found = await every(lambda page: service.history(resources, actor, page, tracking_id))
        return [dumped(point) for point in found]

    if svg:
        typer.echo(run(out, drawn), nl=False)
        return
    points = run(out, told)
    out.result(points, lambda console: show_history(console, points))


# ------------------------------------------------------------------------------------- shown


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _when(moment: str | None) -> str:
    return "-" if moment is None else moment[:16].replace("T", " ")


def _status(one: Mapping[str, Any]) -> str:
    return "gone" if one["goneAt"] else str(one["status"])


def show_campaigns(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Tracked campaigns, for people."""
    from mcsync.features.campaigns.plot import spark

    if not found:
        console.print("None yet: mcsync campaigns track CAMPAIGN (see mcsync campaigns available)")
        return
    rows = [
        [
            one["title"] or one["subject"] or one["campaignId"], _status(one),
            str(one["emailsSent"]), _percent(one["openRate"]),
            _percent(one["proxyExcludedOpenRate"]), _percent(one["clickRate"]),
            spark(one["lastOpens"][-16:]), _when(one["sendTime"]),
        ]
        for one in found
    ]  # fmt: skip
    headings = ("title", "status", "sent to", "opened", "w/o proxy", "clicked", "opens", "sent")
    console.print(make_table(headings, rows))


def show_campaign(console: Console, one: Mapping[str, Any]) -> None:
    """A tracked campaign, for people."""
    console.print(f"{one['title'] or one['subject']}: ", style="bold", end="", markup=False)
    console.print(f"{_status(one)} ({one['campaignId']}, ours {one['id']})")
    console.print(f"  sent to      {one['emailsSent']} ({_when(one['sendTime'])})")
    console.print(
        f"  opened       {one['uniqueOpens']} people, {_percent(one['openRate'])};"
        f" {_percent(one['proxyExcludedOpenRate'])} without privacy proxies"
    )
    console.print(f"  clicked      {one['subscriberClicks']} people, {_percent(one['clickRate'])}")
    console.print(
        f"  bounced      {one['hardBounces']} hard, {one['softBounces']} soft,"
        f" {one['syntaxErrors']} unusable"
    )
    console.print(f"  unsubscribed {one['unsubscribed']}, complaints {one['abuseReports']}")


def show_history(console: Console, points: Sequence[Mapping[str, Any]]) -> None:
    """A history, for people."""
    from mcsync.features.campaigns.plot import spark

    if not points:
        console.print("No figures yet: they come once it is sent.")
        return
    console.print(f"opens  {spark([one['uniqueOpens'] for one in points][-60:])}")
    console.print(f"clicks {spark([one['subscriberClicks'] for one in points][-60:])}")
    rows = [
        [
            _when(one["at"]), one["status"], str(one["emailsSent"]), str(one["uniqueOpens"]),
            _percent(one["openRate"]), str(one["subscriberClicks"]), _percent(one["clickRate"]),
            str(one["unsubscribed"]),
        ]
        for one in points[-30:]
    ]  # fmt: skip
    headings = ("at (UTC)", "status", "sent to", "opened", "rate", "clicked", "rate", "left")
    console.print(make_table(headings, rows))


def _show_round(console: Console, done: Mapping[str, Any]) -> None:
    console.print(
        f"Looked at {done['seen']} campaigns in {done['calls']} calls: {done['moved']} moved,"
        f" {done['gone']} gone, {done['tracked']} newly tracked."
    )
    if done["error"]:
        console.print(f"Not finished: {done['error']}.")
