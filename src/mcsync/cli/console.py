"""How commands speak: to people on a terminal, in JSON to everything else; and how they fail."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from rich.console import Console

from mcsync.cli.tables import make_table

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

    from mcsync.core.resources import Resources
    from mcsync.core.settings import Settings

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


INTERRUPTED = 130
"""Ended by Ctrl-C, as shells have it: 128 and the number of the signal."""

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
        # rich leaves colours out by itself when NO_COLOR is set or this is no terminal. What is printed
        # is mostly data, in which brackets and colons are only characters.
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

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
        self.errors.print(message)

    def fail(self, code: Exit, message: str, *, kind: str = "failed") -> NoReturn:
        """Says why and ends the command with ``code``."""
        if self.json:
            sys.stderr.write(orjson.dumps({"error": {"code": kind, "message": message}}).decode())
            sys.stderr.write("\n")
        else:
            self.errors.print("Error:", style="bold red", end=" ")
            self.errors.print(message)
        raise typer.Exit(code)


def print_json(data: Any) -> None:
    """One JSON document on standard output: indented for eyes, one line for pipes; always in UTF-8."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    print_text(orjson.dumps(data, default=str, option=options).decode() + "\n")


def print_text(text: str) -> None:
    """A document on standard output, in UTF-8 whatever the locale says."""
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(text)
    else:
        binary.write(text.encode())
    sys.stdout.flush()


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
    try:
        meant = typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or the end of the input
        raise typer.Exit(INTERRUPTED) from None
    if not meant:
        raise typer.Exit(Exit.REFUSED)


def settings() -> Settings:
    """The settings of the environment. Raises ``SettingsError`` where some cannot be read."""
    from mcsync.core.environment import read_settings

    return read_settings().sound()


def run(
    out: Output,
    work: Callable[[Resources], Awaitable[T]],
    *,
    interrupted: Callable[[], str] = str,
) -> T:
    """Builds the resources, does the work and closes them; turns errors into exit codes.

    ``interrupted`` gives the sentence that Ctrl-C is answered with, if there is anything to say.
    """

    async def whole() -> T:
        from mcsync.core.environment import read_settings
        from mcsync.core.resources import PATIENCE_SECONDS, Resources

        configuration = read_settings().complete()
        quiet_logs(configuration)
        resources = await Resources.build(configuration, patience=PATIENCE_SECONDS)
        try:
            return await work(resources)
        finally:
            await resources.close()

    try:
        return explained(out, lambda: asyncio.run(whole()))
    except typer.Exit as ended:
        if ended.exit_code == INTERRUPTED and (message := interrupted()):
            out.warn(message)
        raise


def quiet_logs(configuration: Settings) -> None:
    """Commands speak for themselves: only warnings of the libraries are logged."""
    from mcsync.core.logging import configure_logging

    level = "WARNING" if configuration.log_level == "INFO" else configuration.log_level
    configure_logging(configuration.model_copy(update={"log_level": level}))


def explained(out: Output, work: Callable[[], T]) -> T:
    """Does the work; every expected error becomes one sentence and an exit code."""
    try:
        return work()
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        _explain(out, error)
        raise


def _explain(out: Output, error: Exception) -> None:
    """Ends the command where the error is one that is expected; returns for all others."""
    from mcsync.core.errors import McsyncError, UnavailableError, UpstreamTimeoutError
    from mcsync.core.settings import SettingsError
    from mcsync.embedded.host import EmbeddedError
    from mcsync.mailchimp.errors import (
        MailchimpError,
        MailchimpTimeout,
        ThrottledError,
        TransientError,
        UnsafeConnectionError,
    )

    if isinstance(error, SettingsError | EmbeddedError):
        out.fail(Exit.NOT_CONFIGURED, str(error), kind="not_configured")
    if isinstance(error, UnavailableError | UpstreamTimeoutError):
        out.fail(Exit.UNAVAILABLE, error.detail, kind=error.code)
    if isinstance(error, McsyncError):
        details = [error.detail, *(f"{e.pointer}: {e.message}" for e in error.errors)]
        out.fail(Exit.REFUSED, "\n".join(details), kind=error.code)
    if isinstance(error, UnsafeConnectionError):  # a whole sentence, perhaps about the proxy
        out.fail(Exit.UNAVAILABLE, error.title, kind="mailchimp_unavailable")
    if isinstance(error, MailchimpTimeout | ThrottledError | TransientError):
        out.fail(Exit.UNAVAILABLE, f"Mailchimp: {error}", kind="mailchimp_unavailable")
    if isinstance(error, MailchimpError):
        out.fail(Exit.REFUSED, f"Mailchimp: {error}", kind="mailchimp_refused")
    _explain_machine(out, error)


def _explain_machine(out: Output, error: Exception) -> None:
    """As :func:`_explain`, for files, networks, PostgreSQL and Redis."""
    from redis.exceptions import RedisError
    from sqlalchemy.exc import DBAPIError

    from mcsync.certificates import tls_problem
    from mcsync.core.db.troubles import tls_words

    if isinstance(error, BrokenPipeError) or traced():
        return
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
        file = os.fsdecode(error.filename)
        out.fail(Exit.USAGE, f"{file}: {error.strerror}.", kind="no_file")
    insecure = tls_words(error) or tls_problem(
        error, of="A server", authority="its URL (docs/databases.md)"
    )
    if insecure is not None:
        out.fail(Exit.UNAVAILABLE, f"{insecure} `mcsync doctor` may know more.", kind="unavailable")
    if isinstance(error, DBAPIError):
        _explain_database(out, error)
    if isinstance(error, OSError | RedisError | DBAPIError):
        out.fail(
            Exit.UNAVAILABLE,
            f"{type(error).__name__}: {first_line(error)} `mcsync doctor` may know more.",
            kind="unavailable",
        )


def traced() -> bool:
    """Whether the operator asked for tracebacks."""
    return os.environ.get("MCSYNC_LOG_LEVEL", "").strip().upper() == "DEBUG"


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
