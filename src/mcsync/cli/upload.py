"""Files that commands read piece by piece, and what was wrong with their rows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mcsync.cli.console import Exit, Output, make_table

_CHUNK = 256 * 1024
_TYPES = {".csv": "text/csv", ".ndjson": "application/x-ndjson", ".jsonl": "application/x-ndjson"}


TimeZoneOption = Annotated[
    str | None,
    typer.Option(
        help="IANA name of the zone of times of consent without an offset, such as Europe/Berlin."
        " Without it they count as the earliest moment they can be."
    ),
]


class Upload:
    """A file that was named on the command line; ``-`` is standard input. Ends the command if there is none."""

    def __init__(self, out: Output, file: Path) -> None:
        self._out = out
        self._file = None if str(file) == "-" else file
        if self._file is not None and not file.is_file():
            out.fail(Exit.USAGE, f"There is no file {file}.", kind="no_file")
        self.kind = _TYPES.get(file.suffix.lower(), "text/csv")

    @contextmanager
    def body(self) -> Iterator[AsyncIterator[bytes]]:
        """Its bytes, with a progress bar while they are read."""
        file = self._file
        with _progress(self._out) as progress:
            task = progress.add_task(
                "Reading" if file is None else file.name,
                total=None if file is None else file.stat().st_size,
            )
            yield _chunks(file, lambda read: progress.advance(task, read))


async def _chunks(file: Path | None, advance: Callable[[int], None]) -> AsyncIterator[bytes]:
    source = sys.stdin.buffer if file is None else file.open("rb")
    with source:
        while chunk := await asyncio.to_thread(source.read, _CHUNK):
            advance(len(chunk))
            yield chunk


def _progress(out: Output) -> Progress:
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
