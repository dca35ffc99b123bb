"""Contacts as JSON objects: lines of a file (NDJSON), or the list of an upsert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.columns import Columns
from mcsync.features.contacts.intake.renaming import Renaming
from mcsync.features.contacts.intake.rows import (
    CONSENT_FIELDS,
    OPTIONAL_FIELDS,
    PROVIDED_BIT,
    STANDARD_FIELDS,
    Problem,
    Row,
    RowStager,
)

MAX_LINE: Final = 1 << 20
_STANDARD: Final = frozenset(STANDARD_FIELDS)
_ALL: Final = frozenset((*OPTIONAL_FIELDS, "attributes"))


class ObjectIntake:
    """Stages contacts that are JSON objects already."""

    kind = "json"
    fields = _ALL
    masked = True
    consent = True

    def __init__(self, stager: RowStager, *, standard: frozenset[str] = _STANDARD) -> None:
        self._stager = stager
        self._standard = standard
        self._list = b""
        self.received = 0

    def stage(self, line: int, contact: Mapping[str, object], found: Sequence[Problem] = ()) -> str:
        """The COPY lines of one contact. Other top-level members than ours are attributes.

        ``found``: what is known to be wrong with it already.
        """
        self.received += 1
        problems = list(found)
        values: dict[str, str | None] = {}
        attributes: dict[str, object] = {}
        provided = 0
        for name, given in contact.items():
            # numbers are what many systems use as ids
            value = str(given) if name == "entityId" and type(given) is int else given
            if name in self._standard:
                if value is not None and not isinstance(value, str):
                    problems.append((name, "invalid_type"))
                    continue
                values[name] = value
                provided |= PROVIDED_BIT.get(name, 0)
            elif name == "attributes":
                if value is not None and not isinstance(value, Mapping):
                    problems.append((name, "invalid_type"))
                    continue
                attributes.update(value or {})
                provided |= PROVIDED_BIT["attributes"]
            else:
                attributes[name] = value
                provided |= PROVIDED_BIT["attributes"]
        if problems:
            return self._stager.refuse(line, problems)
        return self._stager.stage(Row(line, values, attributes, provided))

    def feed(self, data: bytes) -> bytes:
        """Takes a piece of one JSON list of contacts; it is small, so it is read at the end."""
        self._list += data
        return b""

    def finish(self) -> bytes:
        rows = orjson.loads(self._list)
        return "".join(self.stage(index, row) for index, row in enumerate(rows)).encode()


class NdjsonIntake:
    """One JSON object a line; ``attributes`` as an object, or spread over the top level, or both."""

    kind = "ndjson"
    fields = _ALL
    masked = True
    consent = True

    def __init__(
        self,
        stager: RowStager,
        columns: Columns | None = None,
        *,
        standard: frozenset[str] = _STANDARD,
        charset: str = "utf-8",  # noqa: ARG002 - as CsvIntake, which tells of it
    ) -> None:
        self._stager = stager
        self._renaming = Renaming(columns, standard) if columns and columns.asked else None
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
        rows = self._stage(last).encode()
        if self._renaming is not None and self.received:
            self._renaming.check_seen()
        return rows

    def _stage(self, raw: bytes) -> str:
        self._line += 1
        if self._line == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        raw = raw.strip()
        if not raw:
            return ""
        try:
            contact = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self._refuse(_why_not_json(raw))
        if not isinstance(contact, dict):
            return self._refuse("invalid_json")
        if self._renaming is None:
            return self._objects.stage(self._line, contact)
        return self._objects.stage(self._line, *self._renaming.of(contact))

    def _refuse(self, code: str) -> str:
        self._refused += 1
        return self._stager.refuse(self._line, [("", code)])


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
