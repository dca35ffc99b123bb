"""One row, checked and written as a line for COPY into the staging table.

This is the careful way, for JSON, for rows with anything unusual in them and for rows that are wrong.
:mod:`csv_file` has a fast way for plain rows; a test holds the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from mcsync.core.clock import Clock
from mcsync.features.contacts.intake.addresses import Addresses

OPTIONAL_FIELDS: Final = {
    "firstName": "first_name",
    "lastName": "last_name",
    "department": "department",
    "location": "location",
    "employmentType": "employment_type",
    "employmentStatus": "employment_status",
}
"""The fields a contact may lack, and their columns."""

CONSENT_FIELDS: Final = ("optStatus", "consentSource", "consentGivenAt")
STANDARD_FIELDS: Final = ("entityType", "entityId", "email", *OPTIONAL_FIELDS, *CONSENT_FIELDS)
PROVIDED_BIT: Final = {
    field: 1 << place for place, field in enumerate((*OPTIONAL_FIELDS, "attributes"))
}
"""The bit of ``provided`` that says that a row gives this field; all others keep their value."""

STAGED_COLUMNS: Final = (
    "line", "code", "field", "provided", "entity_type", "entity_id", "email", "address_hash",
    "address_key", "entity_key", *OPTIONAL_FIELDS.values(), "attributes",
    "opt_status", "consent_source", "consent_given_at",
)  # fmt: skip
"""The columns of a COPY line, in order."""

TYPES: Final = {
    spelled: plain
    for plain in ("employee", "vendor")
    for spelled in (plain, plain.title(), plain.upper())
}
OPT_STATUSES: Final = ("opted_in", "opted_out", "unset")
MAX_TEXT: Final = 255
MAX_ATTRIBUTE: Final = 1_000
MAX_ATTRIBUTE_NAME: Final = 100
MAX_ATTRIBUTES: Final = 100
FUTURE_TOLERANCE: Final = timedelta(days=1)
"""How far ahead a consent time may lie: clocks differ, and dates are read as UTC. Later it counts as now."""

NULL: Final = "\\N"
Problem = tuple[str, str]
"""A field (empty: the row as a whole) and a code of :mod:`problems`."""

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORD_BREAK = re.compile(r"[\s-]+")


def escaped(value: str | None) -> str:
    """A value as COPY's text format wants it; empty is null."""
    if not value:
        return NULL
    return value.translate(_ESCAPES) if _SPECIAL.search(value) else value


def opt_status_of(value: str) -> str | None:
    """``opted_in``, ``opted_out`` or ``unset`` however it is cased or joined; else ``None``."""
    plain = _WORD_BREAK.sub("_", value.strip().lower())
    return plain if plain in OPT_STATUSES else None


def unreadable(value: str) -> str | None:
    """The code of what makes a text impossible to store, if anything does."""
    if "\0" in value:
        return "nul_character"
    return "invalid_utf8" if _SURROGATE.search(value) else None


@dataclass(slots=True)
class Row:
    """What a row says. ``None`` and the empty text both clear a field that is provided.

    The address cannot be cleared; a row without the very field keeps it (:func:`staging.keep_addresses`).
    """

    line: int
    values: Mapping[str, str | None]
    attributes: Mapping[str, object]
    provided: int


