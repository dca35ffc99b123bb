"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

import mcsync
from mcsync.cli import erasures, keys, platform, processes, replay, segments, sources, webhooks
from mcsync.cli.audit import audit
from mcsync.cli.backup import backup, restore
from mcsync.cli.campaigns import campaigns
from mcsync.cli.contacts import contacts
from mcsync.cli.demo import demo
from mcsync.cli.dev import dev
from mcsync.cli.doctor import doctor
from mcsync.cli.preferences import preferences
from mcsync.cli.probe import probe
from mcsync.cli.transactional import transactional

EPILOG = """\
Exit codes: 0 done, 1 unexpected failure, 2 wrong usage, 3 not configured, 4 refused (not found,
conflict), 5 unavailable (try again), 6 done but something needs attention, 130 interrupted.
Settings are MCSYNC_* variables; NO_COLOR turns colours off.
"""

app = typer.Typer(
    name="mcsync",
    help="Keeps Mailchimp audiences true to an organisation's own contacts.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mcsync {mcsync.__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Nothing of its own: the commands are below."""


for command in (
    processes.api,
    processes.worker,
    processes.migrate,
    backup,
    restore,
    processes.openapi,
    processes.sandbox,
    dev,
    demo,
    doctor,
    probe,
):
    app.command()(command)

app.add_typer(platform.org, name="org")
app.add_typer(platform.token, name="token")
app.add_typer(contacts, name="contacts")
app.add_typer(preferences, name="preferences")
app.add_typer(segments.segments, name="segments")
app.add_typer(segments.runs, name="runs")
app.add_typer(webhooks.webhooks, name="webhooks")
erasures.erasures.command("export")(replay.export)
erasures.erasures.command("replay")(replay.replay)
app.add_typer(erasures.erasures, name="erasures")
app.add_typer(audit, name="audit")
app.add_typer(sources.sources, name="sources")
app.add_typer(campaigns, name="campaigns")
app.add_typer(transactional, name="transactional")
app.add_typer(keys.keys, name="keys")
