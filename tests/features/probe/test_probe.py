"""``mcsync probe``: it tells every position of every switch, keeps what it saw, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from mcsync.core.errors import BadRequestError, ConflictError, McsyncError, NotFoundError
from mcsync.features.connection import capabilities
from mcsync.features.connection.capabilities import Capabilities
from mcsync.features.connection.questions import BY_NAME, QUESTIONS
from mcsync.features.probe import experiments, service
from mcsync.features.probe.bench import Bench
from mcsync.features.probe.service import Report
from mcsync.sandbox.switches import SWITCHES
from tests.features.probe.positions import POSITIONS, Position, position
from tests.features.sync.conftest import Configure
from tests.features.sync.world import World

DOMAIN = "probe-domain.test"


async def probed(world: World, **options: Any) -> Report:
    async def pause() -> None:
        await world.wait(2)

    chosen: dict[str, Any] = {"domain": DOMAIN, "pause": pause} | options
    return await service.probe(world.resources, world.actor, **chosen)


def answers(report: Report) -> dict[str, str | None]:
    return {finding.question.name: finding.answer for finding in report.findings}


async def kept(world: World) -> Capabilities:
    return await service.known(world.resources, world.actor)


async def lists(world: World) -> set[str]:
    state = await world.sandbox.state()
    mine = next(account for account in state if account["apiKey"] == world.api_key)
    return {each["id"] for each in mine["lists"]}


async def unsubscribe_somebody(world: World) -> None:
    """A person of the first audience leaves, without a reason."""
    await world.sandbox.seed(world.list_id, 1, prefix="gone")
    await world.sandbox.person(world.list_id, "gone0@sandbox.test", "unsubscribe")


class TestQuestions:
    def test_the_sandbox_has_a_switch_for_each(self) -> None:
        told = {s.question for s in SWITCHES if not s.needs_person} | {"own_reason"}
        assert {question.name for question in QUESTIONS} == told
        assert set(experiments.EXPERIMENTS) == told

    @pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.question)
    def test_its_positions_are_the_answers(self, switch: Any) -> None:
        if question := BY_NAME.get(switch.question):
            assert set(question.answers) == set(switch.positions)

    def test_the_most_likely_position_is_assumed(self) -> None:
        for switch in SWITCHES:
            if switch.question in BY_NAME:
                assert BY_NAME[switch.question].assumed == switch.default


class TestEveryPosition:
    @pytest.mark.parametrize("position", [p for p in POSITIONS if p.question in BY_NAME], ids=str)
    async def test_is_told(self, world: World, configure: Configure, position: Position) -> None:
        await configure(**position.settings)
        if position.question == "own_reason":
            await unsubscribe_somebody(world)
        before, since = await lists(world), await world.sandbox.seq()
        report = await probed(world)
        expected = {q.name: q.assumed for q in QUESTIONS} | {"own_reason": None}
        assert answers(report) == expected | {position.question: position.answer}
        assert (report.leftovers, await lists(world)) == ((), before)
        known = await kept(world)
        assert known.answer(position.question) == position.answer
        differing = {} if position.default else {position.question: position.answer}
        assert known.differing == differing
        changes = await world.sandbox.history(list_id=report.audience_id, since=since)
        assert changes
        assert "pending" not in {change["to_status"] for change in changes}
        assert all(f"{DOMAIN}" in change["email"] for change in changes)


class TestKeeping:
    async def test_it_is_audited_and_a_second_probe_puts_right(
        self, world: World, configure: Configure
    ) -> None:
        await configure(**position("bulk_tags", "replaced").settings)
        await probed(world)
        assert not (await kept(world)).tags_in_rows
        await configure(**position("bulk_tags", "added").settings)
        await probed(world)
        assert (await kept(world)).tags_in_rows
        entries = await world.sql(
            "select diff from audit_entries where action = 'connection.probe' order by seq"
        )
        assert [entry.diff["changed"].get("bulk_tags") for entry in entries] == [
            [None, "replaced"],
            ["replaced", "added"],
        ]

    async def test_what_cannot_be_told_keeps_its_last_answer(
        self, world: World, configure: Configure
    ) -> None:
        await configure(**position("tag_change", "does_not_move").settings)
        await probed(world)
        await configure(fakePattern="probe-domain")
        report = await probed(world)
        assert set(answers(report).values()) == {None}
        words = ("looks fake", "nobody has unsubscribed")
        assert all(any(word in f.why for word in words) for f in report.findings)
        assert all(DOMAIN not in f.why for f in report.findings)
        assert not (await kept(world)).tags_move_last_changed

    async def test_another_organisation_knows_nothing_of_it(self, world: World) -> None:
        await probed(world)
        async with world.resources.db.transaction(world.org.id) as session:
            assert (await capabilities.known(session, "another")).seen_at is None


class TestANamedAudience:
    async def test_is_left_as_it_was(self, world: World) -> None:
        await world.sandbox.seed(world.list_id, 3, tag="theirs")
        before = await world.sandbox.dump(world.list_id)
        report = await probed(world, audience_id=world.list_id)
        assert report.audience_id == world.list_id
        assert await world.sandbox.dump(world.list_id) == before
        assert report.leftovers == ()
        async with httpx.AsyncClient(auth=("x", world.api_key)) as client:
            url = f"{world.resources.settings.mailchimp_url}/lists/{world.list_id}/tag-search"
            tags = (await client.get(url)).json()["tags"]
        assert [tag["name"] for tag in tags] == ["theirs"]

    async def test_answers_as_a_scratch_one(self, world: World, configure: Configure) -> None:
        await configure(asciiLowering=False, emailChangeNeedsSubscribed=False)
        report = await probed(world, audience_id=world.list_id)
        expected = {q.name: q.assumed for q in QUESTIONS}
        assert answers(report) == expected | {"own_reason": None, "email_change": "any_status"}
        assert await world.sandbox.dump(world.list_id) == []

    async def test_one_that_would_send_mail_is_refused(self, world: World) -> None:
        await world.sandbox.change_list(world.list_id, double_optin=True)
        with pytest.raises(ConflictError) as refused:
            await probed(world, audience_id=world.list_id)
        assert refused.value.code == "audience_sends_mail"
        assert await world.sandbox.dump(world.list_id) == []

    async def test_an_unknown_one_is_refused(self, world: World) -> None:
        with pytest.raises(NotFoundError) as refused:
            await probed(world, audience_id="0123456789")
        assert refused.value.code == "audience_not_found"


class TestGoingWrong:
    @pytest.mark.parametrize("domain", ["", "example", "a b.test", "x@y.test", "-.test"])
    async def test_what_is_no_domain(self, world: World, domain: str) -> None:
        with pytest.raises(BadRequestError) as refused:
            await probed(world, domain=domain)
        assert refused.value.code == "domain_invalid"

    async def test_a_plan_without_another_audience(
        self, world: World, configure: Configure
    ) -> None:
        await configure(mostLists=2)
        with pytest.raises(ConflictError) as refused:
            await probed(world)
        assert refused.value.code == "audience_not_made"
        assert "--audience" in refused.value.detail
        attention = await world.sql("select status from mailchimp_connections")
        assert [row.status for row in attention] == ["connected"]

    async def test_an_unreachable_mailchimp_leaves_a_question_open(self, world: World) -> None:
        await world.sandbox.fault("500", method="PATCH", times=40)
        report = await probed(world)
        told = answers(report)
        assert told["admin_reason"] is None
        assert told["plain_listing"] == "without_archived"

    async def test_a_lost_answer_leaves_no_audience(self, world: World) -> None:
        before = await lists(world)
        await world.sandbox.fault("504_after", method="POST", path="^/lists$")
        report = await probed(world)
        assert answers(report)["plain_listing"] == "without_archived"
        assert await lists(world) == before

    async def test_a_revoked_key_ends_it(self, world: World) -> None:
        async def revoke() -> None:
            await world.sandbox.revoke(world.api_key)

        told: list[str] = []
        with pytest.raises(McsyncError) as refused:
            await probed(world, pause=revoke, on_leftover=told.append)
        assert refused.value.code == "mailchimp_key_refused"
        assert "Delete it in Mailchimp" in told[0]

    async def test_an_interrupted_one_cleans_up(self, world: World) -> None:
        before = await lists(world)
        reached = asyncio.Event()

        async def hang() -> None:
            reached.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(probed(world, pause=hang))
        await reached.wait()
        assert len(await lists(world)) == len(before) + 1
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await lists(world) == before

    async def test_what_is_left_is_told(self, world: World) -> None:
        await world.sandbox.fault("403", method="DELETE", path=r"^/lists/\w+$")
        told: list[str] = []
        report = await probed(world, on_leftover=told.append)
        assert list(report.leftovers) == told
        assert report.audience_id in told[0]

    async def test_time_that_is_over_leaves_the_rest_open(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "LIMIT_SECONDS", 0.0)
        report = await probed(world)
        assert {finding.why for finding in report.findings} == {"there was no time left to ask"}
        assert report.leftovers == ()


def test_reasons_show_no_address() -> None:
    bench = Bench(None, "l", "corp.test", "t", None)  # type: ignore[arg-type]
    email = bench.address("x")
    with pytest.raises(Exception, match=r"no \(the address\) here"):
        bench.undecided(f"no {email} here")
