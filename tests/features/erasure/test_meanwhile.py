"""What others do at the same moment: nothing of it brings the person back, nothing leaves a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.errors import NotFoundError
from mcsync.core.web.problems import problem_kind
from mcsync.features.connection import service as connection
from mcsync.features.contacts import staging
from mcsync.features.erasure.schemas import ErasureView
from mcsync.features.preferences import service as preferences
from mcsync.features.sync import accounting, calls, planner, recording
from mcsync.features.sync.pull import merge_and_record
from mcsync.features.sync.runs import Claimed
from mcsync.features.webhooks.work import work_off
from mcsync.mailchimp import Lane, MailchimpClient, subscriber_hash
from tests.features.erasure.acts import Acts, answers, targets
from tests.features.sync.conftest import Between
from tests.features.sync.test_orders import call_under_way
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
NAME = "Lovelacia"


class TestACallUnderWay:
    async def test_is_waited_for_and_what_it_brought_is_deleted(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        call = await call_under_way(world, ADA)
        asked = await acts.ask(person)

        seen = await acts.work(asked.id)

        (waiting,) = [t for t in targets(seen) if t.state == "open"]
        assert waiting.last_error == "call_under_way"
        assert answers(seen) == [404, 404]
        # it is applied only now
        await world.admin(ADA, "subscribe")
        assert (await acts.work(asked.id)).status == "open"
        await world.sql("update audience_calls set state = 'answered' where id = :id", id=call)
        done = await acts.work(asked.id, times=2)
        assert done.status == "done"
        assert answers(done) == [404, 204, 404] or answers(done) == [404, 404, 204]
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(ADA) == []

    async def test_of_which_nobody_hears_is_waited_for_two_minutes(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        await call_under_way(world, ADA)
        asked = await acts.ask(person)
        await world.wait(100)
        assert (await acts.work(asked.id)).status == "open"
        await world.wait(30)
        assert (await acts.work(asked.id)).status == "done"

    async def test_that_waits_for_its_slot_never_leaves(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        call = await call_under_way(world, ADA)
        await world.sql("update audience_calls set sent_at = null where id = :id", id=call)
        done = await acts.erase(person)
        assert done.status == "done"
        async with world.resources.db.transaction(world.org.id) as session:
            assert not await calls.mark_sent(session, call)

    async def test_of_an_order_is_waited_for(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.opt(person, "out")
        await world.sql("update audience_orders set lease_until = now() + interval '60 seconds'")
        asked = await acts.ask(person)
        assert (await acts.work(asked.id)).status == "open"
        await world.sql("update audience_orders set lease_until = null")
        done = await acts.work(asked.id)
        assert done.status == "done"
        assert await acts.traces(ADA) == []


class TestASyncOfThatVeryPerson:
    async def test_planned_before_is_dropped_before_it_is_sent(
        self, world: World, acts: Acts, before_push: Between
    ) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        segment = await world.segment()
        asked: list[ErasureView] = []

        async def ask() -> None:
            asked.append(await acts.ask(person))

        before_push(ask)
        run = await world.sync(segment)

        assert run.status == "succeeded"
        assert await world.statuses() == {"subscribed": 1}
        assert await acts.at_mailchimp(ADA) == []
        done = await acts.work(asked[0].id, times=2)
        assert done.status == "done"
        assert await acts.traces(ADA) == []
        await world.nothing_left(segment)

    @pytest.mark.parametrize("tag_in_answer", [True, False])
    async def test_answered_after_the_request(
        self, world: World, acts: Acts, monkeypatch: pytest.MonkeyPatch, tag_in_answer: bool
    ) -> None:
        """The call is at Mailchimp while the person is erased; its answer names them."""
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        segment = await world.segment()
        asked: list[ErasureView] = []
        send = MailchimpClient.batch_subscribe

        async def subscribe(self: MailchimpClient, *given: Any, **more: Any) -> Any:
            result = await send(self, *given, **more)
            if not asked:
                asked.append(await acts.ask(person))
                seen = await acts.work(asked[0].id)
                assert seen.status == "open", "the call is not answered"
            return result

        if not tag_in_answer:
            account = accounting.account

            def blind(
                rows: Sequence[Any], result: Any, tag: str, now: Any, **more: Any
            ) -> recording.Answer:
                return account(rows, result, f"not {tag}", now, **more)

            monkeypatch.setattr(accounting, "account", blind)
        monkeypatch.setattr(MailchimpClient, "batch_subscribe", subscribe)
        run = await world.sync(segment)

        assert run.status == "succeeded"
        done = await acts.work(asked[0].id, times=3)
        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(ADA) == []
        history = await world.sandbox.history(email=ADA)
        assert history[-1]["to_status"] == "deleted"

    async def test_that_goes_on_after_it_is_done_records_nothing(
        self, world: World, acts: Acts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker so slow that its call does not count any more: what it records is no trace."""
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.change(person, first_name="Augusta")
        done: list[ErasureView] = []
        record = recording.record

        async def late(session: AsyncSession, *given: Any, **more: Any) -> None:
            if not done:
                await world.wait(200)
                done.append(await acts.erase(person))
            await record(session, *given, **more)

        monkeypatch.setattr(recording, "record", late)
        await world.sync(segment)
        assert done
        assert await acts.traces(ADA) == []

    async def test_that_is_refused_meanwhile_keeps_no_refusal(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        run = await world.sync(await world.segment())
        claimed = await _claimed(world, run.id)
        row = calls.Row(
            1, UUID(subscriber_hash(ADA)), ADA, "add", "new", "absent", "subscribed", "", None, None,
            None, None, None, "", False,
        )  # fmt: skip
        await acts.erase(person)
        async with world.resources.db.transaction(world.org.id) as session:
            await recording.record(
                session, claimed, uuid4(), run.segment_id,
                [recording.Outcome(row, code="other", message="no")],
            )  # fmt: skip
        assert await acts.traces(ADA) == []


async def _claimed(world: World, run_id: UUID) -> Claimed:
    columns = ", ".join(field.name for field in fields(Claimed))
    (row,) = await world.sql(f"select {columns} from sync_runs where id = :id", id=run_id)
    return Claimed(*row)


class TestAPlanUnderWay:
    async def test_that_began_before_is_waited_for(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, last_name=NAME)
        lock = "select " + planner.PLAN_LOCK.format(try_="", shared="_shared")
        async with world.resources.db.transaction(world.org.id) as session:
            await session.execute(text(lock), {"org": str(world.org.id)})
            asked = await acts.ask(person)
            seen = await acts.work(asked.id)
            assert seen.status == "open"
            assert seen.last_error == "plan_under_way"
            assert seen.open_targets == 0
            # what it knew of the person
            await session.execute(
                text(
                    """insert into sync_changes (org_id, run_id, seq, email, address_hash, action,
                                                 reason, state)
                       values (:org, :run, 1, :email, :hash, 'add', 'new', 'planned')"""
                ),
                {"org": world.org.id, "run": uuid4(), "email": ADA,
                 "hash": UUID(subscriber_hash(ADA))},
            )  # fmt: skip
        done = await acts.work(asked.id)
        assert done.status == "done"
        assert await acts.traces(ADA, NAME) == []


class TestAPageReadBefore:
    async def test_brings_nothing_back(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        await world.sync(await world.segment())
        (audience,) = await world.sql(
            "select id from audiences where list_id = :list", list=world.list_id
        )
        client = await pull_client(world)
        page = await client.members_page(world.list_id)
        assert len(page.members) == 2
        await acts.erase(person)

        async with world.resources.db.transaction(world.org.id) as session:
            await merge_and_record(
                session, world.actor, audience.id, page.members, world.resources.hash_keys
            )

        assert await acts.traces(ADA) == []

    async def test_while_it_is_open_is_cleared_at_the_end(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        asked = await acts.ask(person)
        await world.sql("update audiences set high_water = null")
        await world.sync(segment)
        done = await acts.work(asked.id, times=2)
        assert done.status == "done"
        assert await acts.traces(ADA) == []
        assert await acts.at_mailchimp(ADA) == []


async def pull_client(world: World) -> MailchimpClient:
    return await connection.client_for(world.resources, world.org.id, lane=Lane.BULK)


class TestAPostOfMailchimpThatComesLate:
    async def test_leaves_nothing_once_it_is_worked(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        post = """insert into webhook_events (org_id, audience_id, endpoint_id, type, address_hash,
                                              email, dedupe)
                  select org_id, id, id, 'unsubscribe', :hash, :email, :dedupe from audiences
                  where list_id = :list"""
        given = {"hash": UUID(subscriber_hash(ADA)), "email": ADA, "list": world.list_id}
        await world.sql(post, dedupe=b"before", **given)
        await acts.erase(person)
        assert await acts.traces(ADA) == []
        await world.sql(post, dedupe=b"after", **given)
        (audience,) = await world.sql("select distinct audience_id as id from webhook_events")

        await work_off(world.resources, world.org.id, audience.id)

        assert await acts.traces(ADA) == []


class TestConsentOfTheSameMoment:
    async def test_either_comes_before_or_is_refused(self, world: World, acts: Acts) -> None:
        """Recorded in a transaction that commits while the erasure waits for the contact."""
        person = await world.contact(ADA, opted=None)
        async with world.resources.db.transaction(world.org.id) as session:
            await preferences.record(
                session, world.actor, entity_type="employee", entity_id=person, status="opted_out",
                effective_at=None, source=f"letter of {NAME}", proof={},
            )  # fmt: skip
            asking = asyncio.create_task(acts.ask(person))
            await asyncio.sleep(0.3)
            assert not asking.done()
        asked = await asking
        await acts.work(asked.id, times=2)
        assert await acts.traces(ADA, NAME, f'"{person}"') == []
        with pytest.raises(NotFoundError):
            await world.opt(person, "in")

    async def test_an_import_being_merged_is_waited_for(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        async with world.resources.db.transaction(world.org.id) as session:
            await staging.lock_merge(session)
            asking = asyncio.create_task(acts.ask(person))
            await asyncio.sleep(0.3)
            assert not asking.done()
        assert (await asking).status == "open"

    async def test_two_requests_at_once_are_one_erasure(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        asked = await asyncio.gather(*(acts.ask(person) for _ in range(4)))
        assert len({one.id for one in asked}) == 1


def test_an_erased_answer_has_a_page() -> None:
    assert problem_kind("answer_erased", 409).advice
