"""The six-hourly rounds: few calls, one organisation's trouble its own, nothing lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from mcsync.core.auth import Actor
from mcsync.core.jobs import ring_due
from mcsync.core.resources import Resources
from mcsync.features.campaigns import dispatch, jobs, refresh, repository
from mcsync.features.campaigns import service as campaigns
from mcsync.features.campaigns.refresh import Outcome
from mcsync.features.connection import service as connection
from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org, make_organisation
from tests.support.sandbox import ALL_STAFF, SandboxControl

HOUR, DAY = 3600, 86_400


async def due(resources: Resources, org: Org) -> None:
    """A round is due now."""
    async with resources.db.transaction(org.id) as session:
        await session.execute(
            text(
                """insert into campaign_refreshes (org_id, due_at, next_attempt_at)
                   values (:org, now(), clock_timestamp())
                   on conflict (org_id) do update set next_attempt_at = clock_timestamp()"""
            ),
            {"org": org.id},
        )


async def round_of(resources: Resources, org: Org) -> Outcome:
    """Makes a round due and carries it out."""
    await due(resources, org)
    outcome = await refresh.work_on(resources, org.id, stopping=asyncio.Event())
    assert outcome is not None
    return outcome


async def track_all(
    resources: Resources, org: Org, mailchimp: SandboxControl, made: list[Any]
) -> dict[str, UUID]:
    """Tracks campaigns; answers our ids by Mailchimp's."""
    actor = Actor.cli(org.id, "test")
    return {one["id"]: (await campaigns.track(resources, actor, one["id"])).id for one in made}


async def calls(mailchimp: SandboxControl, since: int) -> Counter[str]:
    """Calls since then: of campaigns, of a campaign, of reports, of a report."""
    counted: Counter[str] = Counter()
    for call in await mailchimp.calls(since=since):
        path = call["path"].removeprefix("/3.0").split("?")[0]
        counted["/".join(part if n < 2 else "one" for n, part in enumerate(path.split("/")))] += 1
    return counted


@pytest.fixture
async def people(mailchimp: SandboxControl) -> None:
    await mailchimp.seed(ALL_STAFF, 300)


