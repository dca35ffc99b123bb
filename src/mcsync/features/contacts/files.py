"""A file as it arrives: what it is, in which encoding, and its rows as lines for COPY."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import IO, Final

from mcsync.core.errors import BadRequestError, TooLargeError, UnsupportedMediaError
from mcsync.features.contacts.intake import CsvIntake, Intake, NdjsonIntake
from mcsync.features.contacts.intake.columns import Columns
from mcsync.features.contacts.intake.decoding import Decoder, encoding_of, parameter
from mcsync.features.contacts.intake.rows import RowStager
from mcsync.features.contacts.intake.sheet import SheetIntake
from mcsync.features.contacts.intake.xlsx import MAX_BYTES, SheetRows

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_CSV: Final = frozenset({"text/csv", "application/vnd.ms-excel"})
"""Browsers on Windows call CSV so where Excel is installed."""
_NDJSON: Final = frozenset({"application/x-ndjson", "application/jsonl"})
_UNKNOWN: Final = "application/octet-stream"

_ENOUGH: Final = 256
"""So many bytes tell what a file is."""
_OTHERS: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls), or a workbook with a password"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "compressed (bzip2)"),
    (b"\xfd7zXZ", "compressed (xz)"),
    (b"(\xb5/\xfd", "compressed (zstd)"),
    (b"7z\xbc\xaf", "an archive (7z)"),
    (b"Rar!", "an archive (rar)"),
    (b"{\\rtf", "a text document (.rtf)"),
)
_MARKUP: Final = (b"<!doctype", b"<html", b"<table", b"<?xml")

_PIECE: Final = 1 << 16
_STALLED_SECONDS: Final = 60.0
"""An upload holds a transaction open; one that stands still for so long is given up."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """What reads each kind of text; a workbook is read by that of CSV."""

    csv: type[CsvIntake]
    ndjson: type[NdjsonIntake]


CONTACTS: Final = Kinds(CsvIntake, NdjsonIntake)


class GivenFile:
    """A file whose kind and encoding are known; its bytes are still to come."""

    def __init__(self, kind: str, body: AsyncIterator[bytes], codec: str) -> None:
        """``kind``: csv, ndjson or xlsx."""
        self.kind = kind
        self._body = body
        self._codec = codec

    def intake(self, kinds: Kinds, stager: RowStager, columns: Columns) -> Intake:
        """What turns its bytes into lines for COPY."""
        if self.kind == "xlsx":
            return SheetIntake(kinds.csv(stager, columns))
        kind = kinds.ndjson if self.kind == "ndjson" else kinds.csv
        return kind(stager, columns, charset=self._codec)

    def lines(self, intake: Intake) -> AsyncIterator[bytes]:
        """The lines for COPY, in memory that does not grow with the file. Raises BadRequestError."""
        if isinstance(intake, SheetIntake):
            return _sheet_lines(intake, self._body)
        plain = self._codec == "utf-8"
        return pieces(intake, self._body if plain else _decoded(self._body, Decoder(self._codec)))


async def opened(body: AsyncIterator[bytes], content_type: str) -> GivenFile:
    """Looks at a file's first bytes and its content type. What it is decides its bytes, if they tell.

    Raises UnsupportedMediaError (``unreadable_file``, ``unknown_charset`` and others) and BadRequestError
    (``unreadable_spreadsheet``).
    """
    named = content_type.partition(";")[0].strip().lower()
    if named not in {*_CSV, *_NDJSON, XLSX, _UNKNOWN}:
        _refuse_type()
    source = _unstalled(body)
    start = b""
    while len(start) < _ENOUGH and (chunk := await anext(source, None)) is not None:
        start += chunk
    whole = _joined(start, source)
    if start.startswith(b"PK"):
        return GivenFile("xlsx", whole, "utf-8")
    _refuse_others(start)
    if named == XLSX:
        raise BadRequestError(
            "The body is not a workbook (.xlsx), as its content type says. Send the file itself as the body.",
            code="unreadable_spreadsheet",
        )
    if named == _UNKNOWN:
        _refuse_type()
    codec = encoding_of(start, parameter(content_type, "charset"))
    return GivenFile("ndjson" if named in _NDJSON else "csv", whole, codec)


def _refuse_type() -> None:
    raise UnsupportedMediaError(
        f"Send the file itself as the body, as text/csv, application/x-ndjson or {XLSX}."
    )


def _refuse_others(start: bytes) -> None:
    """Refuses files that are no text, or markup instead of rows."""
    kind = next((name for magic, name in _OTHERS if start.startswith(magic)), None)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_MARKUP):
        kind = "HTML or XML"
    if kind is not None:
        raise UnsupportedMediaError(
            f"The file is {kind}, which is not read. Save it as .xlsx, or as CSV in UTF-8.",
            code="unreadable_file",
        )


async def pieces(intake: Intake, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """COPY lines of a body, 64 KiB at a time, so that other requests get their turn."""
    async for chunk in body:
        for start in range(0, len(chunk), _PIECE):
            lines = intake.feed(chunk[start : start + _PIECE])
            if lines:
                yield lines
            await asyncio.sleep(0)
    last = intake.finish()
    if last:
        yield last


async def _unstalled(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises BadRequestError (``upload_stalled``)."""
    source = aiter(body)
    while True:
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                chunk = await anext(source, None)
        except TimeoutError as error:
            raise BadRequestError(
                f"The upload stood still for {_STALLED_SECONDS:.0f} seconds and was given up.",
                code="upload_stalled",
            ) from error
        if chunk is None:
            return
        yield chunk


async def _joined(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if start:
        yield start
    async for chunk in rest:
        yield chunk


async def _decoded(body: AsyncIterator[bytes], decoder: Decoder) -> AsyncIterator[bytes]:
    """The body in UTF-8."""
    async for chunk in body:
        for start in range(0, len(chunk), _PIECE):
            if piece := decoder.feed(chunk[start : start + _PIECE]):
                yield piece
    if piece := decoder.feed(b"", last=True):
        yield piece


async def _sheet_lines(intake: SheetIntake, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """COPY lines of a workbook, which is kept in a temporary file; a thread reads it."""
    with tempfile.TemporaryFile() as file:
        await _kept(file, body)
        sheet = await asyncio.to_thread(SheetRows, file)
        try:
            lines = intake.lines(sheet)
            while (batch := await asyncio.to_thread(_next, lines)) is not None:
                yield batch
        finally:
            sheet.close()


def _next(lines: Iterator[bytes]) -> bytes | None:
    return next(lines, None)


async def _kept(file: IO[bytes], body: AsyncIterator[bytes]) -> None:
    """Writes the body to a file. Raises TooLargeError (``spreadsheet_too_large``)."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > MAX_BYTES:
            raise TooLargeError(
                f"A workbook may have {MAX_BYTES >> 20} MiB. Save the sheet as CSV in UTF-8.",
                code="spreadsheet_too_large",
            )
        await asyncio.to_thread(file.write, chunk)
