"""The workers and what waits for them: who works, who stands still, what is older than it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcsync.cli.checks.finding import Finding, ago
from mcsync.cli.checks.servers import CLOCK_PROBLEM, CLOCK_WARNING
from mcsync.core.worker_health import DISPATCHER_STUCK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcsync.core.db.heartbeats import Heartbeat
    from mcsync.core.db.inspection import Backlog
    from mcsync.core.resources import Resources

EXPECTED_SECONDS: Final = {
    "orders": 60.0,
    "form_posts": 120.0,
    "transactional_mail": 120.0,
    "webhook_posts": 300.0,
    "runs": 600.0,
    "erasures": 600.0,
    "transactional_outcomes": 900.0,
    "source_pulls": 900.0,
    "webhook_checks": 1800.0,
    "campaign_figures": 3600.0,
}
"""How long each kind of work may be due before it is begun; a living worker begins most within seconds."""


async def workers(resources: Resources) -> list[Finding]:
    """Every worker by its heartbeat; without any, whether work waits decides how bad that is."""
    from mcsync.core.db import heartbeats

    async with resources.db.system() as session:
        seen = await heartbeats.seen(session)
    living = any(not one.silent for one in seen)
    return judge_workers(seen, [] if living else await _waiting(resources))


async def backlog(resources: Resources) -> list[Finding]:
    """Every kind of work by its oldest due row."""
    from mcsync.core.db import heartbeats

    async with resources.db.system() as session:
        seen = await heartbeats.seen(session)
    return judge_backlog(await _waiting(resources), anybody=any(not one.silent for one in seen))


async def _waiting(resources: Resources) -> list[Backlog]:
    from mcsync.core.db import inspection

    async with resources.db.system() as session:
        waiting = await inspection.backlog(session)
    if resources.settings.public_url:
        return waiting
    return [one for one in waiting if one.kind != "webhook_checks"]


def judge_workers(seen: Sequence[Heartbeat], waiting: Sequence[Backlog]) -> list[Finding]:
    """Who is running, and a finding for each worker that is not as it should be."""
    living = [one for one in seen if not one.silent]
    found = [_running(living, seen, waiting)]
    for one in seen:
        found += _about(one, alone=not living)
    return found


def _running(
    living: Sequence[Heartbeat], seen: Sequence[Heartbeat], waiting: Sequence[Backlog]
) -> Finding:
    waits = [
        f"{_words(one.kind)}: {_count(one.due + one.held)}" for one in waiting if one.due + one.held
    ]
    if living:
        stuck = [one for one in living if _stuck(one)]
        versions = ", ".join(sorted({one.version for one in living}))
        detail = f"{len(living)} running, version {versions}"
        if len(stuck) == len(living):
            return Finding(
                "workers", "problem", f"{detail}, and none of them looks for work",
                "Restart them: the dispatcher of each is stuck.",
            )  # fmt: skip
        return Finding("workers", "ok", detail)
    if waits:
        return Finding(
            "workers", "problem", f"none is running although work waits: {', '.join(waits)}",
            "Start one: mcsync worker",
        )  # fmt: skip
    if seen:
        return Finding(
            "workers", "problem", "none is running, and none was stopped as it should be",
            "Start one: mcsync worker",
        )  # fmt: skip
    return Finding("workers", "warning", "none is running, and nothing waits", "mcsync worker")


def _about(one: Heartbeat, *, alone: bool) -> list[Finding]:
    name = f"worker {one.worker_id}"
    where = f"host {one.host}, pid {one.pid if one.pid is not None else 'unknown'}"
    if one.silent:
        return [
            Finding(
                name, "problem" if alone else "warning",
                f"silent for {ago(one.silent_seconds)} ({where}): killed, suspended, or cut off from PostgreSQL",
                "Look whether the process is there: kill -CONT continues a suspended one, else start another."
                " The row of one that is gone disappears after an hour.",
            )
        ]  # fmt: skip
    found = []
    if _stuck(one):
        found.append(
            Finding(
                name, "problem",
                f"its dispatcher has not looked for work for {ago(one.dispatch_seconds or 0)} ({where})",
                "Restart it; what it holds is taken over.",
            )
        )  # fmt: skip
    off = abs(one.clock_seconds or 0.0)
    if off >= CLOCK_WARNING:
        side = "ahead of" if (one.clock_seconds or 0.0) > 0 else "behind"
        found.append(
            Finding(
                name, "problem" if off >= CLOCK_PROBLEM else "warning",
                f"its clock is {off:.0f} s {side} PostgreSQL's ({where})",
                "Let that host follow a time server (chrony or systemd-timesyncd).",
            )
        )  # fmt: skip
    return found


def _stuck(one: Heartbeat) -> bool:
    return one.dispatch_seconds is not None and one.dispatch_seconds > DISPATCHER_STUCK_SECONDS


def judge_backlog(waiting: Sequence[Backlog], *, anybody: bool) -> list[Finding]:
    """One finding for each kind of work that is late; one for all others together."""
    late = [one for one in waiting if one.due and one.oldest_seconds > EXPECTED_SECONDS[one.kind]]
    advice = (
        "Workers are there and do not take it: look at their log and their /health/ready, or start more."
        if anybody
        else "Start a worker: mcsync worker"
    )
    found = [
        Finding(
            f"backlog of {_words(one.kind)}", "problem",
            f"{_count(one.due)} due, the oldest for {ago(one.oldest_seconds)};"
            f" expected within {ago(EXPECTED_SECONDS[one.kind])}",
            advice,
        )
        for one in late
    ]  # fmt: skip
    on_time = [one for one in waiting if one not in late and one.due + one.held]
    detail = ", ".join(
        f"{_words(one.kind)}: {_count(one.due)} due, {one.held} under way" for one in on_time
    )
    if not late or on_time:
        found.append(Finding("backlog", "ok", detail or "nothing waits"))
    return found


def _count(rows: int) -> str:
    return f"{rows:,} or more" if rows >= 1000 else str(rows)  # nobody counts further


def _words(kind: str) -> str:
    return kind.replace("_", " ")
