"""Values that a database can hold and Python cannot: the problem of their row, and of no other."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from mcsync.features.sources import drivers, service
from mcsync.features.sources.values import UNREADABLE, Highest
from tests.features.sources.world import World, tally

ODD = {
    "postgresql": [
        "'20000-01-01'::date", "'0044-03-15 BC'::date", "'infinity'::date", "'-infinity'::date",
        "'20000-01-01'::timestamp", "'0044-03-15 BC'::timestamp", "'infinity'::timestamp",
        "'20000-01-01'::timestamptz", "'0044-03-15 BC'::timestamptz", "'-infinity'::timestamptz",
        "'24:00'::time", "'24:00+02'::timetz", "'170000000 years'::interval", "'NaN'::numeric",
        "'NaN'::float8", "'-Infinity'::float8", "'\\xff'::bytea", "array['infinity'::date]",
        "array[1]", "'[2026-01-01,)'::daterange",
        "'1.2.3.4'::inet", "B'101'", "point(1, 2)",
    ],
    "sqlite": ["cast(x'ff' as text)", "cast(x'636166e9' as text)", "x'ff'", "9e999", "-9e999"],
    "mysql": [
        "cast('0000-00-00' as date)", "cast('0000-00-00 00:00:00' as datetime)",
        "cast('2026-00-00' as date)", "char(0xD800 using ucs2)", "x'ff'",
    ],
}  # fmt: skip
GOOD: dict[str, list[tuple[str, Any]]] = {
    "postgresql": [
        ("'9999-12-31'::date", "9999-12-31"), ("'0001-01-01'::date", "0001-01-01"),
        ("'2026-02-28 12:30:01.5'::timestamp", "2026-02-28T12:30:01.500000"),
        ("'2026-02-28 12:30:01+02'::timestamptz", "2026-02-28T10:30:01+00:00"),
        ("'9999-12-31 23:59:59.999999+00'::timestamptz", "9999-12-31T23:59:59.999999+00:00"),
        ("'23:59:59.5'::time", "23:59:59.500000"), ("'12:00+05:30'::timetz", "12:00:00+05:30"),
        ("'1 year 2 mons -3 days 4 hours'::interval", "422 days, 4:00:00"),
        ("'-14 mons'::interval", "-425 days, 0:00:00"),
        ("123456789012345678901234567890::numeric", "123456789012345678901234567890"),
        ("9223372036854775807", 9223372036854775807), ("'caf\u00e9'::text", "caf\u00e9"),
    ],
    "sqlite": [("'caf\u00e9'", "caf\u00e9"), ("9223372036854775807", 9223372036854775807), ("1.5", 1.5)],
    "mysql": [
        ("cast('2026-02-28' as date)", "2026-02-28"), ("18446744073709551615", "18446744073709551615"),
        ("cast('2026-02-28 12:30:01' as datetime)", "2026-02-28T12:30:01"),
        ("_utf8mb4'caf\u00e9'", "caf\u00e9"), ("cast('26:00:00' as time)", "1 day, 2:00:00"),
        ("cast(1.50 as decimal(5,2))", "1.50"),
    ],
}  # fmt: skip


def rows(expressions: list[str]) -> str:
    """A query of plain rows, and between them one row for each expression: 3, 5, 7..."""
    many = 2 * len(expressions) + 2
    numbers = " union all ".join(f"select {number} as n" for number in range(1, many + 1))
    cells = " ".join(f"when {2 * at + 3} then {one}" for at, one in enumerate(expressions))
    return (
        "select n as emp_no, concat('p', n, '@nordlicht.example') as mail,"
        f" case n {cells} end as odd from ({numbers}) numbers order by n"
    )


async def pulled(world: World, query: str, **given: Any) -> tuple[Any, list[tuple[int, str, str]]]:
    """The pull's view, and what it reports of lines."""
    columns = {"entityId": "emp_no", "email": "mail", "attributes.odd": "odd"}
    if world.home.kind == "sqlite":
        query = query.replace(
            "concat('p', n, '@nordlicht.example')", "'p' || n || '@nordlicht.example'"
        )
    await world.source(**{"query": query, "columns": columns, "check": False} | given)
    view = await world.pull(given.get("name", "hr"))
    reported = await world.onlooker.fetch(
        "select line, field, code from contact_import_rejections order by line"
    )
    return view, [tuple(row) for row in reported]


