"""What is sent of a contact: the audience's merge fields, as SQL over the contact's columns.

The rules are those of ``audiences.field_values``, stated in SQL with its patterns and tables. A value that a
field does not take is JSON null in what :func:`reading_sql` answers: it is not sent, so that Mailchimp keeps
what it has. ``""`` clears: only an empty value is that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcsync.features.audiences import field_values
from mcsync.features.audiences.field_values import DateForm
from mcsync.features.audiences.merge_map import (
    ATTRIBUTE_PREFIX,
    Field,
    MergeMap,
    format_of,
    source_of,
)

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

_MOST_PAIRS = 40  # PostgreSQL functions take at most 100 arguments
_EMPTY = "'\"\"'::jsonb"


class _Values:
    """The expressions of one payload, and their parameters, all named ``pay_*``."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.params: dict[str, Any] = {}

    def text(self, name: str, value: str) -> str:
        """A text parameter, as SQL."""
        self.params[f"pay_{name}"] = value
        return f"cast(:pay_{name} as text)"

    def source(self, number: int, source: str) -> str:
        """The contact's value as text. Raises ``ValueError`` for a source that does not exist."""
        if source in COLUMNS:
            return f"{self.alias}.{COLUMNS[source]}"
        if source.startswith(ATTRIBUTE_PREFIX):
            key = self.text(f"key{number}", source.removeprefix(ATTRIBUTE_PREFIX))
            return f"({self.alias}.attributes ->> {key})"
        message = "a merge-field map names a source that does not exist"
        raise ValueError(message)

    def reading(self, number: int, value: str, field: Field, value_format: str | None) -> str:
        """A jsonb expression for a text one: what is sent, ``\"\"`` where empty, null where not taken."""
        blanks = self.text("blanks", field_values.BLANKS)
        match field.type:
            case "number":
                read = self._number(number, value_format)
            case "date" | "birthday":
                read = self._date(number, field.type, value_format)
            case "zip":
                zips = self.text("zip", field_values.ZIP)
                read = f"case when t ~ {zips} then to_jsonb(left(t, 5)) end"
            case "url" | "imageurl":
                urls = self.text("url", field_values.URL)
                read = (
                    f"case when t ~ {urls} and octet_length(t) <= {field_values.MAX_BYTES} "
                    "then to_jsonb(t) end"
                )
            case "phone" if field.phone_format == "US":
                read = self._us_phone()
            case "radio" | "dropdown":
                spelled = field_values.choice_spellings(field.choices)
                known = self.text(f"choices{number}", json.dumps(spelled, ensure_ascii=False))
                read = f"coalesce(c -> t, c -> lower(t)) from (select {known}::jsonb as c) k"
            case "address":
                return self._address(number, value)
            case _:
                return (
                    f"case when btrim(coalesce({value}, ''), {blanks}) = '' then {_EMPTY} "
                    f"when octet_length({value}) > {field_values.MAX_BYTES} then 'null'::jsonb "
                    f"else to_jsonb({value}) end"
                )
        return (
            f"(select case when t = '' then {_EMPTY} else coalesce((select {read}), 'null') end "
            f"from (select btrim(coalesce({value}, ''), {blanks}) as t) v)"
        )

    def _number(self, number: int, value_format: str | None) -> str:
        form = field_values.number_form(value_format)
        pattern = self.text(f"number{number}", form.pattern)
        bare = "t"
        if form.group:
            bare = f"translate({bare}, {self.text(f'group{number}', form.group)}, '')"
        if form.mark != ".":
            bare = f"translate({bare}, {self.text(f'mark{number}', form.mark)}, '.')"
        return f"case when t ~ {pattern} then to_jsonb(({bare})::numeric) end"

    def _date(self, number: int, kind: str, value_format: str | None) -> str:
        """The first form that matches counts, also where its day does not exist."""
        cases = []
        for place, form in enumerate(field_values.date_forms(kind, value_format)):
            pattern = self.text(f"date{number}_{place}", form.pattern)
            cases.append(f"when t ~ {pattern} then {_day(form, pattern, kind)}")
        return f"case {' '.join(cases)} end"

    def _us_phone(self) -> str:
        phone = self.text("phone", field_values.PHONE)
        digits = self.text("phone_digits", field_values.PHONE_DIGITS)
        return (
            f"case when t ~ {phone} and d ~ {digits} then to_jsonb('(' || substr(right(d, 10), 1, 3) "
            "|| ') ' || substr(right(d, 10), 4, 3) || '-' || right(d, 4)) end "
            "from (select regexp_replace(t, '[^0-9]', '', 'g') as d) p"
        )

    def _address(self, number: int, value: str) -> str:
        """All four or nothing (MC 5): only a JSON object can carry them."""
        empty = f"btrim(coalesce({value}, ''), {self.text('blanks', field_values.BLANKS)}) = ''"
        if f"pay_key{number}" not in self.params:  # a column is no object
            return f"case when {empty} then {_EMPTY} else 'null'::jsonb end"
        whole = f"{self.alias}.attributes -> cast(:pay_key{number} as text)"
        complete = " and ".join(
            f"coalesce({whole} ->> '{part}', '') <> ''" for part in field_values.ADDRESS_PARTS
        )
        return (
            f"case when {empty} then {_EMPTY} "
            f"when jsonb_typeof({whole}) = 'object' and {complete} then {whole} "
            "else 'null'::jsonb end"
        )


