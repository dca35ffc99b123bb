"""The first lines of a CSV file: what separates its cells, and which column holds what."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar, Final

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.columns import (
    Columns,
    Target,
    bare,
    by_spelling,
    lacking,
    same,
    standard_field,
)
from mcsync.features.contacts.intake.json_rows import too_long_line
from mcsync.features.contacts.intake.rows import (
    MAX_ATTRIBUTE_NAME,
    MAX_ATTRIBUTES,
    PROVIDED_BIT,
    STANDARD_FIELDS,
    unreadable,
)
from mcsync.features.contacts.intake.words import is_opt_out_column

UNUSUAL: Final = re.compile(r'["\\\x00-\x09\x0b\x0c\x0e-\x1f\ud800-\udfff]|\r(?!\n)')
"""What no plain row holds; a tab is one of them where it does not separate the cells."""

UNUSUAL_BUT_TAB: Final = re.compile(r'["\\\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]|\r(?!\n)')
_SEPARATORS: Final = (",", ";", "\t", "|")
_BLANK: Final = " \t,;|\xa0"
_TOLD: Final = re.compile(r'"?sep=(\\t|[^\w"\r\n\\])"?[,;\t| ]*', re.IGNORECASE)
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')


class Header:
    """Which column holds what. Case, spaces, dashes and underscores in standard names do not matter.

    The constants of ``columns`` are columns too, before those of the file: :meth:`complete` puts them there.
    """

    fields: ClassVar[Sequence[str]] = STANDARD_FIELDS
    standard: ClassVar[Mapping[str, str]] = by_spelling(STANDARD_FIELDS)
    required: ClassVar[Sequence[str]] = ("entityType", "entityId", "email")

    def __init__(self, names: list[str], columns: Columns | None = None) -> None:
        columns = columns or Columns()
        self.names = names
        self.constants = list(columns.constants.values())
        self.width = len(self.constants) + len(names)
        self.places: dict[str, int] = {}
        self.attributes: dict[str, int] = {}
        for place, target in enumerate(columns.constants):
            (self.attributes if target.attribute else self.places)[target.name] = place
        for place, name in enumerate(names, len(self.constants)):
            self._add(place, self._target(name, columns), columns)
        self._check_named(columns)
        missing = [field for field in self.required if field not in self.places]
        if missing:
            raise BadRequestError(
                "The first line must name the columns; these are missing: " + ", ".join(missing)
                + ". If they have other names, send them as map=NAME:field.",
                code="missing_columns",
            )  # fmt: skip
        self._check_attributes()
        self.opts_out = any(map(is_opt_out_column, self.attributes))
        self.plain = not self.opts_out and not any(
            UNUSUAL.search(text) or "\n" in text for text in (*self.attributes, *self.constants)
        )
        self.provided = sum(bit for field, bit in PROVIDED_BIT.items() if field in self.places)
        if self.attributes:
            self.provided |= PROVIDED_BIT["attributes"]

    def complete(self, row: list[str]) -> list[str]:
        """A row of the file, with the constants before it; a blank one stays blank."""
        return [*self.constants, *row] if any(map(str.strip, row)) else row

    def _target(self, name: str, columns: Columns) -> Target:
        """Where a column goes; spreadsheets leave nameless ones behind, which go nowhere."""
        mapped = columns.targets.get(same(name))
        if mapped is not None:
            return mapped
        field = standard_field(name, self.standard)
        return Target(field) if field is not None else Target(name.strip(), attribute=True)

    def _add(self, place: int, target: Target, columns: Columns) -> None:
        number = place - len(self.constants)
        if not target.name or (
            target.attribute and not columns.takes(target.name, self.names[number])
        ):
            return
        known = self.attributes if target.attribute else self.places
        before = known.get(target.name)
        if before is not None and before < len(self.constants):
            raise BadRequestError(
                f"set gives a value for column {number + 1}, which the file has; leave one out.",
                code="duplicate_column",
            )
        if before is not None:
            raise BadRequestError(
                f"Columns {before - len(self.constants) + 1} and {number + 1} have the same name, or go"
                " to the same field. Leave one out, with map=NAME: for instance.",
                code="duplicate_column",
            )
        known[target.name] = place

    def _check_named(self, columns: Columns) -> None:
        """Every column that the caller names must be there. Raises BadRequestError (``unknown_column``)."""
        have = {same(name) for name in self.names}
        for number, key in enumerate(columns.targets, 1):
            if key not in have:
                raise lacking(f"Entry {number} of map", self.names)
        have.update(map(same, self.attributes))
        for key, number in (columns.chosen or {}).items():
            if key not in have and standard_field(key, self.standard) is None:
                raise lacking(f"Entry {number} of columns", self.names)

    def _check_attributes(self) -> None:
        if len(self.attributes) > MAX_ATTRIBUTES:
            raise BadRequestError(
                f"At most {MAX_ATTRIBUTES} columns may be attributes. Name those to take in the parameter"
                " columns, as columns=A,B,C.",
                code="too_many_columns",
            )
        if any(len(name) > MAX_ATTRIBUTE_NAME or unreadable(name) for name in self.attributes):
            raise BadRequestError(
                f"Column names are text of at most {MAX_ATTRIBUTE_NAME} characters.",
                code="invalid_column_name",
            )


class Lines(Iterator[str]):
    """Lines for csv.reader, that knows how many were taken, and whether it ran dry."""

    def __init__(self, lines: list[str], taken: int = 0) -> None:
        self.lines = lines
        self.taken = taken
        self.dry = False

    def __next__(self) -> str:
        if self.taken >= len(self.lines):
            self.dry = True
            raise StopIteration
        self.taken += 1
        return self.lines[self.taken - 1]


class FirstLines:
    """The names of the columns, in the first line that is neither blank nor Excel's ``sep=;``.

    ``names`` is ``None`` while the lines given do not hold all of them.
    """

    def __init__(
        self, lines: list[str], known: Collection[str], *, line: int, charset: str, whole: bool
    ) -> None:
        """``known``: fields and mapped names, as :func:`same`; ``whole``: no further lines will come."""
        self.names: list[str] | None = None
        self.separator = ","
        self.taken = 0
        told = None
        while self.taken < len(lines):
            text = lines[self.taken].removeprefix("\ufeff").strip("\r\n ")
            sep = _TOLD.fullmatch(text) if told is None else None
            if sep is not None:
                told = "\t" if sep[1] == "\\t" else sep[1]
            elif text.replace('""', "").strip(_BLANK + (told or "")):
                break
            self.taken += 1
        if self.taken == len(lines):
            return
        start = self.taken
        first = lines[start].removeprefix("\ufeff")
        source = [*lines[:start], first, *lines[start + 1 :]]
        try:
            self.separator = told or _separator(source, start, known)
            reading = Lines(source, start)
            names = next(csv.reader(reading, delimiter=self.separator), [])
        except csv.Error as error:  # a name beyond csv's own limit
            raise too_long_line(line) from error
        if reading.dry and not whole:
            return
        self.names, self.taken = names, reading.taken
        _check_encoding(names, charset)


def _separator(lines: list[str], start: int, known: Collection[str]) -> str:
    """The separator by which the header holds most known names; then, the one that is most often there."""

    def score(separator: str) -> tuple[int, int]:
        names = next(csv.reader(Lines(lines, start), delimiter=separator), [])
        found = sum(same(name) in known or bare(name) in known for name in names)
        return found, _QUOTED.sub("", lines[start]).count(separator)

    return max(_SEPARATORS, key=score)


def _check_encoding(names: list[str], charset: str) -> None:
    if any(unreadable(name) == "invalid_utf8" for name in names):
        plain = charset == "utf-8"
        raise BadRequestError(
            "The names of the columns are not in UTF-8. Declare the file's encoding, for instance"
            " Content-Type: text/csv; charset=windows-1252, or save the file as CSV in UTF-8."
            if plain
            else f"The names of the columns cannot be read as {charset}. Declare the file's real charset"
            " in the content type, or save the file as CSV in UTF-8.",
            code="not_utf8",
        )


__all__ = ["UNUSUAL", "UNUSUAL_BUT_TAB", "FirstLines", "Header", "Lines"]
