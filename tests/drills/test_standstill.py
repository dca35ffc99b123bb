"""Workers that stand still, or are not there: who says so, where, and that the work ends well all the same."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcsync.embedded import free_port
from tests.support.installation import Installation, Process, until

PEOPLE = 1500
LATENCY = {"baseMs": 1500, "perMemberMs": 0}


def _doctor(there: Installation) -> tuple[int, bool, dict[str, dict[str, str]]]:
    """Its exit code, whether it says healthy, and the checks by name."""
    done = there.command("doctor", "--json", "--offline", check=False)
    said: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, said["healthy"], {one["check"]: one for one in said["checks"]}


def _worker(there: Installation, name: str) -> tuple[Process, str]:
    """A worker with a health port, and where that is."""
    port = free_port()
    process = there.start(name, "worker", "--port", str(port))
    until(lambda: bool(process.events("health_port_opened")), f"{name} started", seconds=60)
    return process, f"http://127.0.0.1:{port}/health"


def _asked(url: str) -> int | None:
    """The status that a probe gets; None where it gets no answer."""
    try:
        return httpx.get(url, timeout=2).status_code
    except httpx.TimeoutException:
        return None


def _segment(there: Installation) -> tuple[str, str]:
    """The audience, and a segment of many people in it."""
    list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
    there.import_csv(
        ["entityType,entityId,email,optStatus,consentSource,consentGivenAt",
         *(f"employee,E{n},e{n}@acme-works.com,opted_in,form,2026-01-01T00:00:00Z" for n in range(PEOPLE))]
    )  # fmt: skip
    made = there.mutate("segments.create", name="All", segmentType="employee", audienceId=list_id)
    return list_id, made["id"]


def _exact(there: Installation, list_id: str) -> None:
    members = there.members(list_id)
    assert {row["status"] for row in members.values()} == {"subscribed"}
    assert members.keys() == {f"e{n}@acme-works.com" for n in range(PEOPLE)}


def _status(there: Installation, run: str) -> Callable[[], str]:
    return lambda: str(there.query("segments.getRun", id=run)["status"])


@pytest.mark.chaos
def test_workers_that_are_suspended_or_missing_are_told_of_and_cost_nothing(
    tmp_path: Path,
) -> None:
    with Installation(tmp_path, apis=1, workers=0, env={"MCSYNC_SLOTS_PER_ACCOUNT": "1"}) as there:
        code, healthy, checks = _doctor(there)
        assert (code, healthy, checks["workers"]["state"]) == (0, True, "warning")
        list_id, segment = _segment(there)

        # work waits and there is no worker at all
        run = there.mutate("segments.sync", id=segment)["id"]
        code, healthy, checks = _doctor(there)
        assert (code, healthy, checks["workers"]["state"]) == (6, False, "problem")
        assert "runs: 1" in checks["workers"]["detail"]

        # both stand still in the middle of a push
        there.configure(latency=LATENCY)
        pair = [_worker(there, f"suspended-{n}") for n in range(2)]
        assert [_asked(f"{url}/live") for _, url in pair] == [200, 200]
        assert [_asked(f"{url}/ready") for _, url in pair] == [200, 200]
        until(lambda: _status(there, run)() == "pushing", "the run pushes", seconds=60)
        for process, _ in pair:
            process.send(signal.SIGSTOP)
        named = [f"pid {process.process.pid})" for process, _ in pair]

        def silent() -> bool:
            code, healthy, checks = _doctor(there)
            told = " ".join(one["detail"] for one in checks.values() if one["state"] == "problem")
            return (code, healthy) == (6, False) and all(name in told for name in named)

        until(silent, "doctor names both workers", seconds=120)
        _, _, checks = _doctor(there)
        assert checks["workers"]["detail"].startswith(
            "none is running although work waits: runs: 1"
        )
        assert [_asked(f"{url}/live") for _, url in pair] == [None, None]
        assert there.ready().json()["status"] == "ok"
        assert _status(there, run)() == "pushing"

        # a third worker takes over, and the two that wake up do no harm
        there.configure(latency={"baseMs": 0, "perMemberMs": 0})
        third, _ = _worker(there, "third")
        assert there.wait_for_run(run, seconds=180)["status"] == "succeeded"
        for process, _ in pair:
            process.send(signal.SIGCONT)
        until(lambda: _doctor(there)[0] == 0, "doctor is content", seconds=120)
        assert [_asked(f"{url}/live") for _, url in pair] == [200, 200]
        _exact(there, list_id)
        assert [process.stop() for process in (*(process for process, _ in pair), third)] == [
            0,
            0,
            0,
        ]
        assert not _doctor(there)[2]["workers"]["detail"].startswith("1 running")


@pytest.mark.chaos
def test_webhooks_in_error_are_told_of_and_another_public_url_is_checked_at_once(
    tmp_path: Path,
) -> None:
    nowhere = {"MCSYNC_PUBLIC_URL": "http://127.0.0.1:9"}
    with Installation(tmp_path, apis=1, workers=0, env=nowhere) as there:
        first, _ = _worker(there, "nowhere")
        _segment(there)

        def webhook() -> dict[str, Any]:
            found: list[dict[str, Any]] = there.query("webhooks.list")["items"]
            return found[0] if found else {}

        until(lambda: webhook().get("status") == "error", "the webhook is in error", seconds=60)
        told = webhook()
        assert told["lastError"] == "url_not_verified"
        code, healthy, checks = _doctor(there)
        (found,) = [one for name, one in checks.items() if name.startswith("webhooks of ")]
        assert (code, healthy, found["state"]) == (6, False, "problem")
        assert "url_not_verified (as of " in found["detail"]
        assert first.stop() == 0

        # the next look would be due in minutes: what is asked for is asked for by the worker's start
        there.sql("update webhook_endpoints set next_check_at = now() + interval '15 minutes'")
        there.environment["MCSYNC_PUBLIC_URL"] = there.urls[0]
        _worker(there, "here")
        until(lambda: webhook()["status"] == "active", "the webhook is registered", seconds=60)
        assert webhook()["checkedAt"] > told["checkedAt"]
        assert _doctor(there)[0] == 0


@pytest.mark.slow
@pytest.mark.e2e
def test_a_worker_that_is_suspended_is_named_and_answers_no_probe(tmp_path: Path) -> None:
    with Installation(tmp_path, apis=1, workers=0) as there:
        taken = there.urls[0].rsplit(":", 1)[1]
        refused = there.start("refused", "worker", "--port", taken)
        process, url = _worker(there, "suspended")
        assert (_asked(f"{url}/live"), _asked(f"{url}/ready")) == (200, 200)
        process.send(signal.SIGSTOP)
        assert _asked(f"{url}/live") is None
        # it beats no more, so its row may be made as old as it would be in a while
        there.sql("update worker_heartbeats set seen_at = seen_at - interval '1 minute'")
        code, healthy, checks = _doctor(there)
        (told,) = [one for name, one in checks.items() if name.startswith("worker ")]
        assert (code, healthy, checks["workers"]["state"]) == (6, False, "problem")
        assert f"pid {process.process.pid})" in told["detail"]
        assert there.ready().json()["status"] == "ok"
        process.send(signal.SIGCONT)
        until(lambda: _doctor(there)[0] == 0, "doctor is content", seconds=60)
        assert process.stop() == 0
        assert refused.process.wait(60) == 1
        (said,) = refused.events()
        assert said["code"] == "port_taken"
        assert f"127.0.0.1:{taken} cannot be opened" in said["message"]