class TestARow:
    async def test_with_an_odd_value_is_reported_and_all_others_are_taken(
        self, world: World
    ) -> None:
        for number, expression in enumerate(ODD[world.home.kind]):
            view, reported = await pulled(world, rows([expression]), name=f"s{number}")
            assert view.status == "succeeded_with_errors", (expression, view.error)
            assert [(line, field) for line, field, _ in reported] == [(3, "attributes.odd")], (
                expression
            )
            assert reported[0][2] == "invalid_attribute" or "utf" in reported[0][2], expression
            assert tally(view.report.model_dump())[4] == 0
            assert await world.contacts() == ["1", "2", "3", "4"], expression
            await world.onlooker.execute(
                "delete from contact_import_rejections; delete from contacts"
            )

    async def test_with_an_odd_value_in_a_field_is_reported(self, world: World) -> None:
        for number, expression in enumerate(ODD[world.home.kind]):
            columns = {"entityId": "emp_no", "email": "mail", "department": "odd"}
            view, reported = await pulled(
                world, rows([expression]), columns=columns, name=f"s{number}"
            )
            assert view.status == "succeeded_with_errors", (expression, view.error)
            assert [(line, field) for line, field, _ in reported] == [(3, "department")], expression
            await world.onlooker.execute(
                "delete from contact_import_rejections; delete from contacts"
            )

    async def test_with_an_odd_value_in_a_column_that_feeds_nothing_is_taken(
        self, world: World
    ) -> None:
        for number, expression in enumerate(ODD[world.home.kind]):
            view, reported = await pulled(
                world, rows([expression]), name=f"s{number}",
                columns={"entityId": "emp_no", "email": "mail"},
            )  # fmt: skip
            assert (view.status, reported) == ("succeeded", []), expression
            assert await world.contacts() == ["1", "2", "3", "4"]

    async def test_with_a_rare_value_is_read_as_it_is(self, world: World) -> None:
        for number, (expression, read) in enumerate(GOOD[world.home.kind]):
            view, _ = await pulled(world, rows([expression]), name=f"s{number}")
            assert view.status == "succeeded", (expression, view.error)
            stored = await world.onlooker.fetchval(
                "select attributes -> 'odd' from contacts where entity_id = '3'"
            )
            assert stored == (f'"{read}"' if isinstance(read, str) else str(read)), expression
            await world.onlooker.execute("delete from contacts")

    async def test_is_shown_in_a_dry_run(self, world: World) -> None:
        await pulled(world, rows(ODD[world.home.kind][:1]))
        trial = await service.try_out(world.resources, world.actor, "hr")
        assert [one["row"] for one in trial.rejections] == [3]
        assert "(unreadable)" in str(trial.sample)


