"""``mcsync sources``: contacts from the organisation's own databases."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import INTERRUPTED, AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.cli.paging import dumped, every
from mcsync.cli.tables import make_table
from mcsync.cli.upload import TimeZoneOption

if TYPE_CHECKING:
    from mcsync.core.resources import Resources

sources = typer.Typer(
    no_args_is_help=True, help="Sources: contacts from the organisation's own databases."
)

NameArgument = Annotated[str, typer.Argument(help="Name or id of the source.")]
_SHOWN = 20


def _pairs(out: Output, given: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        target, separator, value = pair.partition("=")
        if not separator or not target.strip() or not value.strip():
            out.fail(Exit.USAGE, f"{option} wants FIELD=VALUE.", kind="usage")
        if target.strip() in found:
            out.fail(Exit.USAGE, f"{option} names {target.strip()} twice.", kind="usage")
        found[target.strip()] = value.strip()
    return found


def _text(out: Output, given: str | None, file: Path | None, what: str) -> str | None:
    if given is not None and file is not None:
        out.fail(Exit.USAGE, f"Give {what} once: as text or as a file.", kind="usage")
    if file is None:
        return given
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        out.fail(Exit.USAGE, f"{file} cannot be read: {type(error).__name__}.", kind="no_file")


@sources.command("add")
def add(
    name: Annotated[str, typer.Argument(help="How the source will be called.")],
    mode: Annotated[
        str,
        typer.Option(
            help="watermark: what changed since the last pull; queue: what a queue table names;"
            " full: everything, each time."
        ),
    ] = "full",
    url: Annotated[
        str | None,
        typer.Option(
            envvar="MCSYNC_SOURCE_URL",
            show_envvar=True,
            help="postgresql://, mysql://, mariadb:// or sqlite:///; - reads it from standard input,"
            " and without it you are asked. The option itself shows in the list of processes.",
        ),
    ] = None,
    query: Annotated[str | None, typer.Option(help="One SELECT.")] = None,
    query_file: Annotated[Path | None, typer.Option(help="The same, from a file.")] = None,
    watermark: Annotated[
        str | None, typer.Option(help="Column that tells when a row changed (time or number).")
    ] = None,
    overlap: Annotated[
        int, typer.Option(help="How far each pull reaches back: seconds, or steps of a number.")
    ] = 300,
    key: Annotated[str | None, typer.Option(help="Column with the queue row's key.")] = None,
    acknowledge: Annotated[
        str | None,
        typer.Option(
            help="Statement that takes a row off the queue: delete from q where id = :key"
        ),
    ] = None,
    snapshot: Annotated[
        bool,
        typer.Option(help="Contacts that a full pull no longer brings are marked as having left."),
    ] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="FIELD=COLUMN. Any other FIELD than a contact's is an attribute."
        ),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE for every row, such as entityType=employee."),
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, max=3600, help="Seconds that one statement may take there.")
    ] = 300,
    time_zone: TimeZoneOption = None,
    check: Annotated[bool, typer.Option(help="Read the first rows before it is stored.")] = True,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Set a source up. Its URL is stored encrypted and never shown again."""
    from mcsync.features.sources import service
    from mcsync.features.sources.service import NewSource

    out = Output(as_json)
    statement = _text(out, query, query_file, "the query")
    if statement is None:
        out.fail(Exit.USAGE, "Give --query or --query-file.", kind="usage")
    given = NewSource(
        name=name, url=_url(out, url), query=statement, mode=mode,
        columns=_pairs(out, columns or [], "--map"),
        constants=_pairs(out, constants or [], "--set"),
        watermark_column=watermark, overlap=overlap, key_column=key, acknowledge=acknowledge,
        snapshot=snapshot, timeout_seconds=timeout, time_zone=time_zone,
    )  # fmt: skip

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        made = await service.add(resources, actor, given, check=check)
        return dumped(made)

    made = run(out, work)
    out.result(
        made,
        lambda c: c.print(
            f"Added source {made['name']} ({made['place']}). Try it: mcsync sources test {made['name']}",
            markup=False,
        ),
    )


def _url(out: Output, given: str | None) -> str:
    if given == "-":
        return sys.stdin.readline().strip()
    if given is not None:
        return given
    if out.json or not sys.stdin.isatty():
        out.fail(Exit.USAGE, "Give the URL in MCSYNC_SOURCE_URL or with --url.", kind="usage")
    try:
        return str(typer.prompt("Connection URL", hide_input=True))
    except typer.Abort:
        raise typer.Exit(INTERRUPTED) from None


