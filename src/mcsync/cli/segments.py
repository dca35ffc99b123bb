"""``mcsync segments`` and ``mcsync runs``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.cli.paging import dumped, every
from mcsync.cli.progress import RunProgress
from mcsync.cli.tables import make_table
from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError, NotFoundError
from mcsync.core.web.paging import MAX_LIMIT, PageParams

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.sync.schemas import RunView

segments = typer.Typer(no_args_is_help=True, help="Segments: who is kept in which audience.")
runs = typer.Typer(no_args_is_help=True, help="Runs: the syncs of segments.")

SegmentArgument = Annotated[str, typer.Argument(help="Name or id of the segment.")]
RunArgument = Annotated[UUID, typer.Argument(help="The run's id.")]
ACTIONS = ("add", "update", "resubscribe", "unsubscribe", "untag", "archive", "rename")
ENDED_WELL = {"succeeded"}


async def _all_segments(resources: Resources, actor: Actor) -> list[dict[str, Any]]:
    from mcsync.features.segments import service as segments_service

    found = await every(lambda page: segments_service.list_segments(resources, actor, page))
    return [dumped(segment) for segment in found]


async def _segment_id(resources: Resources, actor: Actor, wanted: str) -> UUID:
    for segment in await _all_segments(resources, actor):
        if segment["id"] == wanted.lower() or segment["name"].lower() == wanted.lower():
            return UUID(segment["id"])
    message = "There is no such segment; `mcsync segments list` shows all."
    raise NotFoundError(message, code="segment_not_found")


@segments.command("list")
def segments_list(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """List the segments, newest first."""
    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        return await _all_segments(resources, await acting(resources, organisation))

    columns = {
        "id": "id", "name": "name", "audienceName": "audience", "segmentType": "type",
        "status": "status", "lastSyncedAt": "last synced",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None: create one with segments.create")


@segments.command("preview")
def segments_preview(
    segment: SegmentArgument,
    sample: Annotated[int, typer.Option(min=0, max=200, help="How many sample rows.")] = 10,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sync would do now, and why, without doing it."""
    from mcsync.features.sync import service as sync_service
    from mcsync.features.sync.schemas import PreviewInput

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        chosen = await _segment_id(resources, actor, segment)
        wanted = PreviewInput.model_validate({"id": chosen, "sample": sample})
        answer = await sync_service.preview(resources, actor, wanted)
        return dumped(answer)

    preview = run(out, work)
    out.result(preview, lambda console: show_preview(console, preview))


