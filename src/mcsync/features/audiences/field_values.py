"""Whether a merge field takes a value, and how Mailchimp is sent it (MC 5). Pure: no I/O.

The rules for one value, in Python. ``sync.payload`` states the same rules in SQL for whole audiences, from
the patterns and tables of this module; a property test holds the two against each other.

A value that is only blanks is empty: it is no problem, and is sent as ``""``. Every other value that the
field does not take has a problem, and is never sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mcsync.features.audiences.merge_map import Field

BLANKS: Final = " \t\n\r\f\v\u00a0\u2007\u202f\u3000\u200b\ufeff"
"""What is taken off both ends of a value."""
MAX_BYTES: Final = 255
"""Mailchimp cuts longer texts without a word (MC 5)."""
ADDRESS_PARTS: Final = ("addr1", "city", "state", "zip")
CHOICE_TYPES: Final = frozenset({"radio", "dropdown"})

_TIME: Final = (
    r"((, *| +|[Tt])[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)? *([AaPp][Mm])?"
    r" *([Zz]|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2}(:?[0-9]{2})?)?)?( UTC|\[[A-Za-z/_+-]{1,40}\])?)?"
)
"""A time of day after a date, as SQL, ISO 8601 and spreadsheets write it: the date is cut out before it."""
ZIP: Final = "^[0-9]{5}(-[0-9]{4})?$"
URL: Final = f"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#{BLANKS}]+[.][^/?#{BLANKS}]+([/?#][^{BLANKS}]*)?$"
PHONE: Final = "^([+]? *1[-. ]*)?[-0-9 ()./]+$"
PHONE_DIGITS: Final = "^1?[2-9][0-9]{9}$"

PROBLEMS: Final[Mapping[str, str]] = {
    "too_long": f"it is longer than {MAX_BYTES} bytes",
    "not_a_number": "it is no number of the format expected",
    "not_a_date": "it is no date of the format expected",
    "not_a_birthday": "it is no month and day of the format expected",
    "not_a_zip": "it is no ZIP code of 5 digits",
    "not_a_url": f"it is no web address with http:// or https:// of at most {MAX_BYTES} bytes",
    "not_a_phone": "it is no phone number of 10 digits, which the field's US format asks for",
    "unknown_choice": "it is none of the field's choices",
    "incomplete_address": "it is no address with addr1, city, state and zip",
}
"""Each problem of a value, and how a sentence about the value goes on."""

_PROBLEM_OF_TYPE: Final = {
    "number": "not_a_number",
    "date": "not_a_date",
    "birthday": "not_a_birthday",
    "zip": "not_a_zip",
    "url": "not_a_url",
    "imageurl": "not_a_url",
    "radio": "unknown_choice",
    "dropdown": "unknown_choice",
    "address": "incomplete_address",
}


def problem_code(field: Field) -> str:
    """The one problem that values of this field can have."""
    if field.type == "phone" and field.phone_format == "US":
        return "not_a_phone"
    return _PROBLEM_OF_TYPE.get(field.type, "too_long")


def problem_of(
    field: Field, value: str | Mapping[str, object], value_format: str | None = None
) -> str | None:
    """Why the field does not take the value, as a key of :data:`PROBLEMS`; None where it does.

    ``value_format``: the format that the merge-field map names for the field.
    """
    if isinstance(value, Mapping):
        complete = field.type == "address" and all(
            isinstance(value.get(part), str) and str(value[part]).strip(BLANKS)
            for part in ADDRESS_PARTS
        )
        return None if complete or not value else problem_code(field)
    return problem_code(field) if sent_as(field, value, value_format) is None else None


def sent_as(field: Field, value: str, value_format: str | None = None) -> str | None:
    """What Mailchimp is sent for the value; None where the field does not take it."""
    trimmed = value.strip(BLANKS)
    if not trimmed:
        return ""
    read: str | None
    match field.type:
        case "number":
            read = _number(trimmed, value_format)
        case "date":
            read = _date(trimmed, date_forms("date", value_format))
        case "birthday":
            whole = _date(trimmed, date_forms("birthday", value_format))
            read = whole and f"{whole[5:7]}/{whole[8:10]}"
        case "zip":
            read = trimmed[:5] if _matches(ZIP, trimmed) else None
        case "url" | "imageurl":
            read = trimmed if _matches(URL, trimmed) and _short(trimmed) else None
        case "phone" if field.phone_format == "US":
            read = _us_phone(trimmed)
        case "radio" | "dropdown":
            spelled = choice_spellings(field.choices)
            read = spelled.get(trimmed) or spelled.get(trimmed.lower())
        case "address":
            read = None
        case _:
            read = value if _short(value) else None
    return read


def choice_spellings(choices: tuple[str, ...]) -> dict[str, str]:
    """Mailchimp's spelling of each choice, by the spellings that mean it.

    The choice itself comes first; a spelling that two choices share means the first of them.
    """
    spelled = {choice.strip(BLANKS): choice for choice in reversed(choices)}
    for choice in choices:
        plain = choice.strip(BLANKS)
        for spelling in (plain.lower(), plain.upper(), plain.title(), plain.capitalize()):
            spelled.setdefault(spelling, choice)
    return spelled


@dataclass(frozen=True, slots=True)
class DateForm:
    """A way to write a date: a pattern, and which part (``y``, ``yy``, ``m``, ``d``) each group is.

    Groups after those are of no account.
    """

    pattern: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberForm:
    """A way to write numbers: a pattern, what stands between thousands, and the decimal mark."""

    pattern: str
    group: str
    mark: str


_ISO: Final = DateForm(
    f"^([0-9]{{4}})[-/]([0-9]{{1,2}})[-/]([0-9]{{1,2}}){_TIME}$", ("y", "m", "d")
)
_MONTH_DAY: Final = DateForm("^([0-9]{1,2})/([0-9]{1,2})$", ("m", "d"))
_TOKEN: Final = re.compile(r"YYYY|YY|MM|DD|M|D|[-./, ]+|.")
_PARTS: Final = {"YYYY": "y", "YY": "yy", "MM": "m", "M": "m", "DD": "d", "D": "d"}
_FIXED: Final = {"YYYY": "([0-9]{4})", "YY": "([0-9]{2})", "MM": "([0-9]{2})", "DD": "([0-9]{2})"}
_MAX_FORMAT: Final = 20

NUMBER_FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    "1234.56": ("", "."),
    "1,234.56": (",", "."),
    "1234,56": ("", ","),
    "1.234,56": (".", ","),
    "1 234,56": (" \u00a0\u202f", ","),
    "1'234.56": ("'\u2019", "."),
}
"""The formats of numbers: how 1234.56 is written; what may stand between thousands, and the mark."""


def format_problem(field_type: str, value_format: str) -> str | None:
    """Why a map may not name this format for a field of this type; None where it may."""
    if field_type == "number":
        if value_format in NUMBER_FORMATS:
            return None
        known = ", ".join(f'"{each}"' for each in NUMBER_FORMATS)
        return f"The format of a number field is one of {known}."
    if field_type not in ("date", "birthday"):
        return "Only fields of type date, birthday and number take a format."
    if _date_form(value_format, year=field_type == "date") is None:
        year = ", a year (YYYY or YY)" if field_type == "date" else ""
        return (
            f"The format of a {field_type} field has a day (DD or D), a month (MM or M){year}, and"
            " between them dots, hyphens, slashes, commas or blanks, such as DD.MM.YYYY. A time of day"
            " after the date is always ignored: leave it out."
        )
    return None


def date_forms(field_type: str, value_format: str | None) -> tuple[DateForm, ...]:
    """How the field's values are read: one after the other, the first that matches counts."""
    form = _date_form(value_format, year=field_type == "date") if value_format else None
    if form is not None:
        return (form,)
    return (_ISO,) if field_type == "date" else (_MONTH_DAY, _ISO)


