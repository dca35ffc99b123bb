"""What comes home from Mailchimp (``sync.md`` 2)."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from mcsync.core.errors import ConflictError
from mcsync.features.connection import service as connection
from mcsync.features.preferences import service as preferences
from mcsync.features.sync import pull
from mcsync.features.sync.endings import HandOver
from mcsync.features.sync.pull import Pull, audience_state, mark_after
from mcsync.mailchimp import Lane, iterate_members
from tests.features.sync.world import World, counted
from tests.support.rewriting import rewrite_answers

ADA = "ada@acme.example"


async def consent(world: World, person: str) -> tuple[str, str | None]:
    """Status and source of a contact's preference."""
    found = await preferences.get_for_entity(world.resources, world.actor, "employee", person)
    return found.status, found.source


async def mark(world: World) -> datetime:
    """How far the audience was read."""
    rows = await world.sql("select high_water from audiences where high_water is not null")
    assert isinstance(rows[0].high_water, datetime)
    return rows[0].high_water


async def to_read(world: World) -> int:
    """How many members the next pull reads."""
    members = await world.changed_since(await mark(world))
    return len(members)


class TestUnsubscribedByThePerson:
    @pytest.mark.parametrize("act", ["unsubscribe", "abuse"])
    async def test_is_a_withdrawal_of_every_contact_with_the_address(
        self, world: World, act: str
    ) -> None:
        first, second = await world.contact(ADA), await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, act)  # type: ignore[arg-type]

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await consent(world, first) == ("opted_out", "mailchimp")
        assert await consent(world, second) == ("opted_out", "mailchimp")

    async def test_reaches_the_organisations_other_audiences(self, world: World) -> None:
        await world.contact(ADA)
        here = await world.segment()
        there = await world.segment("There", audienceId=world.other_list_id)
        await world.sync(here)
        await world.sync(there)
        await world.person(ADA, "unsubscribe")
        await world.sync(here)

        await world.orders()

        assert await world.status(ADA, world.other_list_id) == "unsubscribed"

    @pytest.mark.parametrize("basis", ["consent", "legitimate_interest"])
    async def test_is_the_contacts_though_the_address_was_just_changed_here(
        self, world: World, basis: str
    ) -> None:
        person = await world.contact("old@acme.example", opted="in" if basis == "consent" else None)
        segment = await world.segment(legalBasis=basis)
        await world.sync(segment)
        await world.move(person, ADA)
        await world.person("old@acme.example", "unsubscribe")

        await world.sync(segment)

        assert await world.status(ADA) == "absent"
        assert await consent(world, person) == ("opted_out", "mailchimp")
        await world.nothing_left(segment)

    async def test_but_not_once_the_new_one_is_a_member_itself(self, world: World) -> None:
        person = await world.contact("old@acme.example")
        segment = await world.segment(onLeave="keep", optIn="double")
        await world.sync(segment)
        await world.person("old@acme.example", "confirm")
        await world.move(person, ADA)
        await world.sync(segment)
        assert await world.status(ADA) == "pending"
        await world.person("old@acme.example", "unsubscribe")

        await world.sync(segment)

        assert await world.status(ADA) == "pending"
        assert await consent(world, person) == ("opted_in", "console")

    async def test_holds_for_an_address_that_no_contact_has_any_more(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment(onLeave="keep")
        await world.sync(segment)
        await world.upsert(person, email="elsewhere@acme.example", department="Elsewhere")
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.upsert(person, email=ADA, department="Sales", optStatus="opted_in")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await world.status(ADA) == "unsubscribed"


class TestUnsubscribedByUsOrOthers:
    async def test_an_admins_unsubscribe_is_no_withdrawal(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "unsubscribe")

        run = await world.sync(segment)

        assert run.skipped_by_reason == {"unsubscribed_by_others": 1}
        assert await consent(world, person) == ("opted_in", "console")

    async def test_ours_is_read_back_as_ours(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.wait(days=8)  # a full pull

        await world.sync(segment)

        row = (await world.sql("select unsubscribed_by, unsubscribe_cause from audience_members"))[
            0
        ]
        assert (row.unsubscribed_by, row.unsubscribe_cause) == ("us", "withdrawal")
        assert await consent(world, person) == ("opted_out", "console")


class TestCleaned:
    async def test_is_a_bounce_of_the_address_not_of_the_contact(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "bounce")
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"cleaned": 1}
        assert await consent(world, person) == ("opted_in", "console")

        await world.upsert(person, email="ada.new@acme.example")
        await world.sync(segment)

        assert await world.status("ada.new@acme.example") == "subscribed"
        assert await world.status(ADA) == "cleaned"


class TestAddressChangedAtMailchimp:
    async def test_a_withdrawal_under_the_new_address_is_the_contacts(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="home@acme.example")
        assert counted(await world.sync(segment)) == {}
        await world.person("home@acme.example", "unsubscribe")
        await world.sync(segment)

        assert await consent(world, person) == ("opted_out", "mailchimp")

    async def test_our_withdrawal_reaches_the_new_address(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="home@acme.example")
        await world.sync(segment)
        await world.opt(person, "out")

        await world.orders()

        assert await world.status("home@acme.example") == "unsubscribed"

    async def test_changed_back_there_is_no_alias_left(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="home@acme.example")
        await world.sync(segment)
        await world.person("home@acme.example", "change_email", new_email=ADA)

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await world.sql("select 1 from audience_aliases") == []
        await world.nothing_left(segment)


class TestSubscribedAgain:
    async def test_by_a_form_after_a_withdrawal_there_is_an_opt_in(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.person(ADA, "resubscribe_form")

        run = await world.sync(segment)

        assert run.counts.unsubscribe == 0
        assert await consent(world, person) == ("opted_in", "mailchimp")
        assert await world.status(ADA) == "subscribed"

    async def test_by_a_form_after_a_withdrawal_here_is_one_too(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.sync(segment)
        await world.person(ADA, "subscribe_form")

        await world.sync(segment)

        assert await consent(world, person) == ("opted_in", "mailchimp")
        assert await world.status(ADA) == "subscribed"

    async def test_by_a_form_in_the_same_second_the_withdrawal_stands(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        before = await world.sql("select withdrawn_at from address_consents")
        await world.sandbox.person(world.list_id, ADA, "resubscribe_form")
        member = await world.member(ADA)
        assert member is not None

        await world.sync(segment)

        later = world.now().fromisoformat(member["timestampOpt"]) > before[0].withdrawn_at
        assert await consent(world, person) == (
            ("opted_in", "mailchimp") if later else ("opted_out", "mailchimp")
        )

    async def test_by_others_after_a_withdrawal_here_is_undone_and_reported(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.sync(segment)
        await world.admin(ADA, "subscribe")

        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("unsubscribe", "resubscribed_by_others")}
        assert await world.status(ADA) == "unsubscribed"
        assert await consent(world, person) == ("opted_out", "console")

    async def test_a_contact_who_withdrew_elsewhere_and_signs_up_under_the_new_address(
        self, world: World
    ) -> None:
        person = await world.contact("old@acme.example")
        await world.opt(person, "out")
        await world.upsert(person, email=ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "subscribe_form")

        await world.sync(segment)

        assert await consent(world, person) == ("opted_in", "mailchimp")
        assert await world.status(ADA) == "subscribed"

    async def test_an_address_without_a_contact_signs_up_again_and_is_left_alone(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.upsert(person, email="elsewhere@acme.example")
        await world.sync(segment)
        await world.person(ADA, "subscribe_form")

        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("untag", "left")}
        assert await world.status(ADA) == "subscribed"
        await world.nothing_left(segment)


class TestHowMuchIsRead:
    async def reads(self, world: World, since: int) -> list[str]:
        calls = await world.sandbox.calls(since=since)
        return [c["path"] for c in calls if c["path"].endswith("/members")]

    async def test_a_short_pull_asks_for_one_page_and_the_counts(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.sync(segment)
        since = await world.sandbox.seq()

        await world.sync(segment)

        assert len(await self.reads(world, since)) == 1 + 6

    async def test_a_difference_in_the_counts_triggers_a_full_pull(self, world: World) -> None:
        await world.contact(ADA)
        await world.person("other@acme.example", "subscribe_form")
        segment = await world.segment()
        await world.sync(segment)
        await world.admin("other@acme.example", "delete_permanent")
        before = await world.sql("select full_pull_at from audiences where high_water is not null")
        await world.wait()

        await world.sync(segment)

        after = await world.sql("select full_pull_at from audiences where high_water is not null")
        assert after[0].full_pull_at > before[0].full_pull_at
        gone = await world.sql("select status from audience_members where email is null")
        assert [row.status for row in gone] == ["absent"]

    async def test_so_does_a_week(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        before = await world.sql("select full_pull_at from audiences where high_water is not null")
        await world.wait(days=6.9)
        await world.sync(segment)
        same = await world.sql("select full_pull_at from audiences where high_water is not null")
        assert same == before
        await world.wait(days=0.2)
        await world.sync(segment)
        after = await world.sql("select full_pull_at from audiences where high_water is not null")
        assert after[0].full_pull_at > before[0].full_pull_at

    async def test_our_own_writes_do_not_move_the_mark(self, world: World) -> None:
        await world.person("other@acme.example", "subscribe_form")
        segment = await world.segment()
        await world.sync(segment)
        await world.wait(600)
        await world.contact(ADA)
        asked = world.now()
        await world.sync(segment)
        assert await mark(world) < asked - timedelta(seconds=600)
        await world.sync(segment)
        assert asked - timedelta(seconds=62) < await mark(world) <= asked

    async def test_a_push_is_not_read_again_and_again(self, world: World) -> None:
        await world.crowd(30)
        segment = await world.segment()
        await world.sync(segment)
        await world.wait(20)
        await world.person("other@acme.example", "subscribe_form")
        await world.sync(segment)
        assert await to_read(world) == 31  # all of the last minute, since some may be listed late
        await world.wait(61)
        await world.sync(segment)
        assert await to_read(world) == 1  # the newest second

    async def test_the_mirror_keeps_no_address_of_members_who_are_no_contacts(
        self, world: World
    ) -> None:
        await world.person("other@acme.example", "subscribe_form")
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.sync(segment)

        rows = await world.sql("select email from audience_members order by email nulls last")

        assert [row.email for row in rows] == [ADA, None]


class TestCutOff:
    """Deploys and crashes come faster than the end of a pull of a million members."""

    @pytest.fixture(autouse=True)
    def short_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pull, "iterate_members", partial(iterate_members, page_size=50))

    async def pull(self, world: World, pages: int | None = None) -> int:
        """Pulls the audience, cut off after so many pages; answers how many times it asked for one."""
        left = math.inf if pages is None else pages

        async def check() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise HandOver

        since = await world.sandbox.seq()
        async with world.resources.db.transaction(world.org.id) as session:
            (audience_id,) = await session.scalars(
                text("select id from audiences where list_id = :list"), {"list": world.list_id}
            )
            audience = await audience_state(session, audience_id)
        link = await connection.open_link(world.resources, world.org.id, lane=Lane.BULK)
        puller = Pull(world.resources, world.actor, link.client, check=check)
        with suppress(HandOver):
            await puller.bring_up_to_date(audience)
        calls = await world.sandbox.calls(since=since)
        return sum(c["path"].endswith("/members") for c in calls)

    async def fill(self, world: World) -> None:
        """Three pages of members, each of seconds of its own."""
        for start in range(0, 105, 35):
            await world.crowd(35, start=start, department=f"D{start}")
            segment = await world.segment(f"S{start}", filters={"department": [f"D{start}"]})
            await world.sync(segment)
            await world.wait(120)

    async def test_a_full_pull_goes_on_where_it_was(self, world: World) -> None:
        await self.fill(world)
        await world.sql("update audiences set high_water = null")
        whole = await self.pull(world)
        await world.sql("update audiences set high_water = null")
        await world.admin("c0@acme.example", "delete_permanent")

        await self.pull(world, pages=2)
        assert await self.pull(world) < whole - 1

        rows = await world.sql(
            "select count(*) n from audience_members where status = 'subscribed'"
        )
        assert rows[0].n == 104
        (state,) = await world.sql(
            "select full_pull_from, full_pull_to from audiences where high_water is not null"
        )
        assert tuple(state) == (None, None)

    async def test_and_meets_a_row_that_it_could_not_read_again(self, world: World) -> None:
        await self.fill(world)
        await world.sql("update audiences set high_water = null")

        def spoil(found: dict[str, Any]) -> None:
            if found.get("email_address") == "c0@acme.example":
                found["status"] = None

        rewrite_answers(world.resources.http, spoil)
        await self.pull(world, pages=2)
        await self.pull(world)

        rows = await world.sql(
            "select count(*) n from audience_members where status = 'subscribed'"
        )
        assert rows[0].n == 105, "the one that could not be read is not gone"

    async def test_a_short_pull_too(self, world: World) -> None:
        await self.fill(world)
        begun = world.now() - timedelta(days=1)
        await world.sql("update audiences set high_water = :then", then=begun)
        whole = await self.pull(world)
        await world.sql("update audiences set high_water = :then", then=begun)

        await self.pull(world, pages=2)

        assert await self.pull(world) < whole

    async def test_one_of_yesterday_begins_anew(self, world: World) -> None:
        await self.fill(world)
        await world.sql("update audiences set high_water = null")
        whole = await self.pull(world)
        await world.sql("update audiences set high_water = null")
        await self.pull(world, pages=2)
        await world.wait(days=1.1)
        assert await self.pull(world) == whole


class TestTheMark:
    NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("asked", "mark"),
        [(None, -60), (-300, -60), (0, -60), (1, -59), (45, -15), (59, -1), (60, -1), (9999, -1)],
    )
    def test_leaves_room_for_what_is_listed_late(self, asked: int | None, mark: int) -> None:
        """In seconds around the newest change read: when Mailchimp was asked, where the next pull begins."""
        when = None if asked is None else self.NOON + timedelta(seconds=asked)
        found = mark_after(self.NOON, when, overlap=timedelta(seconds=60))
        assert found == self.NOON + timedelta(seconds=mark)

    def test_reads_the_newest_second_again_whatever_the_overlap(self) -> None:
        found = mark_after(self.NOON, self.NOON, overlap=timedelta(0))
        assert found == self.NOON - timedelta(seconds=1)


class TestAList404:
    async def test_is_no_empty_list(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.sandbox.delete_list(world.list_id)

        run = await world.sync(segment)

        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "audience_gone"
        assert [r.status for r in await world.sql("select status from audience_members")] == [
            "subscribed"
        ]


class TestALaterOptInHere:
    async def test_an_opt_in_in_the_second_of_the_withdrawal_is_not_later(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        withdrawn = (await world.sql("select withdrawn_at from address_consents"))[0].withdrawn_at

        with pytest.raises(ConflictError):
            await world.opt(person, "in", at=withdrawn)
