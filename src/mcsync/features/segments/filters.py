"""From a segment's type and filters to one SQL condition over contacts. Pure: no I/O.

Values are compared exactly, upper and lower case included: a filter says what the organisation's own
system says, and two departments that differ by case only may be two departments. Conditions on
different fields hold together (AND), values of one field are alternatives (OR); a list that is absent
or empty is no condition. An attribute is compared by its text (``true``, ``12``, ``Lisbon``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

COLUMNS: Final[Mapping[str, str]] = {
    "department": "department",
    "location": "location",
    "employmentType": "employment_type",
    "employmentStatus": "employment_status",
}
"""The list filters by their name on the wire, and the contact's column each one reads."""

ATTRIBUTES: Final = "attributes"
"""The one filter that is a map: attribute name to list of values."""

_TYPES: Final[Mapping[str, str | None]] = {
    "employee": "employee",
    "vendor": "vendor",
    "mixed": None,
}
_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A boolean SQL expression, never null, and the values of its named bind parameters.

    ``sql`` stands in parentheses or is a single comparison, so it may be put beside ``and``, ``or``
    and ``not`` as it is. No submitted text is ever part of it.
    """

    sql: str
    params: dict[str, Any] = field(default_factory=dict)


def compile_filters(
    segment_type: str, filters: Mapping[str, Any], *, prefix: str, alias: str = "c"
) -> CompiledFilter:
    """The condition under which a contact matches a segment (design 2; consent is not part of it).

    ``filters`` is the stored form: lists under ``department``, ``location``, ``employmentType`` and
    ``employmentStatus``, and a map of lists under ``attributes``. Bind parameters are named
    ``<prefix>_...``, so that the conditions of several segments fit into one statement. ``alias``
    names the contacts table in it.

    Raises ``ValueError`` for a type or filter it does not know: a condition left out would make the
    segment larger than its owner meant.
    """
    if not _IDENTIFIER.fullmatch(prefix) or not _IDENTIFIER.fullmatch(alias):
        message = "prefix and alias must be plain lower-case SQL names"
        raise ValueError(message)
    if segment_type not in _TYPES:
        message = "unknown segment type"
        raise ValueError(message)
    if unknown := set(filters) - set(COLUMNS) - {ATTRIBUTES}:
        message = f"unknown filters: {len(unknown)}"
        raise ValueError(message)

    conditions: list[str] = []
    params: dict[str, Any] = {}
    entity_type = _TYPES[segment_type]
    if entity_type is not None:
        params[f"{prefix}_type"] = entity_type
        conditions.append(f"{alias}.entity_type = cast(:{prefix}_type as text)")
    for name, column in COLUMNS.items():
        if values := filters.get(name):
            params[f"{prefix}_{column}"] = list(values)
            conditions.append(_one_of(f"{alias}.{column}", f"{prefix}_{column}"))
    for number, (key, values) in enumerate(sorted((filters.get(ATTRIBUTES) or {}).items())):
        if values:
            params[f"{prefix}_key{number}"] = key
            params[f"{prefix}_attr{number}"] = list(values)
            value = f"{alias}.attributes ->> cast(:{prefix}_key{number} as text)"
            conditions.append(_one_of(value, f"{prefix}_attr{number}"))
    return CompiledFilter(f"({' and '.join(conditions)})" if conditions else "true", params)


def _one_of(expression: str, name: str) -> str:
    # "is not null" makes it two-valued: a planner may negate the condition and still be right.
    value = f"({expression})"
    return f"({value} is not null and {value} = any(cast(:{name} as text[])))"
