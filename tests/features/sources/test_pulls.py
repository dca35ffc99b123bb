"""Pulls in every mode from every kind of database: what comes, what it costs, what stays."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest

from mcsync.features.sources import drivers, service
from mcsync.features.sources.drivers.url import read_url
from tests.features.sources.world import QUERY, PostgresHome, World, tally

LATER = "2026-11-21 08:00:00"


class TestFull:
    async def test_everything_comes_and_unchanged_rows_cost_nothing(self, world: World) -> None:
        await world.people(range(1, 701))
        await world.source()
        assert tally(await world.pulled()) == (700, 700, 0, 0, 0)
        assert await world.contacts("first_name") == [f"First{n}" for n in range(1, 701)]
        assert (await world.contacts("attributes"))[0] == '{"costCentre": "D1"}'
        before = await world.contacts("(version, changed_xid)")
        assert tally(await world.pulled()) == (700, 0, 0, 700, 0)
        assert await world.contacts("(version, changed_xid)") == before
        assert set(await world.contacts("source_id")) == {(await world.source_row())["id"]}

    async def test_one_bad_row_never_stops_the_pull(self, world: World) -> None:
        await world.people([1, 2, 3])
        await world.people([4], mail="nobody")
        await world.source()
        view = await world.pull()
        assert view.status == "succeeded_with_errors"
        assert view.report is not None
        assert tally(view.report.model_dump()) == (4, 3, 0, 0, 1)
        rejected = await world.onlooker.fetch(
            "select line, field, code from contact_import_rejections"
        )
        assert [tuple(row) for row in rejected] == [(4, "email", "invalid_email")]

    async def test_far_fewer_rows_delete_nobody(self, world: World) -> None:
        await world.people(range(1, 101))
        await world.source()
        await world.pulled()
        await world.home.run("delete from people where emp_no > 3")
        assert tally(await world.pulled()) == (3, 0, 0, 3, 0)
        await world.home.run("delete from people")
        assert tally(await world.pulled()) == (0, 0, 0, 0, 0)
        assert len(await world.contacts()) == 100

    async def test_the_dry_run_tells_and_changes_nothing(self, world: World) -> None:
        await world.people(range(1, 31))
        await world.people([31], mail="nobody")
        await world.source()
        found = await service.try_out(world.resources, world.actor, "HR")
        assert tally(found.counts) == (31, 30, 0, 0, 1)
        assert len(found.sample) == 10
        assert found.sample[0] == {
            "entityType": "employee", "entityId": "1", "email": "p1@nordlicht.example",
            "firstName": "First1", "attributes": {"costCentre": "D1"},
        }  # fmt: skip
        assert [(r["row"], r["code"]) for r in found.rejections] == [(31, "invalid_email")]
        assert found.ignored == ("updated_at",)
        assert await world.contacts() == []
        assert await world.onlooker.fetchval("select count(*) from contact_imports") == 0

    async def test_percent_signs_and_quotes_are_only_text(self, world: World) -> None:
        await world.people([1, 2])
        await world.source(query=QUERY + " where mail like 'p1%' and first <> 'it''s; %s'")
        assert tally(await world.pulled()) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
class TestSnapshot:
    async def test_who_is_absent_left_and_comes_back(self, world: World) -> None:
        await world.people(range(1, 41))
        await world.source(snapshot=True)
        assert (await world.pulled())["left"] == 0
        await world.home.run("delete from people where emp_no in (7, 8)")
        report = await world.pulled()
        assert (report["absent"], report["left"]) == (2, 2)
        assert await world.contacts(living=False) == ["7", "8"]
        await world.people([7])
        assert tally(await world.pulled()) == (39, 0, 1, 38, 0)
        assert await world.contacts(living=False) == ["8"]

    async def test_many_absent_wait_for_a_word(self, world: World) -> None:
        await world.people(range(1, 101))
        await world.source(snapshot=True)
        await world.pulled()
        await world.home.run("delete from people where emp_no > 70")
        held = await world.pull()
        assert held.status == "approval_needed"
        assert held.error is not None
        assert held.error.code == "approval_needed"
        assert held.report is not None
        assert (held.report.absent, held.report.left) == (30, 0)
        assert len(await world.contacts()) == 100
        assert (await world.source_row())["status"] == "approval_needed"
        report = await world.pulled(confirm_deletions=True)
        assert (report["absent"], report["left"]) == (30, 30)
        assert len(await world.contacts()) == 70
        assert (await world.source_row())["status"] == "ok"

    async def test_nothing_at_all_waits_however_few_there_are(self, world: World) -> None:
        await world.people([1, 2])
        await world.source(snapshot=True)
        await world.pulled()
        await world.home.run("delete from people")
        assert (await world.pull()).status == "approval_needed"
        assert len(await world.contacts()) == 2

    async def test_a_refused_row_is_still_somebody(self, world: World) -> None:
        await world.people([1, 2, 3])
        await world.source(snapshot=True)
        await world.pulled()
        await world.home.run("update people set mail = 'broken' where emp_no = 2")
        await world.home.run("insert into people (emp_no, mail) values (4, 'broken')")
        report = await world.pulled()
        # of a contact that is known the address is kept, and the rest of the row is taken
        assert (report["rejected"], report["absent"]) == (1, 0)
        assert await world.contacts() == ["1", "2", "3"]

    async def test_rows_of_nobody_hold_everybody(self, world: World) -> None:
        await world.people([1, 2, 3])
        query = "select case when emp_no = 2 then null else emp_no end as emp_no, mail from people"
        columns = {"entityId": "emp_no", "email": "mail"}
        await world.source(snapshot=True, columns=columns)
        await world.pulled()
        await world.source(name="odd", query=query, snapshot=True, columns=columns)
        await world.pulled("odd")  # the contacts are of this source now
        await world.home.run("update people set emp_no = 9 where emp_no = 3")
        view = await world.pull("odd")
        assert view.error is not None
        assert view.error.code == "unknown_rows"
        assert "3" in await world.contacts()

    async def test_only_contacts_of_this_source_are_its_business(self, world: World) -> None:
        await world.people([1, 2, 3])
        await world.source(name="all")
        await world.pulled("all")
        some = QUERY + " where emp_no < 3"
        await world.source(name="some", query=some, snapshot=True)
        report = await world.pulled("some")
        assert report["absent"] == 0
        await world.home.run("delete from people where emp_no = 2")
        assert (await world.pulled("some"))["left"] == 1
        assert await world.contacts() == ["1", "3"]


class TestWatermark:
    async def test_only_what_changed_comes(self, world: World) -> None:
        await world.people(range(1, 501))
        await world.source(mode="watermark", watermark_column="updated_at", overlap=60)
        assert tally(await world.pulled()) == (500, 500, 0, 0, 0)
        await world.home.run(
            f"update people set first = 'New', updated_at = '{LATER}' where emp_no in (5, 6, 7)"
        )
        await world.home.run(f"update people set updated_at = '{LATER}' where emp_no = 8")
        report = await world.pulled()
        # the first 500 all carry the last watermark: ties are read again, and cost no version
        assert tally(report) == (500, 0, 3, 497, 0)
        assert tally(await world.pulled()) == (4, 0, 0, 4, 0)
        assert await world.contacts("first_name", living=True) == [
            "New" if n in {5, 6, 7} else f"First{n}" for n in range(1, 501)
        ]

    async def test_a_row_committed_late_is_found_in_the_overlap(self, world: World) -> None:
        await world.people([1], at="2026-11-20 08:00:30")
        await world.source(mode="watermark", watermark_column="updated_at", overlap=60)
        await world.pulled()
        await world.people([2], at="2026-11-20 07:59:40")
        assert tally(await world.pulled()) == (2, 1, 0, 1, 0)
        await world.people([3], at="2026-11-20 07:59:00")
        assert tally(await world.pulled())[0] == 2

    async def test_rows_without_a_time_are_not_lost(self, world: World) -> None:
        await world.people([1])
        await world.source(mode="watermark", watermark_column="updated_at", overlap=0)
        await world.pulled()
        await world.home.run(
            "insert into people values (2, 'p2@nordlicht.example', 'Two', 'D', null)"
        )
        assert tally(await world.pulled()) == (2, 1, 0, 1, 0)

    @pytest.mark.parametrize(
        ("zone", "behind"), [("Pacific/Honolulu", timedelta(hours=10)), ("Asia/Tokyo", timedelta())]
    )
    async def test_the_present_of_postgresql_is_the_earlier_of_its_own_and_utc(
        self, postgres_home: PostgresHome, zone: str, behind: timedelta
    ) -> None:
        url = read_url(f"{postgres_home.url}?options=-c%20timezone%3D{zone}")
        async with drivers.reading(url, seconds=10) as reader:
            clock = await reader.clock()
        assert clock.naive == clock.aware.astimezone(UTC).replace(tzinfo=None) - behind

    async def test_a_time_in_the_future_hides_nothing(self, world: World) -> None:
        await world.people([1], at="2999-01-01 00:00:00")
        await world.source(mode="watermark", watermark_column="updated_at", overlap=600)
        await world.pulled()
        now = {"postgresql": "now()", "sqlite": "datetime('now')", "mysql": "utc_timestamp(6)"}
        await world.home.run(
            "insert into people values"
            f" (2, 'p2@nordlicht.example', 'Two', 'D', {now[world.home.kind]})"
        )
        assert tally(await world.pulled()) == (2, 1, 0, 1, 0)

    async def test_numbers_are_watermarks_too(self, world: World) -> None:
        await world.people(range(1, 11))
        await world.source(mode="watermark", watermark_column="emp_no", overlap=2)
        await world.pulled()
        await world.people([11, 12])
        assert tally(await world.pulled()) == (5, 2, 0, 3, 0)
        assert (await world.source_row())["watermark"] == '{"type": "int", "value": "12"}'

    async def test_it_never_goes_back_and_can_begin_anew(self, world: World) -> None:
        await world.people(range(1, 11))
        await world.source(mode="watermark", watermark_column="emp_no", overlap=3)
        await world.pulled()
        await world.home.run("delete from people where emp_no > 8")
        assert tally(await world.pulled()) == (2, 0, 0, 2, 0)
        assert (await world.source_row())["watermark"] == '{"type": "int", "value": "10"}'
        assert tally(await world.pulled(from_start=True)) == (8, 0, 0, 8, 0)


class TestQueue:
    @pytest.fixture(autouse=True)
    async def queue(self, world: World) -> None:
        key = "serial" if world.home.kind == "postgresql" else "integer"
        extra = " auto_increment" if world.home.kind == "mysql" else ""
        await world.home.run(f"create table queue (id {key}{extra} primary key, emp_no integer)")

    GIVEN: dict[str, Any] = {
        "mode": "queue",
        "query": "select q.id as queue_id, p.* from queue q join people p on p.emp_no = q.emp_no",
        "key_column": "queue_id",
        "acknowledge": "delete from queue where id = :key and 'a:key%' = 'a:key%'",
    }

    async def queued(self, world: World, *numbers: int) -> None:
        rows = ", ".join(f"({n})" for n in numbers)
        await world.home.run(f"insert into queue (emp_no) values {rows}")

    async def waiting(self, world: World) -> list[int]:
        return [row[0] for row in await world.home.ask("select emp_no from queue order by id")]

    async def test_rows_are_stored_then_acknowledged(self, world: World) -> None:
        await world.people(range(1, 11))
        await self.queued(world, 3, 4, 3)
        await world.source(**self.GIVEN)
        report = await world.pulled()
        assert tally(report) == (3, 2, 0, 1, 0)
        assert report["acknowledged"] == 3
        assert await self.waiting(world) == []
        assert await world.contacts() == ["3", "4"]
        assert tally(await world.pulled()) == (0, 0, 0, 0, 0)

    async def test_what_is_refused_stays_in_the_queue(self, world: World) -> None:
        await world.people([1, 2])
        await world.people([3], mail="nobody")
        await self.queued(world, 1, 3, 2)
        await world.source(**self.GIVEN)
        report = await world.pulled()
        assert (report["rejected"], report["acknowledged"]) == (1, 2)
        assert await self.waiting(world) == [3]
        await world.home.run("update people set mail = 'p3@nordlicht.example' where emp_no = 3")
        assert tally(await world.pulled()) == (1, 1, 0, 0, 0)
        assert await self.waiting(world) == []

    async def test_of_two_rows_about_one_person_the_newer_counts(self, world: World) -> None:
        await world.home.run(
            f"create table changes (id integer primary key, emp_no integer, mail {world.home.text})",
            "insert into changes values (1, 7, 'old@nordlicht.example'), (2, 7, 'new@nordlicht.example')",
        )
        await world.source(
            mode="queue", query="select id, emp_no, mail from changes", key_column="id",
            acknowledge="delete from changes where id = :key",
            columns={"entityId": "emp_no", "email": "mail"},
        )  # fmt: skip
        assert (await world.pulled())["acknowledged"] == 2
        assert await world.contacts("email") == ["new@nordlicht.example"]

    async def test_a_queue_that_cannot_be_told_is_read_again(self, world: World) -> None:
        await world.people([1])
        await self.queued(world, 1)
        given = {**self.GIVEN, "acknowledge": "delete from nowhere where id = :key"}
        await world.source(**given)
        view = await world.pull()
        assert view.status == "succeeded_with_errors"
        assert view.error is not None
        assert view.error.code == "not_acknowledged"
        assert await world.contacts() == ["1"]
        assert tally(await world.pulled()) == (1, 0, 0, 1, 0)
        assert await self.waiting(world) == [1]


@pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
class TestConsent:
    QUERY_WITH_CONSENT = (
        "select emp_no, mail, 'opted_out' as opt_status, 'form' as consent_source from people"
    )
    COLUMNS = {"entityId": "emp_no", "email": "mail"}

    async def test_many_withdrawals_wait_for_a_word(self, world: World) -> None:
        await world.people(range(1, 61))
        await world.source()
        await world.pulled()
        await world.source(name="out", query=self.QUERY_WITH_CONSENT, columns=self.COLUMNS)
        held = await world.pull("out")
        assert held.status == "approval_needed"
        assert held.error is not None
        assert held.error.code == "confirm_withdrawals"
        assert await world.onlooker.fetchval("select count(*) from email_preferences") == 0
        report = await world.pulled("out", confirm_withdrawals=True)
        assert report["opted_out"] == 60

    async def test_an_opt_in_that_is_not_newer_is_reported(self, world: World) -> None:
        await world.people([1])
        await world.source(name="out", query=self.QUERY_WITH_CONSENT, columns=self.COLUMNS)
        await world.pulled("out")
        query = "select emp_no, mail, 'opted_in' as opt_status, updated_at as consent_given_at from people"
        await world.source(name="in", query=query, columns=self.COLUMNS)
        report = await world.pulled("in")
        assert (report["opt_in_not_newer"], report["rejected"]) == (1, 0)
        status = await world.onlooker.fetchval("select status from email_preferences")
        assert status == "opted_out"