class TestAWatermark:
    """One odd value in the watermark's column hides no later change, and does not end the pull."""

    ODD_AND_LATER = {
        "postgresql": ("'infinity'", "timestamptz"),
        "sqlite": ("'n/a'", "text"),
        "mysql": ("'0000-00-00 00:00:00'", "datetime(6)"),
    }

    async def test_goes_on_past_an_odd_value(self, world: World) -> None:
        odd, _ = self.ODD_AND_LATER[world.home.kind]
        await world.people([1, 3])
        if world.home.kind == "mysql":
            await world.home.run("set session sql_mode = ''", f"insert into people values (2, 'p2@nordlicht.example', 'F', 'D', {odd})")  # fmt: skip
        else:
            await world.home.run(
                f"insert into people values (2, 'p2@nordlicht.example', 'F', 'D', {odd})"
            )
        await world.source(mode="watermark", watermark_column="updated_at")
        assert tally(await world.pulled())[1] == 3
        first = (await world.source_row())["watermark"]
        assert "2026-11-20" in first
        await world.people([4], at="2026-11-21 08:00:00")
        await world.pulled()
        assert await world.contacts() == ["1", "2", "3", "4"]
        assert "2026-11-21" in (await world.source_row())["watermark"]
        # only the odd row is read now: the watermark stays where it is
        await world.pulled()
        assert "2026-11-21" in (await world.source_row())["watermark"]

    @pytest.mark.parametrize(
        ("seen", "before", "reached"),
        [
            ([1, 3, 2], None, 3),
            ([1.0, float("nan"), Decimal("NaN"), 2.0], None, 2.0),
            (["2026-01-01 00:00:00", "n/a", "2026-01-02 00:00:00"], None, "2026-01-02 00:00:00"),
            (["n/a"], "2026-01-02 00:00:00", None),
            ([UNREADABLE, None], None, None),
            (
                [UNREADABLE, datetime(2026, 1, 2, tzinfo=UTC)],
                None,
                datetime(2026, 1, 2, tzinfo=UTC),
            ),
            (["a", "b", 3], 2, 3),
            ([UUID(int=1), UUID(int=2)], UUID(int=1), UUID(int=2)),
            ([date(2026, 1, 1), "0000-00-00"], date(2025, 1, 1), date(2026, 1, 1)),
            ([], None, None),
        ],
    )
    def test_is_the_highest_of_its_kind(self, seen: list[Any], before: Any, reached: Any) -> None:
        highest = Highest()
        for value in seen:
            highest.note(value)
        assert highest.reached(before) == reached

    @pytest.mark.parametrize("value", [True, [1], {}, timedelta(1), time(1)])
    def test_of_values_without_an_order_there_is_none(self, value: Any) -> None:
        highest = Highest()
        highest.note(value)
        with pytest.raises(TypeError):
            highest.reached(None)


class TestPostgres:
    async def test_text_in_no_encoding_is_its_rows_problem(
        self, postgres_world: World, _administrator: asyncpg.Connection,  # noqa: PT019
    ) -> None:  # fmt: skip
        """In a database that was made without an encoding."""
        world = postgres_world
        name = f"ascii_{world.org.id.hex}"
        await _administrator.execute(
            f"create database {name} encoding 'SQL_ASCII' template template0 locale 'C'"
        )
        try:
            url = world.home.url.rpartition("/")[0] + f"/{name}"
            query = rows(["E'caf\\xe9'", "'caf\u00e9'"])
            view, reported = await pulled(world, query, url=url)
            assert view.status == "succeeded_with_errors", view.error
            assert [line for line, _, _ in reported] == [3]
            stored = await world.onlooker.fetchval(
                "select attributes ->> 'odd' from contacts where entity_id = '5'"
            )
            assert stored == "caf\u00e9"
        finally:
            await _administrator.execute(f"drop database {name} with (force)")

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("date", date(2026, 2, 28)),
            ("timestamp", datetime(2026, 2, 28, 12, 30, 1, 5)),  # noqa: DTZ001
            ("timestamptz", datetime(2026, 2, 28, 12, 30, tzinfo=timezone(timedelta(hours=5)))),
            ("time", time(23, 59, 59, 7)),
            ("timetz", time(12, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
            ("interval", timedelta(days=-3, seconds=7, microseconds=9)),
        ],
    )
    async def test_a_parameter_reaches_the_query_as_it_is(
        self, postgres_world: World, kind: str, value: Any
    ) -> None:
        url = drivers.read_url(postgres_world.home.url)
        async with drivers.reading(url, seconds=10) as reader:
            await reader.open(f"select $1::{kind}, $1::{kind}::text", value)
            ((read, told),) = await reader.fetch(1)
        assert read == value
        assert told
