"""Contacts as CSV, read piece by piece.

A piece ends at a line end. Most pieces hold nothing but plain rows (no quote, no backslash, no control
character), which go the fast way; a piece with anything else goes row by row through
:class:`~mcsync.features.contacts.intake.rows.RowStager`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import ClassVar, Final

import orjson

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.json_rows import MAX_LINE, too_long_line
from mcsync.features.contacts.intake.rows import (
    CONSENT_FIELDS,
    MAX_ATTRIBUTE_NAME,
    MAX_ATTRIBUTES,
    MAX_TEXT,
    NULL,
    OPTIONAL_FIELDS,
    PROVIDED_BIT,
    STANDARD_FIELDS,
    TYPES,
    Row,
    RowStager,
    unreadable,
)
from mcsync.features.contacts.intake.told import by_cells
from mcsync.features.contacts.intake.words import clearly_withdraws

# Of the whole process: no line is longer, so that a plain row never meets csv's own, shorter limit.
csv.field_size_limit(MAX_LINE + 1)

MAX_RECORD_LINES: Final = 1_000
"""A record of more lines than this has a quote that is never closed."""

_UNUSUAL: Final = re.compile(r'["\\\x00-\x09\x0b\x0c\x0e-\x1f\ud800-\udfff]|\r(?!\n)')
_SEPARATORS: Final = (",", ";", "\t")
_NOT_LETTER: Final = re.compile(r"[\s_-]+")
_FIELD_OF: Final = {name.lower(): name for name in STANDARD_FIELDS}
_REQUIRED: Final = ("entityType", "entityId", "email")


class Header:
    """Which column holds what. Case, spaces, dashes and underscores in standard names do not matter."""

    standard: ClassVar[Mapping[str, str]] = _FIELD_OF
    required: ClassVar[Sequence[str]] = _REQUIRED

    def __init__(self, names: list[str]) -> None:
        self.width = len(names)
        self.places: dict[str, int] = {}
        self.attributes: dict[str, int] = {}
        for place, name in enumerate(names):
            field = self.standard.get(_NOT_LETTER.sub("", name).lower())
            target = self.places if field else self.attributes
            known = field or name.strip()
            if known in target:
                raise BadRequestError(
                    f"Columns {target[known] + 1} and {place + 1} have the same name.",
                    code="duplicate_column",
                )
            if known:  # spreadsheets leave nameless columns behind
                target[known] = place
        missing = [field for field in self.required if field not in self.places]
        if missing:
            raise BadRequestError(
                "The first line must name the columns; these are missing: " + ", ".join(missing),
                code="missing_columns",
            )
        if len(self.attributes) > MAX_ATTRIBUTES:
            raise BadRequestError(
                f"At most {MAX_ATTRIBUTES} columns may be attributes.", code="too_many_columns"
            )
        if any(len(name) > MAX_ATTRIBUTE_NAME or unreadable(name) for name in self.attributes):
            raise BadRequestError(
                f"Column names are text of at most {MAX_ATTRIBUTE_NAME} characters.",
                code="invalid_column_name",
            )
        self.plain = not any(_UNUSUAL.search(name) or "\n" in name for name in self.attributes)
        self.provided = sum(bit for field, bit in PROVIDED_BIT.items() if field in self.places)
        if self.attributes:
            self.provided |= PROVIDED_BIT["attributes"]


class _Lines(Iterator[str]):
    """Lines for csv.reader, that knows how many were taken, and whether it ran dry."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.taken = 0
        self.dry = False

    def __next__(self) -> str:
        if self.taken >= len(self.lines):
            self.dry = True
            raise StopIteration
        self.taken += 1
        return self.lines[self.taken - 1]


class CsvIntake:
    """CSV (RFC 4180, any of comma, semicolon and tab as separator) in UTF-8, with a header."""

    kind = "csv"
    header_type: ClassVar[type[Header]] = Header

    def __init__(self, stager: RowStager) -> None:
        self._stager = stager
        self._tail = b""
        self._held: list[str] = []
        self._line = 1
        self._header: Header | None = None
        self._separator = ","
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
        return self._header is not None and "optStatus" in self._header.places

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
            if self._header is None and block[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise BadRequestError(
                    "The file is in UTF-16; save it as CSV in UTF-8.", code="not_utf8"
                ) from None
            text = block.decode(errors="surrogateescape")
        lines = io.StringIO(text, newline="").readlines()
        if self._header is None:
            lines = self._read_header(lines, whole=whole)
        if self._header is None:  # a name in quotes goes on in the next piece
            self._tail = block + self._tail
            return b""
        if self._held or not self._header.plain or _UNUSUAL.search(text):
            self._held += lines
            return self._careful().encode(errors="surrogateescape")
        return self._fast(lines).encode()

    def _read_header(self, lines: list[str], *, whole: bool) -> list[str]:
        first = lines[0].removeprefix("\ufeff")
        self._separator = max(_SEPARATORS, key=first.count)
        source = _Lines([first, *lines[1:]])
        try:
            names = next(csv.reader(source, delimiter=self._separator), [])
        except csv.Error as error:  # a name beyond csv's own limit
            raise too_long_line(self._line) from error
        if source.dry and not whole:
            return lines
        self._header = self.header_type(names)
        self._line += source.taken
        return lines[source.taken :]

    # ---- the fast way

    def _fast(self, lines: list[str]) -> str:
        if self._plain is None:
            assert self._header is not None
            self._plain = self._compile(self._header)
        return self._plain(lines)

    def _compile(self, header: Header) -> Callable[[list[str]], str]:
        """The loop over plain rows, with everything that does not change from row to row bound."""
        places, width, separator = header.places, header.width, self._separator
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
            for line, row in enumerate(csv.reader(lines, delimiter=separator), first):
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
        source = _Lines(self._held)
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
            out.append(self._row(self._line + done, row or []))
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