class TestARound:
    async def test_nothing_moved_is_one_call_and_no_point(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaigns(
            ALL_STAFF, count=12, status="sent", ago_seconds=20 * DAY
        )
        await track_all(resources, organisation, mailchimp, made)
        entries = len(await audit_actions(onlooker, organisation))
        seq = await mailchimp.seq()
        outcome = await round_of(resources, organisation)
        assert await calls(mailchimp, seq) == {"/campaigns": 1}
        assert (outcome.seen, outcome.points, outcome.calls) == (12, 0, 1)
        assert len(await audit_actions(onlooker, organisation)) == entries

    async def test_what_moved_costs_no_more_than_a_call_each(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        old = await mailchimp.make_campaigns(
            ALL_STAFF, count=30, status="sent", ago_seconds=20 * DAY
        )
        fresh = await mailchimp.make_campaigns(ALL_STAFF, count=5, status="sent", ago_seconds=HOUR)
        ids = await track_all(resources, organisation, mailchimp, old + fresh)
        await mailchimp.advance_clock(5 * HOUR)
        seq = await mailchimp.seq()
        outcome = await round_of(resources, organisation)
        made = await calls(mailchimp, seq)
        assert made["/campaigns"] == 1
        assert made["/reports"] + made["/reports/one"] <= 5
        assert outcome.points == 5
        figures = {one["id"]: one["figures"] for one in await mailchimp.campaigns()}
        rows = await onlooker.fetch(
            "select campaign_id, unique_opens, clicks from campaign_tracking"
        )
        assert len(rows) == 35
        for row in rows:
            assert row["unique_opens"] == figures[row["campaign_id"]]["unique_opens"]
            assert row["clicks"] == figures[row["campaign_id"]]["clicks"]
        counted = await onlooker.fetch(
            "select tracking_id, count(*) from campaign_points group by 1"
        )
        young = {ids[one["id"]] for one in fresh}
        assert {row["tracking_id"] for row in counted if row["count"] == 2} == young
        assert (await audit_actions(onlooker, organisation))[-1] == "campaigns.refresh"

    async def test_one_that_moved_is_asked_for_alone(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None,
    ) -> None:  # fmt: skip
        old = await mailchimp.make_campaigns(
            ALL_STAFF, count=3, status="sent", ago_seconds=20 * DAY
        )
        fresh = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=HOUR)
        await track_all(resources, organisation, mailchimp, [*old, fresh])
        await mailchimp.advance_clock(5 * HOUR)
        seq = await mailchimp.seq()
        await round_of(resources, organisation)
        assert await calls(mailchimp, seq) == {"/campaigns": 1, "/reports/one": 1}

    async def test_a_draft_becomes_scheduled_sending_and_sent(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaign(ALL_STAFF, status="schedule", in_seconds=HOUR)
        ids = await track_all(resources, organisation, mailchimp, [made])
        actor = Actor.cli(organisation.id, "test")
        stated = []
        for seconds in (0, HOUR + 10, 120):
            await mailchimp.advance_clock(seconds)
            await round_of(resources, organisation)
            view = await campaigns.get(resources, actor, ids[made["id"]])
            stated.append((view.status, view.emails_sent))
        assert [status for status, _ in stated] == ["scheduled", "sending", "sent"]
        assert 0 == stated[0][1] < stated[1][1] < stated[2][1] == 300

    async def test_a_deleted_one_is_marked_once_and_never_asked_for_again(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaigns(ALL_STAFF, count=4, status="sent", ago_seconds=HOUR)
        await track_all(resources, organisation, mailchimp, made)
        await mailchimp.campaign_act(made[1]["id"], "delete")
        seq = await mailchimp.seq()
        outcome = await round_of(resources, organisation)
        assert (await calls(mailchimp, seq))["/campaigns/one"] == 1
        assert (outcome.gone, outcome.error) == (1, None)
        gone = await onlooker.fetch(
            "select campaign_id from campaign_tracking where gone_at is not null"
        )
        assert [row["campaign_id"] for row in gone] == [made[1]["id"]]
        seq = await mailchimp.seq()
        await round_of(resources, organisation)
        assert "/campaigns/one" not in await calls(mailchimp, seq)

    async def test_a_page_cut_short_makes_nothing_disappear(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(refresh, "CAMPAIGNS_A_PAGE", 2)
        made = await mailchimp.make_campaigns(ALL_STAFF, count=7, title="News")
        await track_all(resources, organisation, mailchimp, [made[0], made[6]])
        outcome = await round_of(resources, organisation)
        # the second of the two lies three pages further: asking for it alone is cheaper
        assert (outcome.seen, outcome.gone, outcome.calls) == (2, 0, 2)

    @pytest.mark.parametrize("days", [0, 30])
    async def test_a_sent_one_settles_after_its_window_with_a_last_look(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection, days: int,
    ) -> None:  # fmt: skip
        object.__setattr__(resources.settings, "campaign_settling_days", days)
        made = await mailchimp.make_campaign(
            ALL_STAFF, status="sent", ago_seconds=days * DAY - HOUR if days else 0
        )
        object.__setattr__(resources.settings, "campaign_settling_days", 60)
        ids = await track_all(resources, organisation, mailchimp, [made])
        object.__setattr__(resources.settings, "campaign_settling_days", days)
        await onlooker.execute(
            "update campaign_tracking set send_time = send_time - interval '2 hours'"
        )
        settled = "select settled_at from campaign_tracking where id = $1"
        await round_of(resources, organisation)
        assert (await onlooker.fetchval(settled, ids[made["id"]]) is None) == bool(days)
        if not days:
            seq = await mailchimp.seq()
            await round_of(resources, organisation)
            assert await calls(mailchimp, seq) == {}

    async def test_a_cancelled_one_settles_at_once(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaign(ALL_STAFF, status="sending")
        await track_all(resources, organisation, mailchimp, [made])
        await mailchimp.campaign_act(made["id"], "cancel")
        await round_of(resources, organisation)
        row = await onlooker.fetchrow("select status, settled_at from campaign_tracking")
        assert row is not None
        assert row["status"] == "cancelled"
        assert row["settled_at"] is not None


class TestAutoTracking:
    async def test_new_campaigns_are_tracked_and_old_and_untracked_ones_are_not(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None,
    ) -> None:  # fmt: skip
        await mailchimp.make_campaign(ALL_STAFF, title="old", status="sent", ago_seconds=DAY)
        actor = Actor.cli(organisation.id, "test")
        await campaigns.set_auto_tracking(resources, actor, enabled=True)
        await mailchimp.advance_clock(5)
        await mailchimp.make_campaign(ALL_STAFF, title="new")
        outcome = await round_of(resources, organisation)
        assert outcome.tracked == 1
        (found,) = (await connected.query("campaigns.list")).json()["items"]
        assert (found["title"], found["trackedBy"]) == ("new", "auto")
        await connected.mutate("campaigns.untrack", id=found["id"])
        await mailchimp.advance_clock(5)
        await mailchimp.make_campaign(ALL_STAFF, title="newer")
        assert (await round_of(resources, organisation)).tracked == 1
        assert (await round_of(resources, organisation)).tracked == 0
        items = (await connected.query("campaigns.list")).json()["items"]
        assert [one["title"] for one in items] == ["newer"]


class TestTrouble:
    async def test_a_refused_key_stops_this_organisation_only(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        key = f"{uuid4().hex}-us4"
        account = await mailchimp.open_account(key, lists=["Theirs"])
        other = await make_organisation(resources, "Globex")
        await connection.connect(resources, Actor.cli(other.id, "test"), key)
        theirs = await mailchimp.make_campaign(account["lists"][0]["id"])
        ours = await mailchimp.make_campaign(ALL_STAFF)
        await track_all(resources, other, mailchimp, [theirs])
        await track_all(resources, organisation, mailchimp, [ours])
        await mailchimp.revoke(key)
        assert (await round_of(resources, other)).error == "mailchimp_key_refused"
        assert (await round_of(resources, organisation)).error is None
        rows = await onlooker.fetch(
            "select r.org_id, r.next_attempt_at, k.status from campaign_refreshes r"
            " join mailchimp_connections k using (org_id)"
        )
        assert {row["org_id"]: row["status"] for row in rows} == {
            organisation.id: "connected", other.id: "needs_attention",
        }  # fmt: skip
        assert all(row["next_attempt_at"] is None for row in rows)

    async def test_bad_weather_is_tried_again_later(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, people: None, onlooker: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaigns(ALL_STAFF, count=3)
        await track_all(resources, organisation, mailchimp, made)
        patience = connection.open_link

        async def impatient(*args: Any, **kwargs: Any) -> connection.Link:
            return await patience(*args, **kwargs | {"retry": connection.INTERACTIVE})

        monkeypatch.setattr(connection, "open_link", impatient)
        await mailchimp.fault("503", path="/campaigns", times=3)
        outcome = await round_of(resources, organisation)
        assert outcome.error == "TransientError"
        row = await onlooker.fetchrow(
            "select next_attempt_at - clock_timestamp() as pause, lease_until from campaign_refreshes"
        )
        assert row is not None
        assert timedelta(0) < row["pause"] < timedelta(minutes=15)
        assert row["lease_until"] is None

    async def test_a_worker_that_stops_hands_over_and_one_that_died_is_succeeded(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaigns(ALL_STAFF, count=3)
        await track_all(resources, organisation, mailchimp, made)
        stopping = asyncio.Event()
        stopping.set()
        await due(resources, organisation)
        await refresh.work_on(resources, organisation.id, stopping=stopping)
        assert await ring_due(resources.db, resources.jobs, *dispatch.DUE) == 1
        # dies: the lease stays
        await onlooker.execute(
            "update campaign_refreshes set lease_until = clock_timestamp() + interval '1 minute',"
            " epoch = epoch + 1"
        )
        assert await ring_due(resources.db, resources.jobs, *dispatch.DUE) == 0
        assert await refresh.work_on(resources, organisation.id, stopping=asyncio.Event()) is None
        await onlooker.execute(
            "update campaign_refreshes set lease_until = clock_timestamp() - interval '1 second'"
        )
        assert await ring_due(resources.db, resources.jobs, *dispatch.DUE) == 1
        ctx = {
            "resources": resources, "stopping": asyncio.Event(), "refreshes": asyncio.Semaphore(1),
        }  # fmt: skip
        for _ in range(2):
            await jobs.campaign_stats_refresh(ctx, str(organisation.id), str(organisation.id))
        assert await onlooker.fetchval("select finished_at from campaign_refreshes") is not None

    async def test_one_that_lost_its_round_writes_nothing_more(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaigns(ALL_STAFF, count=2)
        await track_all(resources, organisation, mailchimp, made)
        before = await onlooker.fetch("select * from campaign_tracking order by id")
        renew = repository.renew

        async def robbed(session: Any, *given: Any) -> bool:
            kept: bool = await renew(session, *given)
            await session.execute(text("update campaign_refreshes set epoch = epoch + 1"))
            return kept

        monkeypatch.setattr(repository, "renew", robbed)
        outcome = await round_of(resources, organisation)
        assert outcome.seen == 0
        assert await onlooker.fetch("select * from campaign_tracking order by id") == before


class TestTheTick:
    def test_it_is_due_four_times_a_day(self) -> None:
        for hour, minute, expected in ((0, 0, 0), (5, 59, 0), (6, 0, 6), (23, 59, 18)):
            now = datetime(2026, 11, 23, hour, minute, tzinfo=UTC)
            assert dispatch.last_due(now) == datetime(2026, 11, 23, expected, tzinfo=UTC)

    def test_organisations_are_spread_and_keep_their_place(self) -> None:
        ids = [uuid4() for _ in range(200)]
        places = [dispatch.delay(one, 1800) for one in ids]
        assert places == [dispatch.delay(one, 1800) for one in ids]
        assert 0 <= min(places) < 200
        assert 1600 < max(places) < 1800

    async def test_only_organisations_with_something_to_look_at_get_a_round_once(
        self, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        key = f"{uuid4().hex}-us4"
        await mailchimp.open_account(key, lists=["Theirs"])
        other = await make_organisation(resources, "Globex")
        await connection.connect(resources, Actor.cli(other.id, "test"), key)
        made = await mailchimp.make_campaign(ALL_STAFF)
        await track_all(resources, organisation, mailchimp, [made])
        assert await dispatch.schedule(resources) == 1
        assert await dispatch.schedule(resources) == 0
        (row,) = await onlooker.fetch(
            "select org_id, next_attempt_at - clock_timestamp() as pause from campaign_refreshes"
        )
        assert row["org_id"] == organisation.id
        assert row["pause"] < timedelta(seconds=1800)
        await onlooker.execute("update job_ticks set due_at = due_at - interval '6 hours'")
        await campaigns.set_auto_tracking(resources, Actor.cli(other.id, "test"), enabled=True)
        await jobs.campaign_stats_refresh({"resources": resources})
        found = await onlooker.fetch("select org_id from campaign_refreshes")
        assert {one["org_id"] for one in found} == {organisation.id, other.id}


class TestManyAtOnce:
    async def test_calls_follow_from_what_moved_over_all_organisations(
        self, connected: Caller, resources: Resources, mailchimp: SandboxControl,
    ) -> None:  # fmt: skip
        """The acceptance at a tenth of its size, two calls at most under way in an account."""
        orgs = []
        for number in range(5):
            key = f"{uuid4().hex}-us4"
            account = await mailchimp.open_account(key, lists=["People"])
            list_id = account["lists"][0]["id"]
            await mailchimp.seed(list_id, 200)
            org = await make_organisation(resources, f"Many {number}")
            actor = Actor.cli(org.id, "test")
            await connection.connect(resources, actor, key)
            await campaigns.set_auto_tracking(resources, actor, enabled=True)
            await mailchimp.advance_clock(1)
            await mailchimp.make_campaigns(list_id, count=97, status="sent")
            await mailchimp.make_campaigns(list_id, count=3, title="young")
            orgs.append((org, list_id))
        await mailchimp.advance_clock(40 * HOUR)
        await asyncio.gather(*(round_of(resources, org) for org, _ in orgs))
        for _, list_id in orgs:
            for one in (await mailchimp.campaigns(list_id))[97:]:
                await mailchimp.campaign_act(one["id"], "finish")
        before = {
            one["id"]: one["figures"] for _, lst in orgs for one in await mailchimp.campaigns(lst)
        }
        await mailchimp.advance_clock(HOUR)
        after = {
            one["id"]: one["figures"] for _, lst in orgs for one in await mailchimp.campaigns(lst)
        }
        moved = sum(before[ident] != after[ident] for ident in after)
        await mailchimp.reset_metrics()
        seq = await mailchimp.seq()
        outcomes = await asyncio.gather(*(round_of(resources, org) for org, _ in orgs))
        made = await calls(mailchimp, seq)
        assert sum(one.seen for one in outcomes) == 500
        assert 0 < moved < 200
        assert made["/campaigns"] <= 5
        assert made["/campaigns/one"] == 0
        assert made["/reports"] + made["/reports/one"] <= moved
        assert (await mailchimp.metrics())["refused"] == 0
