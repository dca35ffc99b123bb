"""Logs while something is away: short, complete in their counts, and bounded."""

from __future__ import annotations

import io
import json
import logging
from typing import Any, Literal

import pytest
import structlog
from structlog import DropEvent

from mcsync.core.log_folding import FOLD_SECONDS, Folder
from mcsync.core.logging import flush_logs


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def deep(depth: int, text: str) -> None:
    if depth:
        deep(depth - 1, text)
    raise ConnectionError(text)


def test_a_cause_is_one_line_and_one_count(log: io.StringIO) -> None:
    ours, theirs = structlog.get_logger("ours"), logging.getLogger("arq.worker")
    for number in range(292):
        ours.warning("lease_not_renewed", error="ConnectionError", run=f"run-{number}")
        theirs.warning("job %s expired", f"job-{number}")
        try:
            deep(40, "x" * 20_000)
        except ConnectionError:
            theirs.exception("%s failed", f"job-{number}")
    flush_logs()
    flush_logs()
    found = lines(log)
    assert len(found) == 6
    for start in range(3):
        first, folded = found[start], found[start + 3]
        assert "count" not in first
        assert folded["count"] == 291
        assert {"level", "timestamp", "event", "first_at", "last_at"} <= folded.keys()
    assert max(len(line) for line in log.getvalue().splitlines()) < 2_000
    assert "run" not in found[3]


def test_another_cause_is_another_line(log: io.StringIO) -> None:
    ours = structlog.get_logger("ours")
    for error in ("TimeoutError", "ConnectionError"):
        ours.warning("loop_failed", error=error, loop="dispatch")
        ours.warning("loop_failed", error=error, loop="tidy")
    assert len(lines(log)) == 4


def test_facts_are_never_folded(log: io.StringIO) -> None:
    for number in range(20):
        structlog.get_logger("ours").warning("withdrawal_refused", order=str(number), title="t")
        structlog.get_logger("mcsync.access").info("request", status=503)
        logging.getLogger("theirs").info("said %s", number)
    assert len(lines(log)) == 60


def test_a_minute_later_it_is_told_and_after_a_quiet_one_it_is_new() -> None:
    now, told = [0.0], list[Any]()
    folder = Folder(told.append, seconds=10 * FOLD_SECONDS, clock=lambda: now[0])

    def passes() -> bool:
        try:
            folder(None, "", {"event": "e", "level": "warning", "error": "E", "timestamp": "t"})
        except DropEvent:
            return False
        return True

    assert [passes(), passes(), passes()] == [True, False, False]
    folder.flush(all_of_them=False)
    assert told == []
    now[0] += 10 * FOLD_SECONDS
    folder.flush(all_of_them=False)
    assert [line["count"] for line in told] == [2]
    assert not passes()
    for _ in range(2):
        now[0] += 10 * FOLD_SECONDS
        folder.flush(all_of_them=False)
    assert [line["count"] for line in told] == [2, 1]
    assert passes()
    folder.close()


@pytest.mark.parametrize("format_", ["json", "console"])
def test_an_exception_is_fields_and_not_pages(format_: Literal["json", "console"]) -> None:
    from mcsync.core.logging import configure_logging
    from mcsync.core.settings import Settings

    stream = io.StringIO()
    configure_logging(Settings(log_format=format_), stream=stream)
    try:
        try:
            deep(60, "first\n" + "y" * 20_000)
        except ConnectionError as error:
            raise ValueError("of bob@example.org") from error
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved\nfuture: <Task>")
    text = stream.getvalue()
    assert len(text) < 3_000
    assert "bob@" not in text
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1
    if format_ == "json":
        line = json.loads(text)
        assert line["event"] == "Task exception was never retrieved"
        assert line["exception"]["type"] == "ValueError"
        assert line["exception"]["causes"][0] == {"type": "ConnectionError", "message": "first"}
        assert len(line["exception"]["frames"]) <= 6