def _day(form: DateForm, pattern: str, kind: str) -> str:
    """The day that a text ``t`` of this form names, as Mailchimp takes it; null where there is none."""
    at = {part: f"m[{place}]::int" for place, part in enumerate(form.parts, start=1)}
    year = at.get("y", str(field_values.LEAP_YEAR))
    if "yy" in at:
        turn = field_values.CENTURY_TURNS
        year = f"{at['yy']} + case when {at['yy']} < {turn} then 2000 else 1900 end"
    shown = "lpad(mo::text, 2, '0') || '{}' || lpad(d::text, 2, '0')"
    if kind == "date":
        sent = f"lpad(y::text, 4, '0') || '-' || {shown.format('-')}"
    else:
        sent = shown.format("/")
    return f"""(select to_jsonb({sent}) from (
        select {year} as y, {at["m"]} as mo, {at["d"]} as d from regexp_match(t, {pattern}) m) p
        where y > 0 and mo between 1 and 12 and d between 1 and case
            when mo = 2 and y % 4 = 0 and (y % 100 <> 0 or y % 400 = 0) then 29
            when mo = 2 then 28 when mo in (4, 6, 9, 11) then 30 else 31 end)"""


def reading_sql(
    merge_map: MergeMap, fields: Mapping[str, Field], *, alias: str
) -> tuple[str, dict[str, Any]]:
    """A jsonb expression ``{TAG: value}`` with every mapped tag, and its parameters.

    A value is ``\"\"`` where the contact has none, and JSON null where the field does not take it.
    ``fields``: those of Mailchimp by tag; one that is not among them takes any text. Raises ``ValueError``
    for a source that does not exist.
    """
    values = _Values(alias)
    parts: list[str] = []
    for number, (tag, entry) in enumerate(sorted(merge_map.items())):
        name = values.text(f"tag{number}", tag)
        value = values.source(number, source_of(entry))
        field = fields.get(tag) or Field(tag, tag, "text")
        parts.append(f"{name}, {values.reading(number, value, field, format_of(entry))}")
    return _objects(parts), values.params


def source_sql(merge_map: MergeMap, *, alias: str) -> tuple[str, dict[str, Any]]:
    """A jsonb expression ``{TAG: text}`` of the contact's own values, as they are, and its parameters."""
    values = _Values(alias)
    parts = [
        f"{values.text(f'tag{number}', tag)}, {values.source(number, source_of(entry))}"
        for number, (tag, entry) in enumerate(sorted(merge_map.items()))
    ]
    return _objects(parts), values.params


def _objects(parts: list[str]) -> str:
    built = [
        f"jsonb_build_object({', '.join(parts[at : at + _MOST_PAIRS])})"
        for at in range(0, len(parts), _MOST_PAIRS)
    ]
    return "(" + (" || ".join(built) or "'{}'::jsonb") + ")"
