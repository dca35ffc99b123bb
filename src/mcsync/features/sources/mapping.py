"""From a source's rows to contacts: which column feeds which field, and what is the same for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from uuid import UUID

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.rows import (
    MAX_ATTRIBUTE_NAME,
    OPTIONAL_FIELDS,
    PROVIDED_BIT,
    STANDARD_FIELDS,
    Row,
    RowStager,
    strings_in,
)
from mcsync.features.contacts.intake.words import is_opt_out_column
from mcsync.features.sources.errors import SourceError
from mcsync.features.sources.values import UNREADABLE

REQUIRED: Final = ("entityType", "entityId", "email")
_SEPARATORS: Final = re.compile(r"[\s_-]+")
_FIELD_OF: Final = {name.lower(): name for name in STANDARD_FIELDS}
_STANDARD: Final = frozenset(STANDARD_FIELDS)
_TAKEN: Final = "\\N"
_BIGGEST: Final = 2**63
_MOST_REFUSED: Final = 50_000


def standard_field(name: str) -> str | None:
    """The contact field that a name means, whatever its case, dashes and underscores; or ``None``."""
    return _FIELD_OF.get(_SEPARATORS.sub("", name).lower())


def checked_mapping(columns: Mapping[str, str], constants: Mapping[str, str]) -> dict[str, Any]:
    """The mapping as it is stored. ``columns``: target -> column; ``constants``: target -> value.

    A target is a contact field, or else an attribute (``attributes.`` before it may be left out).
    Raises BadRequestError (``invalid_source_mapping``).
    """
    stored: dict[str, dict[str, str]] = {"columns": {}, "constants": {}}
    seen: set[str] = set()
    for kind, given in (("columns", columns), ("constants", constants)):
        for target, value in given.items():
            name = _target(target)
            if name in seen:
                raise _wrong(f"{name} is mapped twice.")
            if not value:
                raise _wrong(f"{name} is mapped to nothing.")
            seen.add(name)
            stored[kind][name] = value
    if (constant := stored["constants"].get("entityType")) is not None:
        if constant.lower() not in {"employee", "vendor"}:
            raise _wrong("entityType is employee or vendor.")
        stored["constants"]["entityType"] = constant.lower()
    for field in ("entityId", "email"):
        if field in stored["constants"]:
            raise _wrong(f"{field} cannot be the same for all.")
    return stored


def _target(target: str) -> str:
    field = standard_field(target)
    if field is not None:
        return field
    name = target.removeprefix("attributes.").strip()
    if not name or len(name) > MAX_ATTRIBUTE_NAME or "\0" in name:
        raise _wrong(f"An attribute's name has 1 to {MAX_ATTRIBUTE_NAME} characters.")
    return f"attributes.{name}"


def _wrong(message: str) -> BadRequestError:
    return BadRequestError(message, code="invalid_source_mapping")


@dataclass(frozen=True, slots=True)
class Plan:
    """A mapping laid over the columns that a query really has. ``ignored``: those that feed nothing."""

    fields: tuple[tuple[str, int], ...]
    attributes: tuple[tuple[str, int], ...]
    constants: dict[str, str]
    constant_attributes: dict[str, str]
    ignored: tuple[str, ...]

    @property
    def provided(self) -> frozenset[str]:
        """The contact fields, and ``attributes``, that every row gives."""
        named = {field for field, _ in self.fields} | set(self.constants)
        if self.attributes or self.constant_attributes:
            named.add("attributes")
        return frozenset(named)


def lay_over(
    mapping: Mapping[str, Mapping[str, str]], columns: Sequence[str], internal: frozenset[str]
) -> Plan:
    """Finds the mapped columns. Those named like contact fields map themselves, unless told otherwise.

    ``internal``: columns that are there for the pull (watermark, queue key). Raises ``SourceError``
    (``source_mapping_wrong``) naming what is missing.
    """
    places = {name: place for place, name in reversed(list(enumerate(columns)))}
    lowered = {name.lower(): place for name, place in places.items()}
    targets: dict[str, int] = {}
    missing = []
    for target, column in mapping["columns"].items():
        place = places.get(column, lowered.get(column.lower()))
        if place is None:
            missing.append(f"{target}={column}")
        else:
            targets[target] = place
    used = set(targets.values())
    constants = dict(mapping["constants"])
    for name, place in places.items():
        field = standard_field(name)
        if field and field not in targets and field not in constants and place not in used:
            targets[field] = place
            used.add(place)
    if missing:
        raise _unfit("the query has no column for " + ", ".join(sorted(missing)))
    lacking = [field for field in REQUIRED if field not in targets and field not in constants]
    if lacking:
        raise _unfit("nothing feeds " + ", ".join(lacking))
    prefix = "attributes."
    return Plan(
        tuple((t, p) for t, p in targets.items() if not t.startswith(prefix)),
        tuple((t.removeprefix(prefix), p) for t, p in targets.items() if t.startswith(prefix)),
        {t: v for t, v in constants.items() if not t.startswith(prefix)},
        {t.removeprefix(prefix): v for t, v in constants.items() if t.startswith(prefix)},
        tuple(n for n in columns if places[n] not in used and n.lower() not in internal),
    )


def _unfit(what: str) -> SourceError:
    return SourceError("source_mapping_wrong", f"The mapping does not fit the query: {what}.")


class SourceIntake:
    """Turns rows of a source into lines for COPY; ``Intake`` as far as the merge asks for it.

    ``refused``: who is in refused rows (only kept where ``remember``); ``unknown``: rows of whom nobody
    can say who they are about.
    """

    kind = "source"

    def __init__(self, stager: RowStager, plan: Plan, *, remember: bool = False) -> None:
        self._stager = stager
        self._plan = plan
        self._remember = remember
        self.received = 0
        self.refused: set[tuple[str, str]] = set()
        self.unknown = 0
        self.fields = plan.provided & {*OPTIONAL_FIELDS, "attributes"}
        self.consent = "optStatus" in plan.provided or any(
            is_opt_out_column(name) for name, _ in plan.attributes
        )
        self._provided = sum(bit for field, bit in PROVIDED_BIT.items() if field in plan.provided)

    @property
    def masked(self) -> bool:
        """Whether some row lost a field that could not be read."""
        return self._stager.partial

    def feed(self, data: bytes) -> bytes:
        """Rows do not come as bytes: see :meth:`stage`."""
        raise NotImplementedError

    def finish(self) -> bytes:
        """Nothing is ever held back."""
        return b""

    def stage(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """The COPY lines of the next rows; the first row of the pull is line 1."""
        return "".join(map(self._stage, rows)).encode()

    def _stage(self, cells: Sequence[Any]) -> str:
        self.received += 1
        line = self.received
        values, attributes, problems = self.read(cells)
        row = Row(line, values, attributes, self._provided, problems)
        if problems:
            wrong = {field for field, _ in problems}
            row.strays = strings_in([cells[p] for f, p in self._plan.fields if f in wrong])
        lines = self._stager.stage(row)
        if self._remember and not lines.startswith(f"{line}\t{_TAKEN}\t"):
            self._note_refused(values)
        return lines

    def read(
        self, cells: Sequence[Any]
    ) -> tuple[dict[str, str | None], dict[str, object], list[tuple[str, str]]]:
        """A row as fields and attributes, and what cannot be read in it."""
        values: dict[str, str | None] = dict(self._plan.constants)
        problems = []
        for field, place in self._plan.fields:
            cell = cells[place]
            if cell is None or type(cell) is str:
                values[field] = cell
                continue
            try:
                values[field] = _as_status(cell) if field == "optStatus" else as_text(cell)
            except TypeError:
                problems.append((field, "invalid_type"))
        attributes: dict[str, object] = dict(self._plan.constant_attributes)
        for name, place in self._plan.attributes:
            attributes[name] = as_attribute(cells[place])
        return values, attributes, problems

    def _note_refused(self, values: Mapping[str, str | None]) -> None:
        entity = (values.get("entityType") or "").strip().lower()
        entity_id = (values.get("entityId") or "").strip()
        if entity not in {"employee", "vendor"} or not entity_id:
            self.unknown += 1
        elif len(self.refused) < _MOST_REFUSED:
            self.refused.add((entity, entity_id))
        else:
            self.unknown += 1


def as_text(value: Any) -> str | None:
    """A cell as a field's text. Raises ``TypeError`` for what is none (lists, documents, NaN)."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | UUID():
            return str(value)
        case Decimal() if value.is_finite():
            return f"{value:f}"
        case float() if isfinite(value):
            return str(int(value)) if value.is_integer() else repr(value)
        case datetime():
            # without a zone a time of consent counts as the earliest it can be, or is of the source's zone
            return value.isoformat()
        case date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode(errors="surrogateescape")
    raise TypeError


def _as_status(value: Any) -> str | None:
    """A cell of consent; one of MySQL's type ``bit(1)`` comes as a byte."""
    if isinstance(value, bytes | bytearray | memoryview) and bytes(value) in (b"\0", b"\1"):
        return str(bytes(value)[0])
    return as_text(value)


def as_attribute(value: Any) -> object:
    """A cell as an attribute: numbers and truth values as they are, all else as text."""
    match value:
        case None | str() | bool():
            return value
        case float():
            return value if isfinite(value) else UNREADABLE
        case int():
            return value if -_BIGGEST <= value < _BIGGEST else str(value)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return str(value)
    try:
        return as_text(value)
    except TypeError:
        return value  # the intake refuses the row, and says which attribute
