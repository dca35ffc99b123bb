"""A message survives whatever dies, and goes out once: the sandbox counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcsync.core.settings import Settings
from mcsync.features.transactional import handover
from tests.features.transactional.conftest import Mail

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def worker(settings: Settings, point: str = "none") -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; one with a point kills itself there."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.features.transactional.doomed", point],
        cwd=ROOT,
        env={
            **os.environ,
            "MCSYNC_DATABASE_URL": settings.database_url.get_secret_value(),
            "MCSYNC_REDIS_URL": settings.redis_url.get_secret_value(),
            "MCSYNC_MASTER_KEYS": json.dumps(keys),
            "MCSYNC_MANDRILL_URL": settings.mandrill_url,
            "MCSYNC_RUN_LEASE_SECONDS": "3",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def until(mail: Mail, message_id: str, *statuses: str, seconds: float = 90.0) -> Any:
    """The message once it has one of these statuses."""
    async with asyncio.timeout(seconds):
        while True:
            message = await mail.get(message_id)
            if message["status"] in statuses:
                return message
            await asyncio.sleep(0.1)


async def killed(process: subprocess.Popen[bytes]) -> None:
    assert await asyncio.to_thread(process.wait, 40) == -signal.SIGKILL


@pytest.mark.slow
class TestARealWorkerKilled:
    @pytest.mark.parametrize(
        "point",
        [
            pytest.param("after_claim", marks=pytest.mark.chaos),
            "in_call",
            "after_call",
            pytest.param("while_recording", marks=pytest.mark.chaos),
            pytest.param("after_recording", marks=pytest.mark.chaos),
        ],
    )
    async def test_goes_out_exactly_once_where_the_index_is_on_time(
        self, mail: Mail, settings: Settings, point: str
    ) -> None:
        if point == "in_call":
            await mail.sandbox.fault("slow:6", path="messages/send")
        message_id = await mail.send("ada@corp.example", "bob@corp.example")
        with worker(settings, point) as doomed:
            await killed(doomed)
        with worker(settings):
            message = await until(mail, message_id, "submitted")
        assert await mail.sent(message_id) == 1
        assert message["handIns"] == 1
        assert message["outcomes"] == [{"status": "sent", "count": 2}]
        assert all(person["mailchimpId"] for person in message["people"])

    async def test_before_the_call_it_ends_unconfirmed_and_is_sent_on_request(
        self, mail: Mail, settings: Settings
    ) -> None:
        message_id = await mail.send()
        with worker(settings, "before_call") as doomed:
            await killed(doomed)
        assert (await mail.get(message_id))["status"] == "sending"
        with worker(settings):
            await asyncio.sleep(5)
            assert (await mail.get(message_id))["status"] == "sending", "it is only looked for"
            await mail.pass_time(message_id, 900)
            message = await until(mail, message_id, "unconfirmed")
            assert message["errorCode"] == "not_found_in_time"
            assert "resend" in message["errorDetail"]
            assert message["outcomes"] == [{"status": "unconfirmed", "count": 1}]
            assert await mail.sent(message_id) == 0
            await mail.done("resend", id=message_id)
            await until(mail, message_id, "submitted")
        assert await mail.sent(message_id) == 1
        assert (await mail.audited())[-2:] == [
            "transactional.unconfirmed",
            "transactional.resend",
        ]

    @pytest.mark.chaos
    async def test_many_messages_many_kills(self, mail: Mail, settings: Settings) -> None:
        await mail.sandbox.configure(
            latency={"baseMs": 40},
            faults={"rate": 0.3, "kinds": {"504_after": 1, "reset_after": 1}, "path": "send", "seed": 3},
        )  # fmt: skip
        ids = [await mail.send(f"person{n}@corp.example") for n in range(40)]
        for _ in range(3):
            with worker(settings) as doomed:
                await asyncio.sleep(1.6)
                doomed.kill()
        await mail.sandbox.configure(faults={"rate": 0.0, "kinds": {}}, latency={"baseMs": 0})
        await mail.sandbox.configure(mandrill={"searchesPerMinute": 10_000})
        with worker(settings):
            for _ in range(60):
                counts = await mail.onlooker.fetch(
                    """update transactional_messages set next_attempt_at = clock_timestamp()
                        where status = 'sending' and lease_until is null returning 1"""
                )
                waiting = await mail.onlooker.fetchval(
                    "select count(*) from transactional_messages where status = 'queued'"
                )
                if not counts and not waiting:
                    break
                await asyncio.sleep(0.5)
            await mail.onlooker.execute(
                """update transactional_messages set handed_in_at = handed_in_at - interval '16 min',
                          next_attempt_at = now() where status = 'sending'"""
            )
            ended = [
                await until(mail, message_id, "submitted", "unconfirmed") for message_id in ids
            ]
        for message in ended:
            sent = await mail.sent(message["id"])
            assert sent == (1 if message["status"] == "submitted" else 0), message
        assert sum(message["status"] == "submitted" for message in ended) >= 35


class TestAnAnswerLost:
    @pytest.mark.parametrize("fault", ["504_after", "reset_after", "500", "502_html"])
    async def test_is_looked_up_and_never_repeated(self, mail: Mail, fault: str) -> None:
        await mail.sandbox.fault(fault, path="messages/send")
        message_id = await mail.send()
        doubtful = await mail.work(message_id)
        assert (doubtful["status"], doubtful["errorCode"]) == ("sending", "answer_lost")
        await mail.due(message_id)
        found = await mail.work(message_id)
        taken = fault.endswith("_after")
        assert found["status"] == ("submitted" if taken else "sending")
        assert await mail.sent(message_id) == int(taken)
        assert (await mail.post("cancel", id=message_id)).status_code == 409

    async def test_with_the_index_late_it_ends_unconfirmed_and_says_so(self, mail: Mail) -> None:
        await mail.sandbox.configure(mandrill={"indexLagSeconds": 3600})
        await mail.sandbox.fault("504_after", path="messages/send")
        message_id = await mail.send()
        await mail.work(message_id)
        looks = 0
        message = await mail.get(message_id)
        while message["status"] == "sending":
            await mail.pass_time(message_id, 130)
            message = await mail.work(message_id)
            looks += 1
        assert (message["status"], message["handIns"]) == ("unconfirmed", 1)
        assert 5 <= looks <= 8
        assert message["errorCode"] == "not_found_in_time"
        assert await mail.sent(message_id) == 1
        # sent again on request: it is looked for first, and found by now
        await mail.sandbox.advance_clock(3601)
        await mail.done("resend", id=message_id)
        found = await mail.work(message_id)
        assert (found["status"], found["handIns"]) == ("submitted", 1)
        assert await mail.sent(message_id) == 1
        refused = await mail.post("resend", id=message_id)
        assert (refused.status_code, refused.json()["code"]) == (409, "not_unconfirmed")

    async def test_one_that_allows_duplicates_goes_again_by_itself(self, mail: Mail) -> None:
        await mail.sandbox.configure(mandrill={"indexLagSeconds": 3600})
        await mail.sandbox.fault("504_after", path="messages/send")
        message_id = await mail.send(allowDuplicates=True)
        await mail.work(message_id)
        await mail.pass_time(message_id, 901)
        assert (await mail.work(message_id))["status"] == "queued"
        message = await mail.work(message_id)
        assert (message["status"], message["handIns"]) == ("submitted", 2)
        assert await mail.sent(message_id) == 2

    async def test_a_search_that_fails_decides_nothing(self, mail: Mail) -> None:
        await mail.sandbox.fault("504_after", path="messages/send")
        message_id = await mail.send()
        await mail.work(message_id)
        for fault in ("429_json", "502_html", "reset"):
            await mail.sandbox.fault(fault, path="messages/search")
            await mail.pass_time(message_id, 1000)
            assert (await mail.work(message_id))["status"] == "sending"
        await mail.pass_time(message_id, 100)
        assert (await mail.work(message_id))["status"] == "submitted"

    async def test_only_some_recipients_found_are_waited_for(self, mail: Mail) -> None:
        await mail.sandbox.fault("504_after", path="messages/send")
        message_id = await mail.send("ada@corp.example", "bob@corp.example")
        await mail.work(message_id)
        await mail.onlooker.execute(
            "update transactional_recipients set email = 'carl@corp.example' where no = 2"
        )
        await mail.due(message_id)
        waiting = await mail.work(message_id)
        assert [p["status"] for p in waiting["people"]] == ["sent", "pending"]
        assert waiting["status"] == "sending"
        await mail.pass_time(message_id, 1000)
        ended = await mail.work(message_id)
        assert ended["status"] == "submitted"
        assert [p["status"] for p in ended["people"]] == ["sent", "unconfirmed"]

    async def test_an_answer_that_comes_after_the_take_over_is_recorded(
        self, mail: Mail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        message_id = await mail.send()
        call = handover._call

        async def slow(*arguments: Any) -> Any:
            answer = await call(*arguments)
            await mail.due(message_id)  # the lease is gone; another worker looks meanwhile
            await mail.sandbox.configure(mandrill={"indexLagSeconds": 3600})
            other = await mail.work(message_id)
            assert other["status"] == "sending"
            return answer

        monkeypatch.setattr(handover, "_call", slow)
        message = await mail.work(message_id)
        assert message["status"] == "submitted"
        assert message["people"][0]["status"] == "sent"
        assert await mail.sent(message_id) == 1
