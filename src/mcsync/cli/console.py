"""How commands speak: to people on a terminal, in JSON to everything else; and how they fail."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from mcsync.core.errors import McsyncError, UnavailableError, UpstreamTimeoutError
from mcsync.core.logging import configure_logging
from mcsync.core.resources import PATIENCE_SECONDS, Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.embedded import EmbeddedError
from mcsync.mailchimp import MailchimpError, MailchimpTimeout, ThrottledError, TransientError

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

T = TypeVar("T")


class Exit(IntEnum):
    """What the exit codes mean; ``mcsync --help`` shows this list."""

    OK = 0
    FAILED = 1
    """Something went wrong that mcsync did not expect."""
    USAGE = 2
    """The command line is not right."""
    NOT_CONFIGURED = 3
    """A setting or an installed part is missing."""
    REFUSED = 4
    """Understood, but not possible as asked: not found, a conflict, refused by Mailchimp."""
    UNAVAILABLE = 5
    """PostgreSQL, Redis or Mailchimp cannot be reached: try again."""
    ATTENTION = 6
    """Done, and something needs attention: a check failed, rows were rejected, a run did not succeed."""


AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON (the default when not on a terminal).")
]
ServiceRole = Annotated[
    str | None,
    typer.Option(
        help="A login role that the service uses: is made with the password in"
        " MCSYNC_SERVICE_PASSWORD if it does not exist, and put into the group mcsync_app."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]
OrgOption = Annotated[
    str | None,
    typer.Option(
        "--org",
        envvar="MCSYNC_ORG",
        help="Name or id of the organisation; not needed while there is only one.",
    ),
]


class Output:
    """Where a command's result goes. Progress and errors go to standard error."""

    def __init__(self, as_json: bool = False) -> None:
        self.json = as_json or not sys.stdout.isatty()
        # rich leaves colours out by itself when NO_COLOR is set or this is no terminal.
        self.console = Console(highlight=False)
        self.errors = Console(stderr=True, highlight=False)

    def result(self, data: Any, human: Callable[[Console], None]) -> None:
        """Prints the result once: as JSON, or by ``human``."""
        if self.json:
            print_json(data)
        else:
            human(self.console)

    def table(
        self,
        data: Sequence[dict[str, Any]],
        columns: dict[str, str],
        *,
        empty: str,
        title: str = "",
    ) -> None:
        """A list: JSON as it is, or a table of ``columns`` (key -> heading)."""

        def human(console: Console) -> None:
            if not data:
                console.print(empty)
                return
            console.print(make_table(columns.values(), title=title, rows=(
                [_cell(row.get(key)) for key in columns] for row in data
            )))  # fmt: skip

        self.result(list(data), human)

    def note(self, message: str) -> None:
        """Something on the way, for people only."""
        if not self.json:
            self.errors.print(message)

    def warn(self, message: str) -> None:
        """Something that needs attention, on standard error whatever the form of the result."""
        self.errors.print(message, markup=False)

    def fail(self, code: Exit, message: str, *, kind: str = "failed") -> NoReturn:
        """Says why and ends the command with ``code``."""
        if self.json:
            sys.stderr.write(orjson.dumps({"error": {"code": kind, "message": message}}).decode())
            sys.stderr.write("\n")
        else:
            self.errors.print("Error:", style="bold red", end=" ")
            self.errors.print(message, markup=False)
        raise typer.Exit(code)


