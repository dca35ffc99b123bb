"""Contacts as CSV, read piece by piece.

A piece ends at a line end. Most pieces hold nothing but plain rows (no quote, no backslash, no control
character), which go the fast way; a piece with anything else goes row by row through
:class:`~mcsync.features.contacts.intake.rows.RowStager`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import ClassVar, Final

import orjson

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.columns import Columns
from mcsync.features.contacts.intake.header import (
    UNUSUAL,
    UNUSUAL_BUT_TAB,
    FirstLines,
    Header,
    Lines,
)
from mcsync.features.contacts.intake.json_rows import MAX_LINE, too_long_line
from mcsync.features.contacts.intake.rows import (
    CONSENT_FIELDS,
    MAX_TEXT,
    NULL,
    OPTIONAL_FIELDS,
    PROVIDED_BIT,
    TYPES,
    Row,
    RowStager,
)
from mcsync.features.contacts.intake.told import by_cells
from mcsync.features.contacts.intake.words import clearly_withdraws

# Of the whole process: no line is longer, so that a plain row never meets csv's own, shorter limit.
csv.field_size_limit(MAX_LINE + 1)

MAX_RECORD_LINES: Final = 1_000
"""A record of more lines than this has a quote that is never closed."""

_REQUIRED: Final = ("entityType", "entityId", "email")
_MYSQL_NULL: Final = "\\N"


class CsvIntake:
    """CSV (RFC 4180, with comma, semicolon, tab or ``|`` between the cells) in UTF-8, with a header."""

    kind = "csv"
    header_type: ClassVar[type[Header]] = Header

    def __init__(
        self, stager: RowStager, columns: Columns | None = None, *, charset: str = "utf-8"
    ) -> None:
        """``charset``: the encoding that the file had before it became UTF-8."""
        self._stager = stager
        self._columns = columns or Columns()
        self._charset = charset
        self._tail = b""
        self._held: list[str] = []
        self._line = 1
        self._header: Header | None = None
        self._separator = ","
        self._unusual = UNUSUAL
        self._null: re.Pattern[str] | None = None
        self._plain: Callable[[list[str]], str] | None = None
        self.received = 0

    @property
    def fields(self) -> frozenset[str]:
        provided = self._header.provided if self._header else 0
        return frozenset(field for field, bit in PROVIDED_BIT.items() if provided & bit)

    @property
    def masked(self) -> bool:
        return self._stager.partial

    @property
    def consent(self) -> bool:
        header = self._header
        return header is not None and ("optStatus" in header.places or header.opts_out)

    def feed(self, data: bytes) -> bytes:
        data = self._tail + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > MAX_LINE:
            end = data.rfind(b"\r", 0, len(data) - 1) + 1  # line ends of old Macs
        self._tail = data[end:]
        if len(self._tail) > MAX_LINE:
            raise too_long_line(self._line + data.count(b"\n"))
        return self._take(data[:end]) if end else b""

    def finish(self) -> bytes:
        last, self._tail = self._tail, b""
        out = [self._take(last, whole=True)] if last else []
        while self._held:  # the file ends inside quotes: give up that line, read the others again
            out.append(self._unclosed().encode())
        if self._header is None:
            raise BadRequestError("The file is empty; its first line must name the columns.",
                                  code="missing_columns")  # fmt: skip
        return b"".join(out)

    def _take(self, block: bytes, *, whole: bool = False) -> bytes:
        """COPY lines of whole lines; ``whole``: the file ends here."""
        try:
            text = block.decode()
        except UnicodeDecodeError:
            text = block.decode(errors="surrogateescape")
        lines = io.StringIO(text, newline="").readlines()
        if self._header is None:
            lines = self._read_header(lines, whole=whole)
        if self._header is None:  # the names of the columns go on in the next piece
            self._tail = block + self._tail
            return b""
        if _MYSQL_NULL in text and '"' not in text and not self._held and self._null is not None:
            lines = [self._null.sub("", line) for line in lines]
            text = "".join(lines)
        if self._held or not self._header.plain or self._unusual.search(text):
            self._held += lines
            return self._careful().encode(errors="surrogateescape")
        return self._fast(lines).encode()

    def _read_header(self, lines: list[str], *, whole: bool) -> list[str]:
        known = {*self.header_type.standard, *self._columns.targets}
        first = FirstLines(lines, known, line=self._line, charset=self._charset, whole=whole)
        if first.names is None:
            return lines
        self._separator = first.separator
        self.name_columns(first.names)
        self._line += first.taken
        return lines[first.taken :]

    def name_columns(self, names: list[str]) -> None:
        """Says which columns the rows have. Raises BadRequestError."""
        self._header = self.header_type(names, self._columns)
        separator = re.escape(self._separator)
        if self._separator == "\t":
            self._unusual = UNUSUAL_BUT_TAB
        self._null = re.compile(rf"(?:^|(?<={separator})) *\\N *(?=[{separator}\r\n]|$)")

    def take_row(self, line: int, row: list[str]) -> str:
        """The COPY lines of one row, whose cells are known already, of a sheet for instance."""
        return self._row(line, self._completed(row))

    def _completed(self, row: list[str]) -> list[str]:
        """A row with the caller's constants; MySQL writes ``\\N`` where a cell is null."""
        assert self._header is not None
        if _MYSQL_NULL in map(str.strip, row):
            row = ["" if cell.strip() == _MYSQL_NULL else cell for cell in row]
        return self._header.complete(row) if self._header.constants else row

    def _records(self, lines: list[str]) -> Iterator[list[str]]:
        """The rows of plain lines."""
        assert self._header is not None
        rows: Iterator[list[str]] = csv.reader(lines, delimiter=self._separator)
        return map(self._header.complete, rows) if self._header.constants else rows

    # ---- the fast way

    def _fast(self, lines: list[str]) -> str:
        if self._plain is None:
            assert self._header is not None
            self._plain = self._compile(self._header)
        return self._plain(lines)

    def _compile(self, header: Header) -> Callable[[list[str]], str]:
        """The loop over plain rows, with everything that does not change from row to row bound."""
        places, width = header.places, header.width
        records = self._records
        at_type, at_id, at_email = (places[field] for field in _REQUIRED)
        pick = itemgetter(*(places.get(field, width) for field in OPTIONAL_FIELDS))
        attributes_of = _attributes_reader(header)
        consent_of = _consent_reader(header, self._stager)
        addresses = self._stager.addresses
        usable, hashes, type_of, provided = (
            addresses.usable,
            addresses.hashes,
            TYPES.get,
            header.provided,
        )
        entity_key = addresses.entity_key if self._stager.entity_keys else None
        careful = self._row

        def stage(lines: list[str]) -> str:
            out = []
            first, plain = self._line, 0
            for line, row in enumerate(records(lines), first):
                cells = [cell.strip() for cell in row]
                if len(cells) > width and not any(cells[width:]):
                    del cells[width:]
                if (
                    len(cells) != width
                    or (kind := type_of(cells[at_type])) is None
                    or not (entity := cells[at_id])
                    or (email := usable(cells[at_email])) is None
                    or (consent := consent_of(cells)) is None
                    or (len(lines[line - first]) > MAX_TEXT and max(map(len, cells)) > MAX_TEXT)
                ):
                    out.append(careful(line, row))
                    continue
                plain += 1
                attributes = attributes_of(cells)
                digest, key = hashes(email)
                whole = entity_key(kind, entity) if entity_key is not None else NULL
                cells.append("")  # what the fields that have no column are read from
                texts = "\t".join([cell or NULL for cell in pick(cells)])
                out.append(
                    f"{line}\t\\N\t\\N\t{provided}\t{kind}\t{entity}\t{email}\t{digest}\t{key}\t{whole}"
                    f"\t{texts}\t{attributes}\t{consent}\n"
                )
            self.received += plain
            self._line += len(lines)
            return "".join(out)

        return stage

    # ---- the careful way

    def _careful(self) -> str:
        """Reads the records that are whole; keeps the lines of one that is not, for the next piece."""
        out: list[str] = []
        source = Lines(self._held)
        reader = csv.reader(source, delimiter=self._separator)
        done = 0
        while True:
            try:
                row = next(reader, None)
            except csv.Error:  # a field beyond csv's own limit
                row = []
                source.dry = True
            if source.dry:
                break
            out.append(self.take_row(self._line + done, row or []))
            done = source.taken
        self._held = self._held[done:]
        self._line += done
        if len(self._held) > MAX_RECORD_LINES:
            out.append(self._unclosed())
        return "".join(out)

    def _unclosed(self) -> str:
        """Refuses the first line held, whose quote is never closed, and reads on behind it."""
        self.received += 1
        pieces = [piece.strip(' \t\r\n"') for piece in self._held[0].split(self._separator)]
        refusal = self._misread(self._line, "unclosed_quote", pieces)
        del self._held[0]
        self._line += 1
        return refusal + self._careful()

    def _row(self, line: int, row: list[str]) -> str:
        header = self._header
        assert header is not None
        if not any(map(str.strip, row)):
            return ""
        self.received += 1
        cells = _fitted(row, header.width)
        if cells is None or (len(row) < header.width and self._looks_shifted(cells)):
            return self._misread(line, _wrong_width(row), row)
        values = {field: cells[place] for field, place in header.places.items()}
        attributes = {name: cells[place] for name, place in header.attributes.items()}
        return self._stager.stage(Row(line, values, attributes, header.provided))

    def _misread(self, line: int, code: str, cells: Sequence[str]) -> str:
        """Refuses a row whose cells do not stand under their names; a withdrawal in it counts."""
        header = self._header
        assert header is not None
        withdrawal = by_cells(cells, header.places, TYPES, self._stager.addresses)
        return self._stager.refuse(line, [("", code)], withdrawal)

    def _looks_shifted(self, cells: Sequence[str]) -> bool:
        """Whether a row that is too short says elsewhere what its ``optStatus`` does not say."""
        assert self._header is not None
        at = self._header.places.get("optStatus")
        if at is None or self._stager.status_of(cells[at].strip()) is not None:
            return False
        return any(map(clearly_withdraws, cells))