class RowStager:
    """Checks rows and writes them as COPY lines."""

    def __init__(self, addresses: Addresses, clock: Clock, *, entity_keys: bool) -> None:
        self.addresses = addresses
        self.entity_keys = entity_keys
        self._latest = clock() + FUTURE_TOLERANCE
        self._moments: dict[str, str | None] = {}

    def stage(self, row: Row) -> str:
        """The COPY lines of one row: itself, or one for each thing that is wrong with it."""
        problems: list[Problem] = []
        entity_type, entity_id = self._entity(row, problems)
        keeps_email = "email" not in row.values
        email = None if keeps_email else self._email(row, problems)
        for field in OPTIONAL_FIELDS:
            _check_text(field, row.values.get(field), problems)
        attributes = _attributes(row.attributes, problems)
        status, source, given = self._consent(row, problems)
        if problems or entity_type is None or entity_id is None:
            # An opt-out holds even where the rest of its row is refused.
            known = entity_type is not None and entity_id is not None and status == "opted_out"
            return self.refuse(
                row.line, problems, (entity_type, entity_id, source) if known else None
            )
        digest, key = self.addresses.hashes(email) if email else (NULL, NULL)
        entity = self.addresses.entity_key(entity_type, entity_id) if self.entity_keys else NULL
        fields = [escaped((row.values.get(field) or "").strip()) for field in OPTIONAL_FIELDS]
        return "\t".join((
            str(row.line), NULL, NULL, str(row.provided), entity_type, escaped(entity_id),
            escaped(email), digest, key, entity, *fields, attributes.replace("\\", "\\\\"),
            status or NULL, escaped(source), given or NULL,
        )) + "\n"  # fmt: skip

    def refuse(
        self,
        line: int,
        problems: list[Problem],
        opted_out: tuple[str | None, str | None, str | None] | None = None,
    ) -> str:
        """The COPY lines that report a row as refused."""
        lines = []
        for field, code in dict(problems).items():
            cells = [NULL] * len(STAGED_COLUMNS)
            cells[0], cells[1], cells[2], cells[3] = str(line), code, field, "0"
            if opted_out is not None:
                cells[4], cells[5] = opted_out[0] or NULL, escaped(opted_out[1])
                cells[-3], cells[-2] = "opted_out", escaped(opted_out[2])
                opted_out = None
            lines.append("\t".join(cells) + "\n")
        return "".join(lines)

    def moment(self, text: str) -> str | None:
        """An ISO 8601 date or date and time as UTC text, ``None`` if it is none or lies ahead."""
        if text in self._moments:
            return self._moments[text]
        try:
            read = datetime.fromisoformat(text)
            read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        if read > self._latest:
            return None
        if len(self._moments) > 10_000:
            self._moments.clear()
        self._moments[text] = read.isoformat()
        return self._moments[text]

    def _entity(self, row: Row, problems: list[Problem]) -> tuple[str | None, str | None]:
        given_type = (row.values.get("entityType") or "").strip()
        entity_type = TYPES.get(given_type) or TYPES.get(given_type.lower())
        if entity_type is None:
            code = "unknown_entity_type" if given_type else "missing_entity_type"
            problems.append(("entityType", code))
        entity_id = (row.values.get("entityId") or "").strip()
        if not entity_id:
            problems.append(("entityId", "missing_entity_id"))
            return entity_type, None
        before = len(problems)
        _check_text("entityId", entity_id, problems)
        return entity_type, entity_id if len(problems) == before else None

    def _email(self, row: Row, problems: list[Problem]) -> str | None:
        given = (row.values.get("email") or "").strip()
        if not given:
            problems.append(("email", "missing_email"))
            return None
        code = unreadable(given)
        email = None if code else self.addresses.usable(given)
        if email is None:
            problems.append(("email", code or "invalid_email"))
        return email

    def _consent(
        self, row: Row, problems: list[Problem]
    ) -> tuple[str | None, str | None, str | None]:
        given_status = (row.values.get("optStatus") or "").strip()
        if not given_status:
            return None, None, None
        status = opt_status_of(given_status)
        if status is None:
            problems.append(("optStatus", "invalid_consent"))
        source = (row.values.get("consentSource") or "").strip()
        _check_text("consentSource", source, problems)
        given_at = (row.values.get("consentGivenAt") or "").strip()
        moment = self.moment(given_at) if given_at else None
        if given_at and moment is None and status != "opted_out":
            problems.append(("consentGivenAt", "invalid_consent"))
        return status, source if not unreadable(source) else None, moment


def _check_text(field: str, value: str | None, problems: list[Problem]) -> None:
    if not value:
        return
    code = unreadable(value)
    if code:
        problems.append((field, code))
    elif len(value.strip()) > MAX_TEXT:
        problems.append((field, "too_long"))


def _attributes(given: Mapping[str, object], problems: list[Problem]) -> str:
    if len(given) > MAX_ATTRIBUTES:
        problems.append(("attributes", "too_many_attributes"))
        return "{}"
    kept: dict[str, object] = {}
    for name, value in given.items():
        code = _attribute_code(name, value)
        if code is not None:
            where = f"attributes.{name}" if unreadable(name) is None else "attributes"
            problems.append((escaped(where[:MAX_TEXT]), code))
            continue
        kept[name] = (value.strip() or None) if isinstance(value, str) else value
    try:
        return orjson.dumps(kept).decode()
    except (TypeError, ValueError):  # an integer of more than 64 bits, a text that is no Unicode
        problems.append(("attributes", "invalid_attribute"))
        return "{}"


def _attribute_code(name: str, value: object) -> str | None:
    code = unreadable(name)
    if code is None and not 0 < len(name) <= MAX_ATTRIBUTE_NAME:
        code = "too_long" if name else "invalid_attribute"
    if code is None and isinstance(value, str):
        code = unreadable(value)
        if code is None and len(value.strip()) > MAX_ATTRIBUTE:
            code = "too_long"
    elif code is None and not (value is None or isinstance(value, bool | int | float)):
        code = "invalid_attribute"
    return code