def number_form(value_format: str | None) -> NumberForm:
    """How numbers are read."""
    group, mark = NUMBER_FORMATS.get(value_format or "", ("", "."))
    whole = "[0-9]{1,15}"
    if group:
        whole = f"({whole}|[0-9]{{1,3}}([{group}][0-9]{{3}}){{1,4}})"
    return NumberForm(f"^[+-]?{whole}([{mark}][0-9]{{1,20}})?$", group, mark)


@lru_cache(maxsize=256)
def _date_form(value_format: str, *, year: bool) -> DateForm | None:
    """The form that a format's tokens describe; None where they describe no date."""
    tokens = _TOKEN.findall(value_format) if len(value_format) <= _MAX_FORMAT else []
    pattern: list[str] = []
    parts: list[str] = []
    for place, token in enumerate(tokens):
        if token in _PARTS:
            around = (*tokens[max(0, place - 1) : place], *tokens[place + 1 : place + 2])
            touches = any(neighbour in _PARTS for neighbour in around)
            if touches and token not in _FIXED:
                return None  # without a width, nobody knows where it ends
            parts.append(_PARTS[token])
            short = not touches and _PARTS[token] in ("m", "d")
            pattern.append("([0-9]{1,2})" if short else _FIXED[token])
        elif token.strip("-./, "):
            return None
        else:
            pattern += [" *" if mark == " " else f"[{mark}]" for mark in token]
    wanted = ["d", "m"]
    named = sorted("y" if part == "yy" else part for part in parts)
    if named != [*wanted, "y"] and (year or named != wanted):
        return None
    return DateForm("^" + "".join(pattern) + _TIME + "$", tuple(parts))


def _matches(pattern: str, value: str) -> re.Match[str] | None:
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value)


def _short(value: str) -> bool:
    return len(value.encode()) <= MAX_BYTES


def _number(value: str, value_format: str | None) -> str | None:
    form = number_form(value_format)
    if not _matches(form.pattern, value):
        return None
    bare = "".join(c for c in value if c not in form.group).replace(form.mark, ".")
    number = Decimal(bare)
    return f"{abs(number) if not number else number:f}"


def _us_phone(value: str) -> str | None:
    digits = re.sub("[^0-9]", "", value)
    if not _matches(PHONE, value) or not _matches(PHONE_DIGITS, digits):
        return None
    digits = digits[-10:]
    return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"


_CENTURY_TURNS: Final = 69
"""Two digits of a year: 00 to 68 are of this century, 69 to 99 of the last one, as POSIX reads them."""
LEAP_YEAR: Final = 2000
"""The year of a day without one: 29 February is a birthday."""


def _date(value: str, forms: tuple[DateForm, ...]) -> str | None:
    """``YYYY-MM-DD``; None for what no form matches, or for a day that does not exist."""
    for form in forms:
        if found := _matches(form.pattern, value):
            given = {
                part: int(text) for part, text in zip(form.parts, found.groups(), strict=False)
            }
            year = given.get("y", LEAP_YEAR)
            if "yy" in given:
                year = given["yy"] + (2000 if given["yy"] < _CENTURY_TURNS else 1900)
            month, day = given["m"], given["d"]
            exists = year and 1 <= month <= 12 and 1 <= day <= _days(year, month)
            return f"{year:04d}-{month:02d}-{day:02d}" if exists else None
    return None


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
