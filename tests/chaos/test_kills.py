"""Workers killed in the middle, Redis emptied, Mailchimp misbehaving: the wanted state, exactly.

The short form is part of the gate, the long one (20,000 contacts) of ``make chaos``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psutil
import pytest
from redis import Redis

from tests.support.stack import OVER, Stack

_log = logging.getLogger(__name__)
FAULTS = {
    "rate": 0.1,
    "kinds": {"429_json": 1, "429_empty": 1, "500": 2, "502_html": 2, "504_after": 2, "reset": 1,
              "reset_after": 1},
    "seed": 11,
}  # fmt: skip
LATENCY = {"baseMs": 300, "perMemberMs": 2}
DOMAIN = "acme-works.com"
LEASE = 15
"""Seconds after which a silent worker counts as dead (the default)."""


def running(factory: pytest.TempPathFactory, slots: int) -> Stack:
    """A stack with so many bulk slots."""
    folder = factory.mktemp("chaos")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o711)  # PostgreSQL runs as another user when we are root
    return Stack(folder / "data", env={"MCSYNC_SLOTS_PER_ACCOUNT": str(slots)})


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two slots: a run of a few calls still takes several rounds."""
    with running(tmp_path_factory, 2) as stack:
        yield stack


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As it is in production.

    One for each test: a worker that slept for 20 s takes its calls for slow ones, and dead workers'
    slots are then held longer, which is right, but no longer what the other test is about.
    """
    with running(tmp_path_factory, 8) as stack:
        yield stack


def contacts(name: str, count: int) -> list[str]:
    """A file in which every tenth contact has opted out, and every tenth has said nothing."""
    columns = "entityType,entityId,email,firstName,lastName,department"
    lines = [f"{columns},optStatus,consentSource,consentGivenAt"]
    for n in range(count):
        consent = {0: "opted_out,form,", 1: ",,"}.get(n % 10, "opted_in,form,2026-01-01T00:00:00Z")
        lines.append(f"employee,{name}-{n},{name}.{n}@{DOMAIN},First{n},Last{n},{name},{consent}")
    return lines


@dataclass
class Story:
    """One run under fire, and what was seen of it."""

    stack: Stack
    run_id: str
    list_id: str
    takeovers: list[float] = field(default_factory=list)
    """Seconds from each kill until another worker had the run."""
    pauses: list[float] = field(default_factory=list)
    """Seconds from each act until the next call was recorded, the dead worker's slots included."""
    acts: list[str] = field(default_factory=list)
    final: Any = None
    epoch_then: int = 0

    def watch(self, acts: list[str], *, seconds: float) -> None:
        """Lets the run go on, and acts each time it has come further."""
        deadline = time.monotonic() + seconds
        pending, since, done_then = list(acts), time.monotonic(), -1
        acted_at: float | None = None
        orphan = False
        while time.monotonic() < deadline:
            run = self.stack.query("segments.getRun", id=self.run_id)
            if run["status"] in OVER:
                self.final = run
                return
            done = run["counts"]["done"] + run["counts"]["failed"]
            if orphan and attempts(self.stack, self.run_id)[1] > self.epoch_then:
                self.takeovers.append(time.monotonic() - since)
                orphan = False
            if acted_at is not None and done > done_then:
                self.pauses.append(time.monotonic() - acted_at)
                acted_at = None
            ready = done > done_then and time.monotonic() - since > 1.0
            if pending and run["status"] == "pushing" and ready and self._grown_up():
                act = pending.pop(0)
                self._act(act)
                self.acts.append(act)
                done_then, since = done, time.monotonic()
                acted_at, orphan = since, act == "SIGKILL"
            time.sleep(0.1)
        message = f"the run did not end: {run}"
        raise AssertionError(message)

    def _grown_up(self) -> bool:
        """Whether a worker holds the run that was not told to end before."""
        epoch = attempts(self.stack, self.run_id)[1]
        if epoch <= self.epoch_then:
            return False
        self.epoch_then = epoch
        return True

    def _act(self, act: str) -> None:
        if act == "FLUSHALL":
            with Redis.from_url(self.stack.ready["redisUrl"]) as redis:
                redis.flushall()
            self.epoch_then -= 1  # the worker lives on
            return
        for worker in self.stack.workers():
            worker.send_signal(getattr(signal, act))


def begin(stack: Stack, name: str, count: int) -> tuple[Story, str]:
    """Imports, makes a segment, has some people unsubscribe beforehand, starts the run under faults."""
    list_id = stack.query("connection.listAudiences")["items"][0]["audienceId"]
    report = stack.import_csv(contacts(name, count))
    assert report["created"] == count, report
    for n in range(5, 5 + 20 * 10, 20):  # who said no at Mailchimp, before we ever came
        stack.sandbox(
            f"/lists/{list_id}/person", email=f"{name}.{n}@{DOMAIN}", act="subscribe_form"
        )
        stack.sandbox(f"/lists/{list_id}/person", email=f"{name}.{n}@{DOMAIN}", act="unsubscribe")
    segment = stack.mutate(
        "segments.create", name=name, segmentType="employee", audienceId=list_id,
        filters={"department": [name]},
    )  # fmt: skip
    stack.configure(faults=FAULTS, latency=LATENCY)
    stack.control.post("/metrics/reset")
    run = stack.mutate("segments.sync", id=segment["id"])
    return Story(stack, run["id"], list_id), segment["id"]


