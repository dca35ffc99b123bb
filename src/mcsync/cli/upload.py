"""Files that commands read piece by piece, and what was wrong with their rows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.console import Exit, Output
from mcsync.cli.tables import make_table

if TYPE_CHECKING:
    from rich.progress import Progress

    from mcsync.features.contacts.intake.columns import Choice

_CHUNK = 256 * 1024
_NDJSON = "application/x-ndjson"
_START = 256

FileArgument = Annotated[
    Path,
    typer.Argument(help="CSV, NDJSON or an Excel workbook (.xlsx); - reads standard input."),
]
CharsetOption = Annotated[
    str | None,
    typer.Option(
        help="The file's encoding, such as windows-1252, unless it is UTF-8 or has a byte order mark."
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME:FIELD",
        help="The column NAME is FIELD (or attributes.OTHER); NAME: leaves it out. May be repeated.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD:VALUE",
        help="A field that the file lacks and that is the same in every row. May be repeated.",
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="The columns to take as attributes, instead of all."),
]


def choice_of(mapped: list[str] | None, constants: list[str] | None, columns: str | None) -> Choice:
    """What the options say about the columns."""
    from mcsync.features.contacts.intake.columns import Choice

    return Choice(mapped or (), constants or (), None if columns is None else [columns])


TimeZoneOption = Annotated[
    str | None,
    typer.Option(
        help="IANA name of the zone of times of consent without an offset, such as Europe/Berlin."
        " Without it they count as the earliest moment they can be."
    ),
]


class Upload:
    """A file that was named on the command line; ``-`` is standard input. Ends the command if there is none."""

    def __init__(self, out: Output, file: Path, charset: str | None = None) -> None:
        self._out = out
        self._file = None if str(file) == "-" else file
        if self._file is not None and not file.is_file():
            out.fail(Exit.USAGE, f"There is no file {file}.", kind="no_file")
        self._start = b""
        if self._file is None:
            self._start = start = sys.stdin.buffer.read(_START)
        else:
            with file.open("rb") as opened:
                start = opened.read(_START)
        kind = _kind(file.suffix.lower(), start)
        self.kind = kind if charset is None else f"{kind}; charset={charset}"

    @contextmanager
    def body(self) -> Iterator[AsyncIterator[bytes]]:
        """Its bytes, with a progress bar while they are read."""
        file = self._file
        with _progress(self._out) as progress:
            task = progress.add_task(
                "Reading" if file is None else file.name,
                total=None if file is None else file.stat().st_size,
            )
            yield _chunks(file, self._start, lambda read: progress.advance(task, read))


def _kind(suffix: str, start: bytes) -> str:
    """JSON begins with a brace, which no header does. A workbook is recognised by its reader."""
    if suffix in {".xlsx", ".xlsm"}:
        from mcsync.features.contacts.files import XLSX

        return XLSX
    if suffix in {".ndjson", ".jsonl"}:
        return _NDJSON
    text = start.translate(None, b"\0").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return _NDJSON if text.startswith(b"{") else "text/csv"


async def _chunks(
    file: Path | None, start: bytes, advance: Callable[[int], None]
) -> AsyncIterator[bytes]:
    if start:
        advance(len(start))
        yield start
    source = sys.stdin.buffer if file is None else file.open("rb")
    with source:
        while chunk := await asyncio.to_thread(source.read, _CHUNK):
            advance(len(chunk))
            yield chunk


def _progress(out: Output) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=out.errors,
        disable=out.json or not out.errors.is_terminal,
        transient=True,
    )


def show_rejections(console: Console, result: dict[str, Any], *, shown: int = 20) -> None:
    """The rows that an import reports, for people."""
    found = result["rejections"]
    if found:
        rows = [
            [
                str(r["line"]),
                "yes" if r["taken"] else "no",
                r["field"] or "-",
                r["code"],
                r["message"],
            ]
            for r in found[:shown]
        ]
        console.print(make_table(("line", "row taken", "field", "code", "what is wrong"), rows))
    if len(found) > shown:
        console.print(f"... and more; all of them: GET {result['report']}")