def _fitted(row: list[str], width: int) -> list[str] | None:
    """The row with the header's width, where only empty cells are missing or left over; else ``None``."""
    if len(row) < width:
        return row + [""] * (width - len(row))
    return None if any(map(str.strip, row[width:])) else row[:width]


_NO_CONSENT: Final = "\t".join([NULL] * len(CONSENT_FIELDS))


def _attributes_reader(header: Header) -> Callable[[list[str]], str]:
    """Reads the attributes of a plain row as JSON. Plain values need no escapes."""
    if not header.attributes:
        return lambda _: "{}"
    names = tuple(header.attributes)
    places = tuple(header.attributes.values())
    get = itemgetter(*places) if len(places) > 1 else None
    only = places[0]

    def read(cells: list[str]) -> str:
        values = get(cells) if get is not None else (cells[only],)
        texts = [value or None for value in values]
        return orjson.dumps(dict(zip(names, texts, strict=True))).decode()

    return read


def _consent_reader(header: Header, stager: RowStager) -> Callable[[list[str]], str | None]:
    """Reads a plain row's consent as COPY cells; ``None`` where the careful way must decide."""
    if "optStatus" not in header.places:
        return lambda _: _NO_CONSENT
    status_at, source_at, given_at = (header.places.get(field) for field in CONSENT_FIELDS)
    assert status_at is not None
    status_of, moment = stager.status_of, stager.moment

    def read(cells: list[str]) -> str | None:
        given_status = cells[status_at]
        if not given_status:
            return _NO_CONSENT
        status = status_of(given_status)
        if status is None:
            return None
        source = (cells[source_at] or NULL) if source_at is not None else NULL
        given: str | None = NULL
        if given_at is not None and cells[given_at]:
            given = moment(cells[given_at])
        return None if given is None else f"{status}\t{source}\t{given}"

    return read


def _wrong_width(row: list[str]) -> str:
    for cell in islice(row, 1_000):
        if "\0" in cell:
            return "nul_character"
    return "wrong_column_count"
