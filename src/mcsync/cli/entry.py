"""From the shell to a command and back: streams of any kind, and no traceback for anybody."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import typer

_SERVICES = frozenset({"api", "worker"})
"""Their unexpected ends belong into their logs, with everything that is known of them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs ``mcsync`` with these arguments (default: those of the process), and ends the process.

    An unexpected failure is one sentence and exit code 1; with ``MCSYNC_LOG_LEVEL=DEBUG`` it is a traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    from mcsync.cli.app import app
    from mcsync.cli.console import Exit, Output, explained, first_line, traced

    out = Output("--json" in given)
    try:
        if not all(_is_text(argument) for argument in given):
            out.fail(
                Exit.USAGE, "An argument is not text in the terminal's encoding (UTF-8 is usual).",
                kind="usage",
            )  # fmt: skip
        explained(out, lambda: app(given, prog_name="mcsync"))
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except Exception as error:
        if traced() or (given and given[0] in _SERVICES):
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
    with contextlib.suppress(typer.Exit):
        out.fail(
            Exit.FAILED,
            f"Something unexpected happened. {what} Please report it, with the traceback that"
            " MCSYNC_LOG_LEVEL=DEBUG shows.",
            kind="unexpected",
        )
    sys.exit(Exit.FAILED)


def _is_text(argument: str) -> bool:
    """Bytes that are no text in the locale's encoding arrive as lone surrogates, which nothing can store."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def _open_streams() -> None:
    """Closed streams read and write nothing; what an old terminal cannot show is escaped."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