def print_json(data: Any) -> None:
    """One JSON document on standard output: indented for eyes, one line for pipes."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.write(orjson.dumps(data, default=str, option=options).decode() + "\n")
    sys.stdout.flush()


def make_table(headings: Iterable[str], rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """A plain table; cells are text, not markup."""
    from rich.markup import escape

    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def confirm(out: Output, question: str, *, yes: bool) -> None:
    """Asks before something that cannot be undone; without a terminal ``--yes`` is needed."""
    if yes:
        return
    if out.json or not sys.stdin.isatty():
        out.fail(Exit.USAGE, f"{question} Say --yes to go ahead.", kind="confirmation_needed")
    if not typer.confirm(question):
        raise typer.Exit(Exit.REFUSED)


def settings() -> Settings:
    """The settings of the environment. Raises ``SettingsError`` where they make no sense."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError as UnreadableError

    try:
        return Settings()
    except UnreadableError as error:  # the one setting that is JSON
        lost = (
            'MCSYNC_MASTER_KEYS is not JSON such as {"k1":"..."}: make it with'
            " `mcsync keys generate`, and put it in single quotes in a file."
        )
        raise SettingsError([lost]) from error
    except ValidationError as error:
        wrong = [
            f"MCSYNC_{'_'.join(str(p) for p in item['loc']).upper()}: {item['msg']}".replace(
                "MCSYNC_: ", ""
            )
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(wrong) from error


def run(out: Output, work: Callable[[Resources], Awaitable[T]]) -> T:
    """Builds the resources, does the work and closes them; turns errors into exit codes."""

    async def whole() -> T:
        configuration = settings()
        quiet_logs(configuration)
        resources = await Resources.build(configuration, patience=PATIENCE_SECONDS)
        try:
            return await work(resources)
        finally:
            await resources.close()

    return explained(out, lambda: asyncio.run(whole()))


def quiet_logs(configuration: Settings) -> None:
    """Commands speak for themselves: only warnings of the libraries are logged."""
    level = "WARNING" if configuration.log_level == "INFO" else configuration.log_level
    configure_logging(configuration.model_copy(update={"log_level": level}))


def explained(out: Output, work: Callable[[], T]) -> T:
    """Does the work; every expected error becomes one sentence and an exit code."""
    from redis.exceptions import RedisError
    from sqlalchemy.exc import DBAPIError

    try:
        return work()
    except (SettingsError, EmbeddedError) as error:
        out.fail(Exit.NOT_CONFIGURED, str(error), kind="not_configured")
    except (UnavailableError, UpstreamTimeoutError) as error:
        out.fail(Exit.UNAVAILABLE, error.detail, kind=error.code)
    except McsyncError as error:
        details = [error.detail, *(f"{e.pointer}: {e.message}" for e in error.errors)]
        out.fail(Exit.REFUSED, "\n".join(details), kind=error.code)
    except (MailchimpTimeout, ThrottledError, TransientError) as error:
        out.fail(Exit.UNAVAILABLE, f"Mailchimp: {error}", kind="mailchimp_unavailable")
    except MailchimpError as error:
        out.fail(Exit.REFUSED, f"Mailchimp: {error}", kind="mailchimp_refused")
    except (OSError, RedisError, DBAPIError) as error:
        if os.environ.get("MCSYNC_LOG_LEVEL", "").upper() == "DEBUG":
            raise
        if isinstance(error, DBAPIError):
            _explain_database(out, error)
        out.fail(
            Exit.UNAVAILABLE,
            f"{type(error).__name__}: {first_line(error)} `mcsync doctor` may know more.",
            kind="unavailable",
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


# SQLSTATEs of a wrong set-up: authorisation, no such database; then tables or columns that are not there.
_NOT_LET_IN = ("28", "3D", "42501")
_NOT_MIGRATED = ("3F", "42P01", "42703", "42883")


def _explain_database(out: Output, error: DBAPIError) -> None:
    """Ends the command where PostgreSQL's answer is the operator's to mend; raises what nobody expected."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith((*_NOT_LET_IN, *_NOT_MIGRATED)):
        advice = (
            "Is the database migrated? `mcsync migrate` does it."
            if state.startswith(_NOT_MIGRATED)
            else "`mcsync doctor` may know more."
        )
        out.fail(
            Exit.NOT_CONFIGURED, f"PostgreSQL says: {first_line(error)} {advice}",
            kind="not_configured",
        )  # fmt: skip
    if not (isinstance(error, InterfaceError | OperationalError) or error.connection_invalidated):
        raise error


def first_line(error: Exception) -> str:
    """What an error says, in one sentence without secrets; of PostgreSQL its own words."""
    from mcsync.core.logging import redact

    lines = redact(str(getattr(error, "orig", None) or error)).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else ""
