"""``mcsync preferences``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, run
from mcsync.cli.paging import dumped
from mcsync.cli.upload import (
    CharsetOption,
    ColumnsOption,
    FileArgument,
    MapOption,
    SetOption,
    TimeZoneOption,
    Upload,
    choice_of,
    show_rejections,
)

if TYPE_CHECKING:
    from mcsync.core.resources import Resources

preferences = typer.Typer(
    no_args_is_help=True, help="Consent: who opted in or out, with its proof."
)


@preferences.command("import")
def import_(
    file: FileArgument,
    charset: CharsetOption = None,
    mapped: MapOption = None,
    constants: SetOption = None,
    columns: ColumnsOption = None,
    confirm_withdrawals: Annotated[
        bool, typer.Option(help="Go on although suspiciously many contacts would be withdrawn.")
    ] = False,
    time_zone: TimeZoneOption = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Import statements of consent about known contacts. Exits 6 if any row was rejected."""
    from mcsync.features.preferences import importing

    out = Output(as_json)
    given = Upload(out, file, charset)
    choice = choice_of(mapped, constants, columns)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        with given.body() as body:
            result = await importing.import_file(
                resources, actor, body, given.kind, confirm_withdrawals=confirm_withdrawals,
                choice=choice, time_zone=time_zone,
            )  # fmt: skip
        return dumped(result)

    result = run(out, work)
    out.result(result, lambda console: _show(console, result))
    if result["rejected"]:
        raise typer.Exit(Exit.ATTENTION)


def _show(console: Console, result: dict[str, Any]) -> None:
    console.print(
        f"{result['received']} rows: {result['optedIn']} opted in, {result['optedOut']} opted out, "
        f"{result['unset']} unset, {result['unchanged']} unchanged, {result['notNewer']} not newer, "
        f"{result['rejected']} rejected"
    )
    show_rejections(console, result)
