"""A member as a request describes it, checked for shape before any rule looks at it (MC 3.3, 4.3)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from .clock import parse_time
from .states import WRITABLE

_KINDS = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
_TAG_LENGTH = 100


class SchemaErrors(Exception):
    """The request does not fit the schema: field and message each."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        super().__init__("The resource submitted could not be validated.")
        self.errors = errors


@dataclass(slots=True)
class Row:
    """One member of a request; None where a property is absent."""

    email: str | None = None
    status: int | None = None
    status_if_new: int | None = None
    merge: dict[str, Any] | None = None
    tags: list[str] | None = None
    more: dict[str, Any] | None = None
    """The rarer properties, checked: language, vip, email_type, ips, times (as seconds), location,
    interests, permissions."""


def kind_of(value: object) -> str:
    """The JSON type as Mailchimp's messages name it."""
    return "NULL" if value is None else _KINDS.get(type(value), "NULL")


def _mismatch(wanted: str, value: object) -> str:
    return f"Schema describes {wanted}, {kind_of(value)} found instead"


class _Invalid(Exception):
    pass


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _Invalid(_mismatch("string", value))
    return value


def _status(value: object) -> int:
    name = _string(value)
    if name not in WRITABLE:
        raise _Invalid(f"Data presented is not one of the accepted values: {', '.join(WRITABLE)}.")
    return WRITABLE[name]


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Invalid(_mismatch("object", value))
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Invalid(_mismatch("boolean", value))
    return value


def _tags(value: object) -> list[str]:
    """Names of tags; some clients send objects with a name, which single writes took for years."""
    if not isinstance(value, list):
        raise _Invalid(_mismatch("array", value))
    names: list[str] = []
    for each in value:
        name = _string(each.get("name") if isinstance(each, dict) else each).strip()
        if not 0 < len(name) <= _TAG_LENGTH:
            raise _Invalid(f"Tag names must have 1 to {_TAG_LENGTH} characters.")
        names.append(name)
    return names


def _time(value: object) -> int:
    text = _string(value)
    if not text:
        return 0
    second = parse_time(text)
    if second is None:
        raise _Invalid("This value is not a valid datetime.")
    return second


def _ip(value: object) -> str:
    """Must be a valid IPv4 or IPv6 address since 2022-09 (MC 4.3)."""
    text = _string(value)
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise _Invalid("This value should be a valid IP address.") from None
    return text


def _email_type(value: object) -> str:
    text = _string(value)
    if text not in ("", "html", "text"):
        raise _Invalid("Value must be one of: html, text")
    return text


def _location(value: object) -> tuple[float, float]:
    given = _object(value)
    pair = (given.get("latitude", 0), given.get("longitude", 0))
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in pair):
        raise _Invalid(_mismatch("number", pair[0]))
    return (float(pair[0]), float(pair[1]))


def _interests(value: object) -> dict[str, bool]:
    return {key: _boolean(each) for key, each in _object(value).items()}


def _permissions(value: object) -> dict[str, bool]:
    """By id; the ids themselves are the list's matter."""
    if not isinstance(value, list):
        raise _Invalid(_mismatch("array", value))
    given = [_object(each) for each in value]
    return {
        _string(each.get("marketing_permission_id")): _boolean(each.get("enabled"))
        for each in given
    }


_MORE = {
    "language": _string,
    "vip": _boolean,
    "email_type": _email_type,
    "ip_signup": _ip,
    "ip_opt": _ip,
    "timestamp_signup": _time,
    "timestamp_opt": _time,
    "location": _location,
    "interests": _interests,
    "marketing_permissions": _permissions,
}
_SINGLE_ONLY = {"marketing_permissions"}
"""Ignored in the bulk call (MC 3.3)."""


def parse_row(raw: object, *, nullable: bool, prefix: str = "", bulk: bool = False) -> Row:
    """The row of a request; SchemaErrors with `prefix` before each field name. Unknown properties are ignored."""
    if not isinstance(raw, dict):
        raise SchemaErrors([(prefix.rstrip("."), _mismatch("object", raw))])
    if bulk and not _SINGLE_ONLY.isdisjoint(raw):
        raw = {key: value for key, value in raw.items() if key not in _SINGLE_ONLY}
    row = Row()
    try:
        for key, value in raw.items():
            if value is not None or not nullable:
                _take(row, key, value)
    except _Invalid:
        raise SchemaErrors(_complaints(raw, nullable, prefix)) from None
    return row


def _complaints(raw: dict[str, Any], nullable: bool, prefix: str) -> list[tuple[str, str]]:
    """What is wrong with each property of a row that has something wrong."""
    errors: list[tuple[str, str]] = []
    for key, value in raw.items():
        try:
            if value is not None or not nullable:
                _take(Row(), key, value)
        except _Invalid as invalid:
            errors.append((prefix + key, str(invalid)))
    return errors


def _take(row: Row, key: str, value: object) -> None:
    if key == "email_address":
        row.email = _string(value).strip()
    elif key == "status":
        row.status = _status(value)
    elif key == "status_if_new":
        row.status_if_new = _status(value)
    elif key == "merge_fields":
        row.merge = _object(value)
    elif key == "tags":
        row.tags = _tags(value)
    elif check := _MORE.get(key):
        if row.more is None:
            row.more = {}
        row.more[key] = check(value)
