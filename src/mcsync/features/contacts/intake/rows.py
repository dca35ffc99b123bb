"""One row, checked and written as lines for COPY into the staging table.

This is the careful way, for JSON, for rows with anything unusual in them and for rows that are wrong.
:mod:`csv_file` has a fast way for plain rows; a test holds the two equal.

A row is refused only where nobody can say which contact it is about. Anything else that is wrong costs its
own field, which keeps its value; and an opt-out counts in any case.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import orjson

from mcsync.core.clock import Clock
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.intake.times import Moments
from mcsync.features.contacts.intake.told import Withdrawal, addresses_in
from mcsync.features.contacts.intake.words import Statuses, is_opt_out_column, says_yes

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
    field: 1 << place
    for place, field in enumerate((*OPTIONAL_FIELDS, "attributes", "email", "optStatus"))
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
MAX_TEXT: Final = 255
MAX_ATTRIBUTE: Final = 1_000
MAX_ATTRIBUTE_NAME: Final = 100
MAX_ATTRIBUTES: Final = 100

NULL: Final = "\\N"
Problem = tuple[str, str]
"""A field (empty: the row as a whole) and a code of :mod:`problems`."""

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGERS: Final = range(-(2**63), 2**64)
"""The integers that JSON of the database driver can carry."""


def escaped(value: str | None) -> str:
    """A value as COPY's text format wants it; empty is null."""
    if not value:
        return NULL
    return value.translate(_ESCAPES) if _SPECIAL.search(value) else value


def unreadable(value: str) -> str | None:
    """The code of what makes a text impossible to store, if anything does."""
    if "\0" in value:
        return "nul_character"
    return "invalid_utf8" if _SURROGATE.search(value) else None


@dataclass(slots=True)
class Row:
    """What a row says. ``None`` and the empty text both clear a field that is provided.

    ``problems``: of fields that could not be read as text at all, which are not in ``values``. ``strays``:
    texts of such fields in which an address may stand. ``likely_id``: an id that came as another type.
    """

    line: int
    values: Mapping[str, str | None]
    attributes: Mapping[str, object]
    provided: int
    problems: Sequence[Problem] = ()
    strays: Sequence[str] = ()
    likely_id: str | None = None

    def text(self, field: str) -> str:
        """The field without blanks around it; empty where it is not given."""
        return (self.values.get(field) or "").strip()


class RowStager:
    """Checks rows and writes them as COPY lines.

    ``zone``: of times that name none. ``partial``: whether any row so far lost a field that its file gives.
    ``reported``: whether anything was wrong with a row that was taken.
    """

    def __init__(
        self, addresses: Addresses, clock: Clock, *, entity_keys: bool, zone: ZoneInfo | None = None
    ) -> None:
        self.addresses = addresses
        self.entity_keys = entity_keys
        self.partial = False
        self.reported = False
        self.moment = Moments(clock, zone).earliest
        self.status_of = Statuses().of

    def stage(self, row: Row) -> str:
        """The COPY lines of one row: itself, and one for each thing that is wrong with it."""
        problems: list[Problem] = list(row.problems)
        opted_out = [value for name, value in row.attributes.items() if is_opt_out_column(name)]
        if opted_out:
            row.provided |= PROVIDED_BIT["optStatus"]
        entity_type, entity_id = self._entity(row, problems)
        provided = row.provided
        email = self._email(row, problems)
        unusable = any(field == "email" for field, _ in problems)
        for field, _ in problems:
            provided &= ~PROVIDED_BIT.get(field, 0)
        texts = []
        for field in OPTIONAL_FIELDS:
            value = row.text(field)
            code = _text_code(value)
            if code is not None:
                problems.append((field, code))
                provided &= ~PROVIDED_BIT[field]
            texts.append(NULL if code else escaped(value))
        attributes = _attributes(row.attributes, problems)
        if attributes is None:
            provided &= ~PROVIDED_BIT["attributes"]
        status, source, given = self._consent(row, problems)
        if status != "opted_out" and any(map(says_yes, opted_out)):
            status, given = "opted_out", None
        if entity_type is None or entity_id is None:
            return self.refuse(
                row.line, problems,
                self._withdrawal(row, entity_type, entity_id, email, source, given)
                if status == "opted_out" else None,
            )  # fmt: skip
        strays = None
        if status == "opted_out" and unusable:
            strays = Withdrawal(None, self._strays(row), source, given)
        if status == "opted_in" and unusable:
            # consent under an address that cannot be read is not consent under the one before
            status = source = given = None
        self.partial |= provided != row.provided
        self.reported |= bool(problems)
        digest, key = self.addresses.hashes(email) if email else (NULL, NULL)
        entity = self.addresses.entity_key(entity_type, entity_id) if self.entity_keys else NULL
        return "\t".join((
            str(row.line), NULL, NULL, str(provided), entity_type, escaped(entity_id),
            escaped(email), digest, key, entity, *texts, (attributes or "{}").replace("\\", "\\\\"),
            status or NULL, escaped(source), given or NULL,
        )) + "\n" + self.refuse(row.line, problems, strays)  # fmt: skip

    def refuse(
        self, line: int, problems: Sequence[Problem], withdrawal: Withdrawal | None = None
    ) -> str:
        """The COPY lines that report what is wrong with a row, and carry the withdrawal in it."""
        codes: dict[str, str] = {}
        for field, code in problems:
            codes.setdefault(field, code)
        reports = list(codes.items())
        out = [{"line": str(line), "code": code, "field": field} for field, code in reports]
        if withdrawal is not None and reports:
            # an address more than there are problems repeats the last one; it is reported once
            missing = max(0, len(withdrawal.emails) - len(out))
            out += [dict(out[-1]) for _ in range(missing)]
            _carry(out, withdrawal, self.addresses)
        return "".join(
            "\t".join([cells.get(column, NULL) for column in STAGED_COLUMNS]) + "\n"
            for cells in (one | {"provided": "0"} for one in out)
        )

    def _withdrawal(
        self, row: Row, entity_type: str | None, entity_id: str | None, email: str | None,
        source: str | None, given: str | None,
    ) -> Withdrawal:  # fmt: skip
        """Whom a row means that cannot be taken: whoever its id and its addresses tell."""
        entity_id = entity_id or row.likely_id
        entity = (entity_type, entity_id) if entity_type and entity_id else None
        return Withdrawal(entity, [email] if email else self._strays(row), source, given)

    def _strays(self, row: Row) -> list[str]:
        return addresses_in((row.text("email"), *row.strays), self.addresses)

    def _entity(self, row: Row, problems: list[Problem]) -> tuple[str | None, str | None]:
        wrong = {field for field, _ in problems}
        given_type = row.text("entityType")
        entity_type = TYPES.get(given_type) or TYPES.get(given_type.lower())
        if entity_type is None and "entityType" not in wrong:
            code = "unknown_entity_type" if given_type else "missing_entity_type"
            problems.append(("entityType", code))
        entity_id = row.text("entityId")
        if "entityId" in wrong:
            return entity_type, None
        problem = _text_code(entity_id) if entity_id else "missing_entity_id"
        if problem is not None:
            problems.append(("entityId", problem))
            return entity_type, None
        return entity_type, entity_id

    def _email(self, row: Row, problems: list[Problem]) -> str | None:
        given = row.text("email")
        if not given:
            return None
        code = unreadable(given)
        email = None if code else self.addresses.usable(given)
        if email is None:
            problems.append(("email", code or "invalid_email"))
        return email

    def _consent(
        self, row: Row, problems: list[Problem]
    ) -> tuple[str | None, str | None, str | None]:
        """Status, source and time as they are to be staged. An opt-in at an unreadable time is none."""
        given_status = row.text("optStatus")
        if not given_status:
            return None, None, None
        status = self.status_of(given_status)
        if status is None:
            problems.append(("optStatus", "invalid_consent"))
        source: str | None = row.text("consentSource")
        code = _text_code(source or "")
        if code is not None:
            problems.append(("consentSource", code))
            source = None
        given_at = row.text("consentGivenAt")
        moment = self.moment(given_at) if given_at else None
        if given_at and moment is None and status != "opted_out":
            problems.append(("consentGivenAt", "invalid_consent"))
        timeless = any(field == "consentGivenAt" for field, _ in problems)
        if status is None or (status == "opted_in" and timeless):
            return None, None, None
        return status, source, moment