@segments.command("sync")
def segments_sync(
    segment: SegmentArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the run ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Pull, plan and stop.")] = False,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Start a sync; a worker does it. With --watch, exits 6 unless the run succeeds."""
    begun: list[str] = []
    from mcsync.features.sync import service as sync_service

    out = Output(as_json)

    async def work(resources: Resources) -> RunView:
        actor = await acting(resources, organisation)
        chosen = await _segment_id(resources, actor, segment)
        started = await sync_service.start(resources, actor, chosen, dry_run=dry_run)
        begun.append(str(started.id))
        if not watch:
            return started
        return await _watched(out, resources, actor, started)

    def goes_on() -> str:
        return "".join(
            f"Run {run_id} goes on without you. See it with `mcsync runs show {run_id}`, and stop it with"
            f" `mcsync runs cancel {run_id}`."
            for run_id in begun
        )

    _finish(out, run(out, work, interrupted=goes_on), watched=watch)


async def _watched(out: Output, resources: Resources, actor: Actor, started: RunView) -> RunView:
    from mcsync.features.sync import service as sync_service

    last = started
    with RunProgress(out.errors, quiet=out.json) as progress:
        async for _, view in sync_service.watch(resources, actor, started.id, seen=0):
            last = view
            progress.show(dumped(view))
    return last


def _finish(out: Output, view: RunView, *, watched: bool) -> None:
    shown = dumped(view)
    out.result(shown, lambda console: show_run(console, shown))
    if watched and view.status not in ENDED_WELL:
        raise typer.Exit(Exit.ATTENTION)


# ------------------------------------------------------------------------------------- runs


@runs.command("list")
def runs_list(
    segment: Annotated[str | None, typer.Option(help="Only of this segment.")] = None,
    status: Annotated[str | None, typer.Option(help="Only of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 20,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from mcsync.features.sync import service as sync_service
    from mcsync.features.sync.schemas import RunStatus

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        if status is not None and status not in get_args(RunStatus):
            message = f"The status must be one of {', '.join(get_args(RunStatus))}."
            raise BadRequestError(message)
        actor = await acting(resources, organisation)
        chosen = await _segment_id(resources, actor, segment) if segment else None
        answer = await sync_service.list_runs(
            resources, actor, PageParams(limit, None), segment_id=chosen, status=status
        )
        return [dumped(item) for item in answer.items]

    found = run(out, work)

    def human(console: Console) -> None:
        if not found:
            console.print("None yet: mcsync segments sync NAME")
            return
        rows = [
            [r["id"], r["status"], r["trigger"], _actions(r["counts"]), str(r["counts"]["failed"]),
             r["createdAt"]]
            for r in found
        ]  # fmt: skip
        console.print(make_table(("id", "status", "trigger", "changes", "failed", "created"), rows))

    out.result(found, human)


@runs.command("show")
def runs_show(
    run_id: RunArgument,
    changes: Annotated[int, typer.Option(min=0, max=MAX_LIMIT, help="Also so many changes.")] = 0,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one run: counts, reasons, and its changes if asked for."""
    from mcsync.features.sync import service as sync_service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        shown = (await sync_service.get(resources, actor, run_id)).model_dump(
            mode="json", by_alias=True
        )
        if changes:
            page = await sync_service.list_changes(
                resources, actor, PageParams(changes, None), run_id,
                action=None, state=None, reason=None,
            )  # fmt: skip
            shown["changes"] = [dumped(c) for c in page.items]
        return shown

    shown = run(out, work)
    out.result(shown, lambda console: show_run(console, shown))


@runs.command("approve")
def runs_approve(
    run_id: RunArgument, organisation: OrgOption = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Execute the changes that the guard held."""
    from mcsync.features.sync import service as sync_service

    _decide(run_id, organisation, yes, as_json, "Execute all held changes of", sync_service.approve)


@runs.command("cancel")
def runs_cancel(
    run_id: RunArgument, organisation: OrgOption = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Stop a run after the calls under way; what was sent stays."""
    from mcsync.features.sync import service as sync_service

    _decide(run_id, organisation, yes, as_json, "Cancel", sync_service.cancel)


def _decide(
    run_id: UUID,
    organisation: str | None,
    yes: bool,
    as_json: bool,
    question: str,
    act: Callable[[Resources, Actor, UUID], Awaitable[RunView]],
) -> None:
    out = Output(as_json)
    confirm(out, f"{question} run {run_id}?", yes=yes)

    async def work(resources: Resources) -> RunView:
        return await act(resources, await acting(resources, organisation), run_id)

    _finish(out, run(out, work), watched=False)


# ------------------------------------------------------------------------------------- shown


def _actions(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[a]} {a}" for a in ACTIONS if counts[a]) or "none"


def show_run(console: Console, shown: Mapping[str, Any]) -> None:
    """A run, for people."""
    counts = shown["counts"]
    console.print(f"Run {shown['id']}: [bold]{shown['status']}[/]", markup=True)
    console.print(
        f"  changes    {_actions(counts)} ({counts['done']} done, {counts['failed']} failed)"
    )
    console.print(f"  unchanged  {counts['unchanged']}")
    for reason, number in sorted(shown["skippedByReason"].items()):
        console.print(f"  skipped    {number} {reason}")
    for hold in shown["holds"]:
        console.print(f"  held       {hold['count']} {hold['kind']} (more than {hold['limit']}): "
                      f"mcsync runs approve {shown['id']}")  # fmt: skip
    if shown["error"]:
        console.print(
            f"  because    {shown['error']['code']}: {shown['error']['message']}", markup=False
        )
    changes = shown.get("changes", [])
    if changes:
        rows = [
            [str(c["seq"]), c["action"], c["reason"], c["state"], c["email"] or "-",
             c["outcomeCode"] or "-"]
            for c in changes
        ]  # fmt: skip
        console.print(make_table(("seq", "action", "reason", "state", "email", "outcome"), rows))


def show_preview(console: Console, preview: Mapping[str, Any]) -> None:
    """A preview, for people."""
    rows = [
        [action, reason, str(number)]
        for action, reasons in preview["byReason"].items()
        for reason, number in sorted(reasons.items())
    ]
    console.print(make_table(("action", "reason", "contacts"), rows))
    if preview["sample"]:
        sample = [[r["action"], r["reason"], r["email"] or "-"] for r in preview["sample"]]
        console.print(make_table(("action", "reason", "email"), sample, title="For example"))