def assert_wanted_state(story: Story, name: str, count: int) -> None:
    """Exactly who opted in and never said no is subscribed, once, and nobody else was ever touched."""
    stack = story.stack
    stack.configure(faults={"rate": 0.0}, latency={"baseMs": 0, "perMemberMs": 0})
    refused = {f"{name}.{n}@{DOMAIN}" for n in range(5, 5 + 20 * 10, 20) if n < count}
    wanted = {f"{name}.{n}@{DOMAIN}" for n in range(count) if n % 10 > 1} - refused
    members = {k: v for k, v in stack.members(story.list_id).items() if k.startswith(f"{name}.")}
    assert {k for k, v in members.items() if v["status"] == "subscribed"} == wanted
    assert {k for k, v in members.items() if v["status"] == "unsubscribed"} == refused
    assert set(members) == wanted | refused
    assert all(f"mcsync: {name}" in members[email]["tags"] for email in wanted)
    for email in sorted(refused):
        history = stack.control.get("/history", params={"email": email}).json()["history"]
        assert not [h for h in history if h["origin"] == "api"], "somebody was re-subscribed"
    metrics = stack.control.get("/metrics").json()
    assert metrics["maxInFlight"] <= 10
    run = story.final
    assert run["status"] == "succeeded", run
    assert run["counts"]["done"] == len(wanted)
    assert run["counts"]["matched"] == count
    # those who said no at Mailchimp were pulled before the plan, as withdrawals
    assert run["skippedByReason"]["opted_out"] == count // 10 + len(refused)


def attempts(stack: Stack, run_id: str) -> tuple[int, int]:
    """(attempts, epoch) of a run."""

    async def ask() -> tuple[int, int]:
        connection = await asyncpg.connect(stack.ready["databaseUrl"])
        try:
            row = await connection.fetchrow(
                "select attempts, epoch from sync_runs where id = $1", run_id
            )
            assert row is not None
            return row["attempts"], row["epoch"]
        finally:
            await connection.close()

    return asyncio.run(ask())


def repeated(stack: Stack, story: Story) -> int:
    """How many bulk calls were sent beyond what the contacts needed."""
    sent = int(stack.control.get("/metrics").json()["batchCalls"])
    return sent - -(-int(story.final["counts"]["done"]) // 500)


@pytest.mark.e2e
@pytest.mark.timeout(400)
class TestShort:
    def test_a_run_survives_a_kill_and_an_emptied_redis(self, narrow: Stack) -> None:
        story, _ = begin(narrow, "short", 3000)
        story.watch(["SIGKILL", "FLUSHALL"], seconds=200)
        assert story.acts == ["SIGKILL", "FLUSHALL"]
        assert len(story.takeovers) == 1  # by itself
        assert_wanted_state(story, "short", 3000)

    def test_sigterm_hands_over_without_costing_an_attempt(self, narrow: Stack) -> None:
        story, _ = begin(narrow, "handed", 6000)
        narrow.configure(faults={"rate": 0.0})
        story.watch(["SIGTERM", "SIGTERM"], seconds=200)
        tried, epoch = attempts(narrow, story.run_id)
        assert story.acts == ["SIGTERM", "SIGTERM"]
        assert tried == 0
        assert epoch >= 3
        assert_wanted_state(story, "handed", 6000)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
class TestLong:
    def test_five_kills_and_a_flush_during_twenty_thousand(self, stack: Stack) -> None:
        count = 20_000
        story, segment = begin(stack, "long", count)
        story.watch(
            ["SIGKILL", "SIGKILL", "FLUSHALL", "SIGKILL", "SIGKILL", "SIGKILL"], seconds=1200
        )
        assert story.acts.count("SIGKILL") == 5
        _log.info("seconds until taken over: %s", [round(s, 1) for s in story.takeovers])
        _log.info("until the next recorded call: %s", [round(s, 1) for s in story.pauses])
        assert len(story.takeovers) == 5
        assert max(story.takeovers) < LEASE + 15
        assert_wanted_state(story, "long", count)
        # each kill or flush repeats at most the calls in flight; faults add about a call in ten
        assert repeated(stack, story) <= 8 * 6 + 20
        again = stack.wait_for_run(stack.mutate("segments.sync", id=segment)["id"], seconds=300)
        assert again["counts"]["unchanged"] == story.final["counts"]["done"]
        assert again["calls"] == 0

    def test_a_stopped_worker_that_wakes_up_is_fenced_off(self, stack: Stack) -> None:
        """SIGSTOP looks like death; when the sleeper wakes, another has its run."""
        story, _ = begin(stack, "sleeper", 4000)
        sleepers: list[psutil.Process] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not sleepers:
            run = stack.query("segments.getRun", id=story.run_id)
            if run["counts"]["done"]:
                sleepers = stack.workers()
            time.sleep(0.1)
        for sleeper in sleepers:
            sleeper.suspend()
        time.sleep(LEASE + 5)
        for sleeper in sleepers:
            sleeper.resume()
        story.watch([], seconds=400)
        assert_wanted_state(story, "sleeper", 4000)
