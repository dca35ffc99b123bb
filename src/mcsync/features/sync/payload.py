"""What is sent of a contact: the audience's merge fields, as SQL over the contact's columns.

Formats are Mailchimp's (MC 5). A value that Mailchimp would refuse for its type is left empty rather
than parked with the whole contact; a birthday is always ``MM/DD``, a date ``YYYY-MM-DD``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS: Mapping[str, str] = {
    "firstName": "first_name",
    "lastName": "last_name",
    "department": "department",
    "location": "location",
    "employmentType": "employment_type",
    "employmentStatus": "employment_status",
    "entityType": "entity_type",
    "entityId": "entity_id",
}

_NUMBER = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,10})?$"
_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
_BIRTHDAY = r"^(0[1-9]|1[0-2])/(0[1-9]|[12][0-9]|3[01])$"
_ZIP = r"^[0-9]{5}$"
_URL = r"^https?://\S+$"
_MOST_PAIRS = 40  # PostgreSQL functions take at most 100 arguments


def _typed(value: str, kind: str) -> str:
    """A jsonb expression for a text expression and a merge-field type; ``\"\"`` where it does not fit."""
    empty = "'\"\"'::jsonb"
    if kind == "number":
        return f"case when {value} ~ '{_NUMBER}' then to_jsonb(({value})::numeric) else {empty} end"
    if kind == "birthday":
        # also from a full date, which is how most systems keep it
        return (
            f"case when {value} ~ '{_BIRTHDAY}' then to_jsonb({value}) "
            f"when {value} ~ '{_DATE}' then to_jsonb(substr({value}, 6, 2) || '/' || "
            f"substr({value}, 9, 2)) else {empty} end"
        )
    if kind == "address":
        # all four or nothing (MC 5): only a JSON object attribute can carry them
        return empty
    pattern = {"date": _DATE, "zip": _ZIP, "url": _URL, "imageurl": _URL}.get(kind)
    if pattern:
        return f"case when {value} ~ '{pattern}' then to_jsonb({value}) else {empty} end"
    return f"to_jsonb(coalesce({value}, ''))"


def _address(key: str, alias: str) -> str:
    value = f"{alias}.attributes -> {key}"
    complete = " and ".join(
        f"coalesce({value} ->> '{part}', '') <> ''" for part in ("addr1", "city", "state", "zip")
    )
    return (
        f"case when jsonb_typeof({value}) = 'object' and {complete} then {value} "
        "else '\"\"'::jsonb end"
    )


def payload_sql(
    merge_map: Mapping[str, str], merge_types: Mapping[str, str], *, alias: str
) -> tuple[str, dict[str, Any]]:
    """A jsonb expression ``{TAG: value}`` with every mapped tag, ``\"\"`` where the contact has none.

    ``merge_types`` gives Mailchimp's type of each tag (default ``text``). Parameters are named
    ``pay_*``. Raises ``ValueError`` for a source that does not exist.
    """
    params: dict[str, Any] = {}
    parts: list[str] = []
    for number, (tag, source) in enumerate(sorted(merge_map.items())):
        kind = merge_types.get(tag, "text")
        params[f"pay_tag{number}"] = tag
        name = f"cast(:pay_tag{number} as text)"
        if source in COLUMNS:
            value = f"{alias}.{COLUMNS[source]}"
        elif source.startswith("attributes."):
            params[f"pay_key{number}"] = source.removeprefix("attributes.")
            key = f"cast(:pay_key{number} as text)"
            if kind == "address":
                parts.append(f"{name}, {_address(key, alias)}")
                continue
            value = f"({alias}.attributes ->> {key})"
        else:
            message = "a merge-field map names a source that does not exist"
            raise ValueError(message)
        parts.append(f"{name}, {_typed(value, kind)}")
    built = [
        f"jsonb_build_object({', '.join(parts[at : at + _MOST_PAIRS])})"
        for at in range(0, len(parts), _MOST_PAIRS)
    ]
    return "(" + (" || ".join(built) or "'{}'::jsonb") + ")", params
