"""``mcsync doctor``: is everything as it must be? One line for each check, with what to do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from mcsync.cli.checks.finding import Finding, sound
from mcsync.cli.checks.servers import PATIENCE
from mcsync.cli.checks.tenants import Asked
from mcsync.cli.console import AsJson, Exit, Output, explained, quiet_logs

if TYPE_CHECKING:
    from mcsync.core.settings import Settings

_ORGANISATIONS_SECONDS: Final = 10.0


def doctor(
    organisation: Annotated[
        str | None, typer.Option("--org", help="Look at one organisation only: its name or id.")
    ] = None,
    every_account: Annotated[
        bool,
        typer.Option("--every-account", help="Ask every Mailchimp account, however long it takes."),
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no Mailchimp account.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the servers, the keys, the workers, what waits, and the organisations; exits 6 on a problem."""
    out = Output(as_json)
    configuration = explained(out, _readable)
    quiet_logs(configuration)
    asked = Asked(organisation, every_account=every_account, offline=offline)
    found = explained(out, lambda: asyncio.run(examine(configuration, asked)))

    def human(console: Console) -> None:
        from rich.markup import escape

        marks = {
            "ok": "[green]ok[/]     ",
            "warning": "[yellow]warning[/]",
            "problem": "[red]problem[/]",
        }
        for finding in found:
            console.print(f"{marks[finding.state]}  [bold]{escape(finding.check)}[/]: "
                          f"{escape(finding.detail)}", markup=True)  # fmt: skip
            if finding.fix:
                console.print(f"         fix: {finding.fix}")

    healthy = all(finding.state != "problem" for finding in found)
    out.result({"healthy": healthy, "checks": [asdict(finding) for finding in found]}, human)
    if not healthy:
        raise typer.Exit(Exit.ATTENTION)


async def examine(configuration: Settings, asked: Asked | None = None) -> list[Finding]:
    """Every finding. A check that cannot be made without a broken part is left out.

    Raises ``NotFoundError`` where the organisation asked for does not exist.
    """
    from mcsync.core.environment import unknown_names

    found = [
        Finding("settings", "problem", problem, "Set it in the environment; see the README.")
        for problem in configuration.service_problems()
    ]
    unknown = [
        Finding("settings", "problem", problem, "An API or a worker does not start with it.")
        for problem in unknown_names(os.environ)
    ]
    if found:
        return found + unknown
    from mcsync.cli.checks import servers, tenants, work
    from mcsync.core.resources import PATIENCE_SECONDS, Resources

    resources = await Resources.build(configuration, patience=PATIENCE_SECONDS)
    try:
        found = unknown or [Finding("settings", "ok", "complete")]
        for part in await asyncio.gather(servers.database(resources), servers.redis(resources)):
            found += part
        if not sound(found, "database", "migrations", "pooler"):
            return found
        for part in await asyncio.gather(
            _in_time("master keys", tenants.master_keys(resources)),
            _in_time("workers", work.workers(resources)),
            _in_time("backlog", work.backlog(resources)),
        ):
            found += part
        # A call needs a slot, which Redis gives, and a key; and one that does not open would be noted on
        # the connection, though only this shell may have the wrong master keys.
        asked = asked or Asked()
        looking = tenants.organisations(
            resources, asked, connections=sound(found, "redis", "master keys")
        )
        patience = None if asked.every_account else _ORGANISATIONS_SECONDS
        return found + await _in_time("organisations", looking, patience)
    finally:
        await resources.close()


def _readable() -> Settings:
    """The settings. Raises ``SettingsError`` naming all that is wrong where one of them cannot be read."""
    from mcsync.core.environment import read_settings, unknown_names
    from mcsync.core.settings import SettingsError

    reading = read_settings()
    if reading.wrong:
        raise SettingsError(reading.service_problems() + unknown_names(os.environ))
    return reading.settings


async def _in_time(
    check: str, looking: Awaitable[list[Finding]], seconds: float | None = PATIENCE
) -> list[Finding]:
    """What a check finds, or that it could not be made in time: a table may be locked."""
    try:
        async with asyncio.timeout(seconds):
            return await looking
    except TimeoutError:
        return [
            Finding(
                check, "problem", f"PostgreSQL did not answer within {seconds:.0f} s",
                "Look for locks that are held for long (pg_stat_activity, pg_locks) and for its load.",
            )
        ]  # fmt: skip