@sources.command("test")
def try_out(
    name: NameArgument,
    rows: Annotated[
        int | None, typer.Option(min=1, help="How many rows to try; default: 10,000.")
    ] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Dry run: ten mapped rows, and what a pull from the beginning would reject. Stores nothing."""
    from mcsync.features.sources import service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        trial = await service.try_out(resources, actor, name, most=rows or service.TRIED_ROWS)
        return {
            "counts": trial.counts, "sample": trial.sample, "rejections": trial.rejections,
            "ignoredColumns": list(trial.ignored),
        }  # fmt: skip

    found = run(out, work)
    out.result(found, lambda console: _show_trial(console, found))
    if found["counts"]["rejected"]:
        raise typer.Exit(Exit.ATTENTION)


def _show_trial(console: Console, found: dict[str, Any]) -> None:
    names = list(dict.fromkeys(key for row in found["sample"] for key in row))
    if names:
        rows = [[_cell(row.get(key)) for key in names] for row in found["sample"]]
        console.print(make_table(names, rows))
    if found["ignoredColumns"]:
        console.print(
            "Not mapped, so not taken: " + ", ".join(found["ignoredColumns"]), markup=False
        )
    _show_counts(console, found["counts"], found["rejections"], would=True)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return "-" if value is None else str(value)


def _show_counts(
    console: Console, counts: dict[str, Any], rejections: list[dict[str, Any]], *, would: bool
) -> None:
    be = "would be " if would else ""
    console.print(
        f"{counts['received']} rows: {counts['created']} {be}created, {counts['updated']} {be}updated,"
        f" {counts['unchanged']} unchanged, {counts['rejected']} {be}rejected"
    )
    if rejections:
        rows = [
            [
                str(r["row"]),
                "yes" if r["taken"] else "no",
                r["field"] or "-",
                r["code"],
                r["message"],
            ]
            for r in rejections[:_SHOWN]
        ]
        console.print(make_table(("row", "row taken", "field", "code", "what is wrong"), rows))
    if len(rejections) > _SHOWN:
        console.print(f"... and {len(rejections) - _SHOWN} more (--json shows up to 1,000)")


@sources.command("pull")
def pull(
    name: NameArgument,
    from_start: Annotated[
        bool, typer.Option(help="Everything once more, whatever the watermark says.")
    ] = False,
    confirm_withdrawals: Annotated[
        bool, typer.Option(help="Go on although suspiciously many contacts would be withdrawn.")
    ] = False,
    confirm_deletions: Annotated[
        bool, typer.Option(help="Go on although suspiciously many contacts would be marked left.")
    ] = False,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Pull a source now. Exits 6 where rows were rejected or it waits for your word."""
    from mcsync.features.sources import service
    from mcsync.features.sources.pulls import Wish

    out = Output(as_json)
    wish = Wish(from_start, confirm_withdrawals, confirm_deletions)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        view, rejections = await service.pull_now(
            resources, actor, name, wish, owner=f"cli:{socket.gethostname()}:{os.getpid()}"
        )
        return {**dumped(view), "firstRejections": rejections}

    found = run(out, work)
    out.result(found, lambda console: _show_pull(console, found))
    if found["status"] != "succeeded":
        raise typer.Exit(Exit.REFUSED if found["status"] == "failed" else Exit.ATTENTION)


def _show_pull(console: Console, found: dict[str, Any]) -> None:
    console.print(f"Pull {found['id']}: [bold]{found['status']}[/]", markup=True)
    report = found["report"]
    if report:
        _show_counts(console, report, found["firstRejections"], would=False)
        if report["left"] is not None:
            console.print(f"{report['absent']} absent, {report['left']} marked as having left")
        if report["acknowledged"] is not None:
            console.print(f"{report['acknowledged']} acknowledged")
    if found["error"]:
        console.print(f"{found['error']['code']}: {found['error']['message']}", markup=False)


@sources.command("list")
def list_(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """List the organisation's sources."""
    from mcsync.features.sources import service

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        found = await every(lambda page: service.list_sources(resources, actor, page))
        return [dumped(source) for source in found]

    columns = {
        "name": "name", "place": "place", "mode": "mode", "status": "status",
        "statusCode": "because", "watermark": "watermark", "id": "id",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None yet: mcsync sources add NAME")


@sources.command("remove")
def remove(
    name: NameArgument, organisation: OrgOption = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """End a source and destroy its credentials. Its contacts stay."""
    from mcsync.features.sources import service

    out = Output(as_json)
    confirm(out, f"Remove the source {name}?", yes=yes)

    async def work(resources: Resources) -> dict[str, Any]:
        removed = await service.remove(resources, await acting(resources, organisation), name)
        return {"id": str(removed)}

    done = run(out, work)
    out.result(done, lambda c: c.print("Removed. The contacts that came from it stay as they are."))
