"""The tree of commands: names and summaries. A command's module is imported when the command is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperGroup

import mcsync

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

EPILOG = """\
Exit codes: 0 done, 1 unexpected failure, 2 wrong usage, 3 not configured, 4 refused (not found,
conflict), 5 unavailable (try again), 6 done but something needs attention, 130 interrupted.
Settings are MCSYNC_* variables; NO_COLOR turns colours off.
"""

_TREE: Final = {
    "api": ("processes:api", "Run the API."),
    "worker": ("processes:worker", "Run a worker: syncs, orders, cron jobs."),
    "migrate": ("processes:migrate", "Bring the database to the newest revision."),
    "backup": ("backup:backup", "Write a complete backup of the database."),
    "restore": ("backup:restore", "Restore a backup into an empty database."),
    "openapi": ("processes:openapi", "Print the API's OpenAPI document."),
    "sandbox": ("processes:sandbox", "Run the Mailchimp emulator."),
    "dev": ("dev:dev", "Run the whole stack here until Ctrl-C."),
    "demo": ("demo:demo", "Sync the example contacts into a sandbox, and show what happened."),
    "doctor": ("doctor:doctor", "Check everything that mcsync needs."),
    "probe": ("probe:probe", "Ask the connected Mailchimp account how it behaves."),
    "org": ("platform:org", "Organisations (tenants)."),
    "token": ("platform:token", "Service tokens of an organisation."),
    "contacts": ("contacts:contacts", "The organisation's employees and vendors."),
    "preferences": ("preferences:preferences", "Consent: who opted in or out, with its proof."),
    "segments": ("segments:segments", "Segments: who is kept in which audience."),
    "runs": ("segments:runs", "Runs: the syncs of segments."),
    "webhooks": ("webhooks:webhooks", "Webhooks: how Mailchimp reports to mcsync."),
    "erasures": ("erasures:erasures", "Erasures: requests to be forgotten."),
    "audit": ("audit:audit", "What was done, by whom, and the proof of it."),
    "sources": ("sources:sources", "Sources: contacts from the organisation's own databases."),
    "campaigns": ("campaigns:campaigns", "Campaigns that are followed: opens and clicks."),
    "transactional": ("transactional:transactional", "Transactional mail, one message at a time."),
    "keys": ("keys:keys", "Master keys that seal the stored secrets."),
}
"""Name: where its function or group is, in ``mcsync.cli``, and what the list of commands says of it."""


class _Commands(MutableMapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._made:
            self._made[name] = _make(name, _TREE[name][0])
        return self._made[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _TREE

    def __iter__(self) -> Iterator[str]:
        return iter(_TREE)

    def __len__(self) -> int:
        return len(_TREE)


def _make(name: str, place: str) -> Command:
    module, attribute = place.split(":")
    found = getattr(importlib.import_module(f"mcsync.cli.{module}"), attribute)
    holder = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
        return typer.main.get_group(holder).commands[name]
    holder.command(name)(found)
    return typer.main.get_command(holder)


class Tree(TyperGroup):
    """Lists and completes the commands without importing one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _TREE.items()])

    def shell_complete(self, ctx: Context, incomplete: str) -> list[Any]:
        """The commands and options that begin so."""
        from typer._click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=summary)
            for name, (_, summary) in _TREE.items()
            if name.startswith(incomplete)
        ]
        return found + super(TyperGroup, self).shell_complete(ctx, incomplete)


app = typer.Typer(
    name="mcsync",
    cls=Tree,
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