def _carry(lines: Sequence[dict[str, str]], withdrawal: Withdrawal, addresses: Addresses) -> None:
    """Writes a withdrawal into the lines that report its row: the entity into the first of them."""
    for place, cells in enumerate(lines):
        email = withdrawal.emails[place] if place < len(withdrawal.emails) else None
        entity = withdrawal.entity if place == 0 else None
        if email is None and entity is None:
            continue
        cells["opt_status"] = "opted_out"
        cells["consent_source"] = escaped(withdrawal.source)
        cells["consent_given_at"] = withdrawal.given or NULL
        if entity is not None:
            cells["entity_type"], cells["entity_id"] = entity[0], escaped(entity[1])
        if email is not None:
            cells["email"] = escaped(email)
            cells["address_hash"], cells["address_key"] = addresses.hashes(email)


def _text_code(value: str) -> str | None:
    return unreadable(value) or ("too_long" if len(value) > MAX_TEXT else None)


def _attributes(given: Mapping[str, object], problems: list[Problem]) -> str | None:
    """The attributes that can be stored, as JSON; ``None`` where none of them is taken."""
    if len(given) > MAX_ATTRIBUTES:
        problems.append(("attributes", "too_many_attributes"))
        return None
    kept: dict[str, object] = {}
    for name, value in given.items():
        code = _attribute_code(name, value)
        if code is not None:
            where = f"attributes.{name}" if unreadable(name) is None else "attributes"
            problems.append((escaped(where[:MAX_TEXT]), code))
            continue
        kept[name] = (value.strip() or None) if isinstance(value, str) else value
    return orjson.dumps(kept).decode()


def _attribute_code(name: str, value: object) -> str | None:
    code = unreadable(name)
    if code is None and not 0 < len(name) <= MAX_ATTRIBUTE_NAME:
        code = "too_long" if name else "invalid_attribute"
    if code is not None:
        return code
    match value:
        case str():
            return unreadable(value) or ("too_long" if len(value.strip()) > MAX_ATTRIBUTE else None)
        case None | bool():
            return None
        case int():
            return None if value in _INTEGERS else "invalid_attribute"
        case float():
            return None if math.isfinite(value) else "invalid_attribute"
    return "invalid_attribute"


def strings_in(value: object, *, depth: int = 3) -> list[str]:
    """The texts in a JSON value that should be one text: its elements, a few levels down."""
    if isinstance(value, str):
        return [value]
    if depth == 0:
        return []
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    return [text for one in inner for text in strings_in(one, depth=depth - 1)][:MAX_ATTRIBUTES]
