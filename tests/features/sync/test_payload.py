"""The rules for one value, in Python and in SQL, are the same rules."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.elements import TextClause

from mcsync.features.audiences.field_values import BLANKS, NUMBER_FORMATS, sent_as
from mcsync.features.audiences.merge_map import Entry, Field
from mcsync.features.sync.payload import reading_sql
from tests.support.servers import Addresses

CHOICES = ("Lisbon", "lisbon", "Zürich", "IT & Ops", " Porto ")
FIELDS = {
    "DATE": Field("DATE", "", "date"),
    "DOTS": Field("DOTS", "", "date"),
    "SHORT": Field("SHORT", "", "date"),
    "TIGHT": Field("TIGHT", "", "date"),
    "BDAY": Field("BDAY", "", "birthday"),
    "BDMY": Field("BDMY", "", "birthday"),
    "SITE": Field("SITE", "", "dropdown", choices=CHOICES),
    "NOCH": Field("NOCH", "", "radio"),
    "PHONE": Field("PHONE", "", "phone", phone_format="US"),
    "INTL": Field("INTL", "", "phone", phone_format="International"),
    "ZIP": Field("ZIP", "", "zip"),
    "WEB": Field("WEB", "", "url"),
    "PIC": Field("PIC", "", "imageurl"),
    "TXT": Field("TXT", "", "text"),
    "ADR": Field("ADR", "", "address"),
    "N": Field("N", "", "number"),
} | {f"N{place}": Field(f"N{place}", "", "number") for place in range(len(NUMBER_FORMATS))}
FORMATS = {"DOTS": "DD.MM.YYYY", "SHORT": "M/D/YY", "TIGHT": "YYYYMMDD", "BDMY": "DD/MM"} | {
    f"N{place}": known for place, known in enumerate(NUMBER_FORMATS)
}
MAP: dict[str, Entry] = {
    tag: {"from": "attributes.v", "format": FORMATS[tag]} if tag in FORMATS else "attributes.v"
    for tag in FIELDS
}

_two = st.integers(0, 40).map(lambda n: f"{n:02d}")
_year = st.sampled_from(["0000", "0001", "1900", "2000", "2023", "2024", "9999", "24", "69", "68"])
_date = st.builds(
    lambda parts, marks, time: f"{parts[0]}{marks}{parts[1]}{marks}{parts[2]}{time}",
    st.one_of(
        st.tuples(_year, _two, _two),
        st.tuples(_two, _two, _year),
        st.tuples(st.integers(0, 13).map(str), st.integers(0, 32).map(str), _year),
    ),
    st.sampled_from(["-", "/", ".", ""]),
    st.sampled_from(
        ["", " ", "T08:00:00Z", " 08:00:00+02", " 8:00 PM", "T08:00:00.123456+05:30", ", 08:00",
         "T08:00:00+02:00[Europe/Berlin]", " BC", " 00:00:00 UTC", "T", "T8"]
    ),
)  # fmt: skip
_birthday = st.builds(lambda a, b, m: f"{a}{m}{b}", _two, _two, st.sampled_from("/.-"))
_number = st.text("0123456789.,' \u00a0\u202f\u2019+-", max_size=22)
_phone = st.text("0123456789 ()+-./x", max_size=18)
_choice = st.builds(
    lambda choice, turn: turn(choice),
    st.sampled_from(CHOICES),
    st.sampled_from([str, str.lower, str.upper, str.title, str.swapcase, str.strip]),
)
_url = st.builds(
    lambda a, b, c: f"{a}{b}{c}",
    st.sampled_from(["http://", "HTTPS://", "ftp://", "//", ""]),
    st.sampled_from(["acme.test", "acme", "a.b.c", "acme.test:8080", ".", "a b.c"]),
    st.sampled_from(["", "/", "/x y", "?q=1", "#f", "/" + "x" * 250]),
)
_zip = st.text("0123456789-", min_size=4, max_size=11)
_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0", max_codepoint=0x2FFF),
    max_size=300,
)
VALUES = st.builds(
    lambda before, value, after: f"{before}{value}{after}",
    st.sampled_from(["", " ", "\u00a0", "\t\n"]),
    st.one_of(_date, _birthday, _number, _phone, _choice, _url, _zip, _text, st.text(BLANKS)),
    st.sampled_from(["", " ", "\u00a0", "\n"]),
)


def _positional(statement: TextClause, params: dict[str, Any]) -> tuple[str, list[Any]]:
    compiled = statement.bindparams(**params).compile(
        dialect=PGDialect_asyncpg(),  # type: ignore[no-untyped-call]
        compile_kwargs={"render_postcompile": True},
    )
    assert compiled.positiontup is not None
    return str(compiled), [compiled.params[name] for name in compiled.positiontup]


def _told(read: Any) -> str | None:
    return None if read is None else str(read)


def test_sql_and_python_read_every_value_alike(servers: Addresses) -> None:
    expression, params = reading_sql(MAP, FIELDS, alias="w")
    statement = text(
        f"select {expression} from (select jsonb_build_object('v', x) as attributes"
        " from unnest(cast(:values as text[])) with ordinality as u(x, n)) w"
    )

    @settings(max_examples=150, deadline=None)
    @given(values=st.lists(VALUES, min_size=1, max_size=30))
    def alike(values: list[str]) -> None:
        sql, arguments = _positional(statement, {**params, "values": values})
        rows = loop.run_until_complete(connection.fetch(sql, *arguments))
        for value, row in zip(values, rows, strict=True):
            read = json.loads(row[0], parse_int=str, parse_float=str)
            python = {tag: sent_as(field, value, FORMATS.get(tag)) for tag, field in FIELDS.items()}
            assert {tag: _told(each) for tag, each in read.items()} == python

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(servers.superuser_url("postgres")))
    try:
        alike()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()
