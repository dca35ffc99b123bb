"""Contacts as JSON objects: lines of a file (NDJSON), or the list of an upsert."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import orjson

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.rows import (
    CONSENT_FIELDS,
    MAX_TEXT,
    OPTIONAL_FIELDS,
    PROVIDED_BIT,
    STANDARD_FIELDS,
    TYPES,
    Problem,
    Row,
    RowStager,
    strings_in,
)
from mcsync.features.contacts.intake.told import by_text
from mcsync.features.contacts.intake.words import clearly_withdraws

MAX_LINE: Final = 1 << 20
_STANDARD: Final = frozenset(STANDARD_FIELDS)
_ALL: Final = frozenset((*OPTIONAL_FIELDS, "attributes"))
_JOINTS: Final = re.compile(r"[\s_-]+")


class ObjectIntake:
    """Stages contacts that are JSON objects already.

    ``strict``: members that are not known are reported, not taken for attributes.
    """

    kind = "json"
    fields = _ALL
    masked = True
    consent = True

    def __init__(
        self, stager: RowStager, *, standard: frozenset[str] = _STANDARD, strict: bool = False
    ) -> None:
        self._stager = stager
        self._standard = standard
        self._strict = strict
        self._spelled = {_JOINTS.sub("", field).lower(): field for field in standard}
        self.received = 0

    def stage(self, line: int, contact: Mapping[str, object]) -> str:
        """The COPY lines of one contact. Other top-level members than ours are attributes."""
        self.received += 1
        row = Row(line, {}, {}, 0)
        values: dict[str, str | None] = {}
        attributes: dict[str, object] = {}
        problems: list[Problem] = []
        row.values, row.attributes, row.problems = values, attributes, problems
        for name, given in contact.items():
            field = self._field(name, contact)
            if field is not None:
                self._read(row, field, given, values, problems)
            elif name == "attributes":
                if given is not None and not isinstance(given, Mapping):
                    problems.append((name, "invalid_type"))
                    continue
                attributes.update(given or {})
                row.provided |= PROVIDED_BIT["attributes"]
            elif self._strict:
                problems.append(("", "unknown_field"))
            else:
                attributes[name] = given
                row.provided |= PROVIDED_BIT["attributes"]
        return self._stager.stage(row)

    def _field(self, name: str, contact: Mapping[str, object]) -> str | None:
        """The field that a member is, whatever its case, dashes and underscores; as in CSV."""
        if name in self._standard:
            return name
        field = self._spelled.get(_JOINTS.sub("", name[:MAX_TEXT]).lower())
        return field if field is not None and field not in contact else None

    def _read(
        self, row: Row, field: str, given: object, values: dict[str, str | None],
        problems: list[Problem],
    ) -> None:  # fmt: skip
        """Takes a member that should be a text; of another type it is reported, and an opt-out counts."""
        if given is None or isinstance(given, str):
            values[field] = given
        elif field == "entityId" and type(given) is int:
            values[field] = str(given)  # numbers are what many systems use as ids
        elif field == "optStatus" and isinstance(given, bool | int | float):
            values[field] = str(given).lower().removesuffix(".0")
        else:
            problems.append((field, "invalid_type"))
            if field == "email":
                row.strays = strings_in(given)
            elif field == "entityId" and isinstance(given, float) and given.is_integer():
                row.likely_id = str(int(given))
            elif field == "optStatus" and any(map(clearly_withdraws, strings_in(given))):
                values[field] = "opted_out"
            row.provided |= PROVIDED_BIT["optStatus"] if field == "optStatus" else 0
            return
        row.provided |= PROVIDED_BIT.get(field, 0)

    def feed(self, data: bytes) -> bytes:
        """Objects do not come as bytes: see :meth:`stage`."""
        raise NotImplementedError

    def finish(self) -> bytes:
        """Nothing is ever held back."""
        return b""


class NdjsonIntake:
    """One JSON object a line; ``attributes`` as an object, or spread over the top level, or both."""

    kind = "ndjson"
    fields = _ALL
    masked = True
    consent = True

    def __init__(self, stager: RowStager, *, standard: frozenset[str] = _STANDARD) -> None:
        self._stager = stager
        self._objects = ObjectIntake(stager, standard=standard)
        self._tail = b""
        self._line = 0
        self._refused = 0

    @property
    def received(self) -> int:
        return self._objects.received + self._refused

    def feed(self, data: bytes) -> bytes:
        data = self._tail + data
        *lines, self._tail = data.split(b"\n")
        if len(self._tail) > MAX_LINE:
            raise too_long_line(self._line + len(lines) + 1)
        return "".join(map(self._stage, lines)).encode()

    def finish(self) -> bytes:
        last, self._tail = self._tail, b""
        return self._stage(last).encode()

    def _stage(self, raw: bytes) -> str:
        self._line += 1
        if self._line == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        raw = raw.strip()
        if not raw:
            return ""
        contact: object
        try:
            contact = orjson.loads(raw)
        except orjson.JSONDecodeError:
            contact = _with_unreadable_text(raw)
        if isinstance(contact, dict):
            return self._objects.stage(self._line, contact)
        self._refused += 1
        text = raw.decode(errors="surrogateescape")
        withdrawal = by_text(text, TYPES, self._stager.addresses)
        return self._stager.refuse(self._line, [("", _why_not_json(raw))], withdrawal)


def _with_unreadable_text(raw: bytes) -> object:
    """The object of a line with bytes that are no UTF-8: only the fields with them cannot be read."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        pass
    else:
        return None
    try:
        return json.loads(raw.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None


def _why_not_json(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "invalid_utf8"
    return "nul_character" if b"\0" in raw else "invalid_json"


def too_long_line(line: int) -> BadRequestError:
    """The error for a file that has no lines of sensible length: it is probably not text at all."""
    return BadRequestError(
        f"Line {line} is longer than 1 MiB. Is this a CSV or NDJSON file in UTF-8?",
        code="line_too_long",
    )


__all__ = ["CONSENT_FIELDS", "MAX_LINE", "NdjsonIntake", "ObjectIntake", "too_long_line"]
