"""Merge values: what each type takes, what it refuses, and in which form it is stored (MC 5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audience import Audience
    from .config import SandboxConfig
    from .model import MergeField, Value

_ANY_OF = "Data did not match any of the schemas described in anyOf."
_ADDRESS_NEEDED = ("addr1", "city", "state", "zip")
_TEXT_BYTES = 255
_SHORT = _TEXT_BYTES // 4
"""Texts that cannot be too long, whatever their characters: nearly all, so they take the quick way."""
_URL = re.compile(r"https?://[^\s/]+\.[^\s/]+", re.IGNORECASE)
_ZIP = re.compile(r"\d{5}(-\d{4})?\Z")
_US_PHONE_DIGITS = 10


class MergeInvalid(Exception):
    """Some values are refused: tag and message each (MC 5)."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        super().__init__("Your merge fields were invalid.")
        self.errors = errors


class SchemaMismatch(Exception):
    """A value has the wrong JSON type, which Mailchimp refuses before looking at the field's rules (MC 5)."""

    def __init__(self, field: str, message: str = _ANY_OF) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class _Bad(Exception):
    pass


class Drop(Exception):
    """The value is silently not stored."""


def _text(value: Value, _field: MergeField) -> Value:
    text = value if isinstance(value, str) else str(value)
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")


def _number(value: Value, _field: MergeField) -> Value:
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        raise _Bad("Please enter a number") from None
    return int(number) if number.is_integer() else number


def _choice(value: Value, field: MergeField) -> Value:
    if str(value) not in field.options.get("choices", []):
        choices = ", ".join([*field.options.get("choices", []), ""])
        raise _Bad(f"Value must be one of: {choices} (not {value})")
    return str(value)


def _zip(value: Value, _field: MergeField) -> Value:
    if not _ZIP.match(str(value)):
        raise _Bad("Please enter a zip code (5 digits)")
    return str(value)


def _url(value: Value, _field: MergeField) -> Value:
    if not _URL.match(str(value)):
        raise _Bad("Please enter a URL")
    return value


def _phone(value: Value, field: MergeField) -> Value:
    if field.options.get("phone_format") == "US":
        digits = re.sub(r"\D", "", str(value))
        if len(digits) != _US_PHONE_DIGITS:
            raise _Bad("Please enter a phone number")
    return str(value)


_DATE_FORMS = (
    (re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ].*)?\Z"), (1, 2, 3)),
    (re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})\Z"), (3, 2, 1)),
    (re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})\Z"), (3, 1, 2)),
)


def _date(value: Value, _field: MergeField) -> Value:
    """`YYYY-MM-DD`, `YYYY/MM/DD`, `DD-MM-YYYY`, `MM/DD/YYYY` in; always `YYYY-MM-DD` out."""
    for form, (year, month, day) in _DATE_FORMS:
        if found := form.match(str(value).strip()):
            try:
                return date(int(found[year]), int(found[month]), int(found[day])).isoformat()
            except ValueError:
                break
    raise _Bad("Please enter the date")


_BIRTHDAY = re.compile(r"(\d{1,2})/(\d{1,2})\Z")


def _birthday(value: Value, _field: MergeField) -> Value:
    """`MM/DD` always, even where Mailchimp's pages show DD/MM."""
    found = _BIRTHDAY.match(str(value).strip())
    if found is None or not (1 <= int(found[1]) <= 12 and 1 <= int(found[2]) <= 31):
        raise _Bad("Please enter a month (01-12) and a day (01-31)")
    return f"{int(found[1]):02d}/{int(found[2]):02d}"


def _address(value: Value, _field: MergeField) -> Value:
    """All of addr1, city, state, zip or nothing."""
    given = value if isinstance(value, dict) else {}
    if any(not isinstance(part, str) for part in given.values()):
        raise SchemaMismatch("ADDRESS")
    if any(not given.get(part, "").strip() for part in _ADDRESS_NEEDED):
        raise _Bad("Please enter a complete address")
    return {
        "addr1": given["addr1"],
        "addr2": given.get("addr2", ""),
        "city": given["city"],
        "state": given["state"],
        "zip": given["zip"],
        "country": given.get("country") or "US",
    }


_RULES: dict[str, Callable[[Value, MergeField], Value]] = {
    "text": _text,
    "number": _number,
    "address": _address,
    "phone": _phone,
    "date": _date,
    "url": _url,
    "imageurl": _url,
    "radio": _choice,
    "dropdown": _choice,
    "birthday": _birthday,
    "zip": _zip,
}


def _normalised(value: Value, field: MergeField, config: SandboxConfig) -> Value:
    if value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | dict):
        raise SchemaMismatch(f"merge_fields.{field.tag}")
    if isinstance(value, dict) and field.type != "address":
        raise SchemaMismatch(f"merge_fields.{field.tag}")
    try:
        return _RULES[field.type](value, field)
    except _Bad:
        if field.type == "address" and config.partial_address_dropped:
            raise Drop from None
        raise


class MergeRules:
    """The merge fields of an audience as one request finds them."""

    __slots__ = ("_by_tag", "_config", "_required", "_width")

    def __init__(
        self, audience: Audience, config: SandboxConfig, *, skip_required: bool = False
    ) -> None:
        """`skip_required` is skip_merge_validation: no check for required fields, formats are checked all the same."""
        self._by_tag = {field.tag: field for field in audience.fields}
        self._config = config
        self._required = [
            field for field in audience.fields if field.required and not skip_required
        ]
        self._width = audience.columns

    def merged(self, current: tuple[Value, ...], given: dict[str, Any] | None) -> tuple[Value, ...]:
        """The values after a write: only named tags change, unknown ones are ignored (MC 4.3).

        Raises MergeInvalid or SchemaMismatch.
        """
        if not given and not self._required:
            return current
        values = [*current, *[""] * (self._width - len(current))]
        errors: list[tuple[str, str]] = []
        for tag, value in (given or {}).items():
            field = self._by_tag.get(tag)
            if field is None:
                continue
            if type(value) is str and field.type == "text" and len(value) <= _SHORT:
                values[field.column] = value
                continue
            try:
                values[field.column] = _normalised(value, field, self._config)
            except _Bad as bad:
                errors.append((tag, str(bad)))
            except Drop:
                continue
        wrong = {tag for tag, _ in errors}
        errors += [
            (field.tag, "Please enter a value")
            for field in self._required
            if values[field.column] == "" and field.tag not in wrong
        ]
        if errors:
            raise MergeInvalid(errors)
        return tuple(values)
