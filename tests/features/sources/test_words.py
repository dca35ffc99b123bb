"""What can be judged without a database: SQL, URLs, mappings, watermarks."""

# ruff: noqa: DTZ001 - databases have times without a zone
from __future__ import annotations

import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mcsync.core.errors import BadRequestError
from mcsync.features.sources import mapping, statements, values
from mcsync.features.sources.drivers.url import read_url
from mcsync.features.sources.statements import Kind


class TestQueries:
    @pytest.mark.parametrize(
        "sql",
        [
            "select 1",
            "SELECT * FROM people;",
            "  -- a comment; with a semicolon\nselect 'delete; from x' as a /* update */ from t ; -- end",
            "with a as (select 1) select * from a",
            'select "update", updated_at, deleted from t',
            "select replace(name, 'a', 'b') from t where x = 'it''s'",
        ],
    )
    def test_one_that_reads_is_taken(self, sql: str) -> None:
        for kind in ("postgresql", "mysql", "sqlite"):
            assert ";" not in statements.check_query(sql, kind).replace("'delete; from x'", "")

    @pytest.mark.parametrize(
        "sql",
        [
            "",
            " ; ",
            "-- nothing",
            "select 1; select 2",
            "select 1; drop table people",
            "update people set x = 1",
            "with gone as (delete from people returning *) select * from gone",
            "select * into copy_of from people",
            "select * from people for update",
            "select * from people into outfile '/tmp/x'",
            "call everything()",
            "explain analyze delete from people",
            "select pg_terminate_backend(1)",
            "select dblink_exec('...', 'drop table x')",
            "select load_extension('x')",
            "select 'never closed from people",
            "select /*! delete from people */ 1",
            "select 1 /*! ; drop table x */",
            "attach 'x' as y",
            "select \0",
        ],
    )
    @pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite"])
    def test_any_other_is_refused(self, kind: Kind, sql: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            statements.check_query(sql, kind)
        assert caught.value.code == "invalid_source_query"

    def test_each_dialect_has_its_own_quotes(self) -> None:
        assert statements.check_query("select $q$ ; delete $q$", "postgresql")
        assert statements.check_query(r"select 'it\'s; delete'", "mysql")
        assert statements.check_query("select 1 # ; delete", "mysql") == "select 1"
        with pytest.raises(BadRequestError):
            statements.check_query(r"select '\'; delete from x; --'", "sqlite")

    def test_keys_are_found_outside_of_texts(self) -> None:
        given = "update q set a = ':key 100%', b = x::key_type where id = :key"
        assert statements.check_acknowledge(given, "mysql") == given
        assert statements.with_keys(given, "mysql", lambda: "%s") == (
            "update q set a = ':key 100%%', b = x::key_type where id = %s"
        )
        for wrong in ("delete from q", "delete from q where id = ':key'", "drop table q -- :key",
                      "delete from q where id = :key; drop table q"):  # fmt: skip
            with pytest.raises(BadRequestError):
                statements.check_acknowledge(wrong, "postgresql")

    def test_names_cannot_break_out(self) -> None:
        assert statements.quoted('a"b', "postgresql") == '"a""b"'
        assert statements.quoted("a`b", "sqlite") == "`a``b`"


class TestUrls:
    @pytest.mark.parametrize(
        ("raw", "kind", "place"),
        [
            ("postgres://u:p%40ss@db.example/people", "postgresql", "db.example/people"),
            (
                "postgresql+asyncpg://u@db.example:6432/people",
                "postgresql",
                "db.example:6432/people",
            ),
            ("mariadb://u:p@10.1.2.3/hr?ssl-mode=REQUIRED", "mysql", "10.1.2.3/hr"),
            ("sqlite:////srv/hr/people.db", "sqlite", "file/people.db"),
        ],
    )
    def test_only_host_and_database_are_shown(self, raw: str, kind: str, place: str) -> None:
        url = read_url(raw)
        assert (url.kind, url.place) == (kind, place)
        assert "p%40ss" not in repr(url)
        assert "p@ss" not in repr(url)

    @pytest.mark.parametrize(
        "raw",
        ["", "people", "oracle://canary:canary@x/y", "mysql://canary@/db", "postgresql://canary",
         "sqlite:///canary.db", "sqlite://canary/x.db", "mysql://u:canary@h:99999/db",
         "postgresql://u:canary@[h/db", "sqlite:////x.db?mode=canary", "mysql://u:canary@h/d%00b"],
    )  # fmt: skip
    def test_a_wrong_one_is_refused_without_repeating_it(self, raw: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            read_url(raw)
        assert caught.value.code == "invalid_source_url"
        assert "canary" not in caught.value.detail
        assert caught.value.__cause__ is None


CLOCK = values.Clock(datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(2026, 11, 23, 6))


class TestWatermarks:
    @pytest.mark.parametrize(
        "value",
        [7, -1, 2**70, 1.5, Decimal("12.340"), "x", datetime(2026, 1, 2, 3, 4, 5, 6),
         datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), b"\x00\xff", UUID(int=5)],
    )  # fmt: skip
    def test_a_value_comes_back_as_it_was(self, value: Any) -> None:
        back = values.unpack(values.pack(value))
        assert back == value
        assert type(back) is type(value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (datetime(2026, 11, 23, 5, 0, 30), datetime(2026, 11, 23, 4, 59, 30)),
            (date(2026, 11, 23), date(2026, 11, 22)),
            (100, 40),
            ("2026-11-23 05:00:30", "2026-11-23 04:59:30"),
            ("2026-11-23T05:00:30.250Z", "2026-11-23T04:59:30"),
            ("2026-11-23", "2026-11-21"),
            ("v17", "v17"),
        ],
    )
    def test_the_overlap_reaches_back(self, value: Any, expected: Any) -> None:
        assert values.less(value, 60) == expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (datetime(2999, 1, 1, tzinfo=UTC), CLOCK.aware),
            (datetime(2999, 1, 1), CLOCK.naive),
            (date(2999, 1, 1), date(2026, 11, 23)),
            ("2999-01-01 00:00:00.000", "2026-11-23 06:00:00"),
            ("2999-01-01", "2026-11-23"),
            ("2026-11-23 05:00:00", "2026-11-23 05:00:00"),
            (10**12, 10**12),
        ],
    )
    def test_nothing_lies_ahead(self, value: Any, expected: Any) -> None:
        assert values.not_ahead(value, CLOCK) == expected

    @pytest.mark.parametrize(
        ("zone", "naive"),
        [("UTC-9", datetime(2026, 11, 23, 6)), ("UTC+10", datetime(2026, 11, 22, 20))],
    )
    def test_without_a_zone_the_present_is_the_earlier_of_local_and_utc(
        self, zone: str, naive: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A later one would hide the changes of the hours between after one time in the future."""
        with monkeypatch.context() as patched:
            patched.setenv("TZ", zone)
            time.tzset()
            clock = values.utc_clock(datetime(2026, 11, 23, 6, tzinfo=UTC))
        time.tzset()
        assert (clock.aware, clock.naive) == (datetime(2026, 11, 23, 6, tzinfo=UTC), naive)


class TestMappings:
    def test_names_map_themselves_unless_told_otherwise(self) -> None:
        stored = mapping.checked_mapping(
            {"attributes.Cost": "cc", "E-Mail": "mail"}, {"entitytype": "Vendor"}
        )
        assert stored == {
            "columns": {"attributes.Cost": "cc", "email": "mail"},
            "constants": {"entityType": "vendor"},
        }
        plan = mapping.lay_over(
            stored,
            ["entity_id", "MAIL", "email", "cc", "First Name", "at", "rest"],
            frozenset({"at"}),
        )
        assert dict(plan.fields) == {"email": 1, "entityId": 0, "firstName": 4}
        assert plan.attributes == (("Cost", 3),)
        assert plan.ignored == ("email", "rest")

    @pytest.mark.parametrize(
        ("columns", "constants"),
        [
            ({"email": "a", "Email": "b"}, {}),
            ({"email": "a"}, {"email": "x@y.example"}),
            ({}, {"entityId": "7"}),
            ({}, {"entityType": "robot"}),
            ({"attributes.": "a"}, {}),
            ({"email": ""}, {}),
        ],
    )
    def test_a_wrong_one_is_refused(
        self, columns: dict[str, str], constants: dict[str, str]
    ) -> None:
        with pytest.raises(BadRequestError) as caught:
            mapping.checked_mapping(columns, constants)
        assert caught.value.code == "invalid_source_mapping"

    @pytest.mark.parametrize(
        ("cell", "text", "attribute"),
        [
            (None, None, None),
            (7, "7", 7),
            (2**64, str(2**64), str(2**64)),
            (True, "true", True),
            (1.0, "1", 1.0),
            (Decimal("1E+3"), "1000", "1000"),
            (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00", "2026-01-02T03:00:00"),
            (b"abc", "abc", "abc"),
            (UUID(int=1), str(UUID(int=1)), str(UUID(int=1))),
        ],
    )
    def test_cells_become_text(self, cell: Any, text: str | None, attribute: Any) -> None:
        assert mapping.as_text(cell) == text
        assert mapping.as_attribute(cell) == attribute

    @pytest.mark.parametrize(
        "cell",
        [
            [1],
            {},
            values.UNREADABLE,
            float("nan"),
            float("-inf"),
            Decimal("NaN"),
            Decimal("Infinity"),
        ],
    )
    def test_what_is_no_text_is_refused(self, cell: Any) -> None:
        with pytest.raises(TypeError):
            mapping.as_text(cell)
        assert not isinstance(mapping.as_attribute(cell), str | int | float | None)
