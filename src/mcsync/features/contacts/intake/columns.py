"""What the caller says about the columns of a file: other names, constants, and which attributes to take."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.rows import (
    MAX_ATTRIBUTE,
    MAX_ATTRIBUTE_NAME,
    MAX_TEXT,
    STANDARD_FIELDS,
    TYPES,
    unreadable,
)
from mcsync.features.contacts.intake.words import opt_status_of

_NOT_LETTER: Final = re.compile(r"[\s_-]+")
_ATTRIBUTE: Final = "attributes."
_PERSONAL: Final = ("entityId", "email")
_MOST_SHOWN: Final = 50


def same(name: str) -> str:
    """A column's name as names are compared: whatever its case, blanks and form of Unicode."""
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def by_spelling(fields: Iterable[str]) -> dict[str, str]:
    """The fields by what is left of their names without case, blanks, dashes and underscores."""
    return {name.lower(): name for name in fields}


def bare(name: str) -> str:
    """A name without what does not matter in the names of fields."""
    return _NOT_LETTER.sub("", name).lower()


def standard_field(name: str, fields: Mapping[str, str]) -> str | None:
    """The field that a column's own name means, if any."""
    return fields.get(bare(name))


@dataclass(frozen=True, slots=True)
class Choice:
    """What the caller wrote, word for word: ``map``, ``set`` and ``columns``; each may be a list with commas."""

    mapped: Sequence[str] = ()
    constants: Sequence[str] = ()
    columns: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a column goes: to a field, to an attribute, or, with an empty ``name``, nowhere."""

    name: str
    attribute: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """The caller's words, understood.

    ``targets`` and ``chosen`` (``None``: every column) are by :func:`same`; the latter has the number of each
    entry, since no answer repeats what was submitted.
    """

    targets: Mapping[str, Target] = field(default_factory=dict)
    constants: Mapping[Target, str] = field(default_factory=dict)
    chosen: Mapping[str, int] | None = None

    @property
    def asked(self) -> bool:
        """Whether the caller says anything at all."""
        return bool(self.targets or self.constants or self.chosen is not None)

    @classmethod
    def of(
        cls, given: Choice, fields: Sequence[str] = STANDARD_FIELDS, *, attributes: bool = True
    ) -> Columns:
        """``attributes``: columns may be attributes. Raises BadRequestError (``invalid_mapping``)."""
        known = _Known(by_spelling(fields), attributes=attributes)
        targets: dict[str, Target] = {}
        for number, entry in _entries("map", given.mapped):
            header, colon, wanted = entry.rpartition(":")
            if not colon or not header.strip():
                _refuse(
                    f"Entry {number} of map is not NAME:field. NAME: leaves a column out; write a name that"
                    ' holds a comma as "A, B:field", in double quotes.'
                )
            if same(header) in targets:
                _refuse(f"Entry {number} of map names a column that an earlier entry names.")
            targets[same(header)] = (
                known.target(wanted.strip(), f"Entry {number} of map")
                if wanted.strip()
                else Target("")
            )
        constants: dict[Target, str] = {}
        for number, entry in _entries("set", given.constants):
            name, _, value = entry.partition(":")
            target = known.target(name.strip(), f"Entry {number} of set")
            if target in constants:
                _refuse(f"Entry {number} of set names a field that an earlier entry names.")
            constants[target] = _constant(target, value.strip(), f"Entry {number} of set")
        chosen = None
        if given.columns is not None:
            chosen = {same(name): number for number, name in _entries("columns", given.columns)}
        return cls(targets, constants, chosen)

    def takes(self, attribute: str, header: str) -> bool:
        """Whether a column that is no field is taken as an attribute."""
        return self.chosen is None or same(attribute) in self.chosen or same(header) in self.chosen


def _entries(parameter: str, given: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The entries of a parameter that may be repeated and may hold several with commas between them."""
    try:
        rows = list(csv.reader(given, skipinitialspace=True, strict=True))
    except csv.Error:
        _refuse(f"A double quote in {parameter} is never closed, or is followed by more text.")
    entries = [entry for row in rows for entry in row if entry.strip()]
    if len(given) and not entries:
        _refuse(f"{parameter} is empty; leave it out, or write an entry.")
    return enumerate(entries, 1)


@dataclass(frozen=True, slots=True)
class _Known:
    """The fields that a column may go to."""

    fields: Mapping[str, str]
    attributes: bool

    def target(self, wanted: str, entry: str) -> Target:
        """The field or attribute that is meant."""
        standard = standard_field(wanted, self.fields)
        if standard is not None:
            return Target(standard)
        name = wanted[len(_ATTRIBUTE) :].strip()
        usable = 0 < len(name) <= MAX_ATTRIBUTE_NAME and unreadable(name) is None
        if not (self.attributes and wanted.lower().startswith(_ATTRIBUTE) and usable):
            more = f", or {_ATTRIBUTE}NAME for an attribute" if self.attributes else ""
            fields = ", ".join(self.fields.values())
            _refuse(f"{entry} names no field. The fields are {fields}{more}.")
        return Target(name, attribute=True)


def _constant(target: Target, value: str, entry: str) -> str:
    """A value for all rows, if it can be one."""
    if not target.attribute and target.name in _PERSONAL:
        _refuse(f"{target.name} differs from row to row, so set cannot give it.")
    longest = MAX_TEXT if target.name in STANDARD_FIELDS else MAX_ATTRIBUTE
    if not value or len(value) > longest or unreadable(value):
        _refuse(f"{entry} is not field:value with a value of 1 to {longest} characters.")
    if target == Target("entityType") and value.lower() not in TYPES:
        _refuse("The entityType in set must be employee or vendor.")
    if target == Target("optStatus") and opt_status_of(value) is None:
        _refuse("The optStatus in set must be opted_in, opted_out or unset.")
    return value


def _refuse(message: str) -> NoReturn:
    raise BadRequestError(message, code="invalid_mapping")


def lacking(entry: str, present: Sequence[str]) -> BadRequestError:
    """The error for a column that the caller names and the file lacks; ``present``: those that it has."""
    has = [name.strip() for name in present if name.strip()]
    if any("@" in name for name in has):  # the data of a person, which no answer repeats
        told = "The first line does not look like names of columns."
    else:
        shown = ", ".join(name[:MAX_ATTRIBUTE_NAME] for name in has[:_MOST_SHOWN])
        told = f"The file has: {shown}{', ...' if len(has) > _MOST_SHOWN else ''}."
    return BadRequestError(f"{entry} is the name of no column. {told}", code="unknown_column")


__all__ = [
    "Choice",
    "Columns",
    "Target",
    "bare",
    "by_spelling",
    "lacking",
    "same",
    "standard_field",
]
