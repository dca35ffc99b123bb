"""The worker process: ARQ listens for the bell, the dispatcher rings it for all that is due.

Any number of workers may run. SIGTERM hands runs over within about a second; SIGKILL costs no more
than the lease, after which another worker goes on at the last committed call. A worker outlives Redis
and PostgreSQL: without the bell its dispatcher starts what is due in this process itself, and without
PostgreSQL it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final
from uuid import uuid4

import structlog
from fastapi import Response

from mcsync import __version__
from mcsync.core.db import heartbeats
from mcsync.core.db.heartbeats import BEAT_SECONDS
from mcsync.core.jobs import (
    AUDIENCE_PULL,
    CAMPAIGN_STATS,
    ERASURE,
    FORM_POST,
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    SOURCE_PULL,
    TRANSACTIONAL_OUTCOMES,
    TRANSACTIONAL_SEND,
    WEBHOOK,
    WEBHOOKS,
    Bell,
    Crew,
    ring_due,
)
from mcsync.core.logging import cause_of, configure_logging
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.core.start import StartCheck
from mcsync.core.web.health import ready as readiness
from mcsync.core.worker_health import HealthPort, PortTakenError, Pulse
from mcsync.features.campaigns import dispatch as campaign_dispatch
from mcsync.features.campaigns import jobs as campaign_jobs
from mcsync.features.erasure import dispatch as erasure_dispatch
from mcsync.features.erasure import jobs as erasure_jobs
from mcsync.features.sources import dispatch as sources
from mcsync.features.sources import jobs as source_jobs
from mcsync.features.subscribers import forms
from mcsync.features.subscribers import jobs as subscriber_jobs
from mcsync.features.sync import dispatch, housekeeping, jobs
from mcsync.features.transactional import dispatch as mail_dispatch
from mcsync.features.transactional import jobs as mail_jobs
from mcsync.features.webhooks import dispatch as webhook_dispatch
from mcsync.features.webhooks import jobs as webhook_jobs
from mcsync.features.webhooks import service as webhooks

_log = structlog.get_logger(__name__)

MAX_RUNS = 20
"""Runs that one worker works on at a time."""
MAX_MAILS = 8
"""Hand-overs of transactional mail at a time; a Mailchimp that hangs must not hold up opt-outs."""
_ROOM_FOR_ORDERS = 20
"""Jobs beyond those: a withdrawal never waits behind runs."""
_MAX_REFRESHES = 8
"""Rounds over campaigns that one worker works on at a time."""
_MAX_FORMS = 8
"""Form posts that one worker works on at a time."""
_ROOM: Final = MAX_RUNS + _ROOM_FOR_ORDERS + _MAX_REFRESHES + _MAX_FORMS + MAX_MAILS
"""Jobs of all kinds that one worker works on at a time."""
_DRAIN_SECONDS = 5.0
_DISPATCH_SECONDS = 1.0
_CHECK_SECONDS = 2.0
_SCHEDULE_SECONDS = 20.0
_TIDY_SECONDS = 3600.0
_TELL_AGAIN_SECONDS = 60.0

_DUE: Final = (
    *dispatch.DUE,
    *webhook_dispatch.DUE,
    *erasure_dispatch.DUE,
    *sources.DUE,
    *campaign_dispatch.DUE,
    *forms.DUE,
    *mail_dispatch.DUE,
)


async def _ring_due(resources: Resources, pulse: Pulse) -> None:
    try:
        due = await ring_due(resources.db, resources.jobs, *_DUE)
    except Exception:
        pulse.dispatch_failed()
        raise
    pulse.dispatched(due)


_JOBS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    SEGMENT_SYNC: jobs.segment_sync,
    ORDER: jobs.order,
    ERASURE: erasure_jobs.gdpr_erasure,
    SCHEDULED_SYNC: jobs.scheduled_sync,
    WEBHOOK: webhook_jobs.webhook,
    WEBHOOKS: webhook_jobs.webhooks,
    AUDIENCE_PULL: webhook_jobs.audience_pull,
    SOURCE_PULL: source_jobs.source_pull,
    FORM_POST: subscriber_jobs.form_post,
    CAMPAIGN_STATS: campaign_jobs.campaign_stats_refresh,
    TRANSACTIONAL_SEND: mail_jobs.transactional_send,
    TRANSACTIONAL_OUTCOMES: mail_jobs.transactional_outcomes,
}
"""What may be rung for. The nightly work needs no bell: the loops below begin it within seconds."""

_LOOPS: Final[tuple[tuple[float, Callable[[Resources], Awaitable[Any]]], ...]] = (
    (_CHECK_SECONDS, webhook_dispatch.ring_checks),
    (_SCHEDULE_SECONDS, campaign_dispatch.schedule),
    (_SCHEDULE_SECONDS, partial(dispatch.schedule, before=sources.before_sync)),
    (_SCHEDULE_SECONDS, sources.schedule),
    (_TIDY_SECONDS, housekeeping.tidy),
    (_TIDY_SECONDS, webhooks.tidy),
    (_TIDY_SECONDS, mail_dispatch.tidy),
)
"""What every worker does again and again. Each is safe in any number of processes."""


def run(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    check: StartCheck | None = None,
) -> None:
    """Runs a worker until SIGTERM or SIGINT; with a ``port`` it answers there how it is.

    ``check`` is what the database has still to answer before the worker takes a job. Raises
    ``SettingsError`` when half-configured or where that answer is no, and ``PortTakenError`` where the port
    cannot be had.
    """
    configure_logging(settings)
    # What is loaded now stays: the collector need not walk it again, nor as often, while answers
    # of 500 rows come and go (a fifth of a push's CPU otherwise).
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings, host=host, port=port, check=check))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: half the CPU a call costs here is moving bytes."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover
        return None
    return uvloop.new_event_loop


async def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    check: StartCheck | None = None,
) -> None:
    """The worker, in a running loop. Takes and raises what :func:`run` takes and raises."""
    pulse = Pulse(room=_ROOM)
    resources = await Resources.build(settings)
    try:
        health = _health_port(resources, pulse, host, port)
    except PortTakenError:
        await resources.close()
        raise
    resources.start_checked = check is None
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    turning = asyncio.create_task(pulse.turn())
    if health is not None:
        health.start()
        _log.info("health_port_opened", host=host, port=health.port)
    try:
        if check is not None:
            await _checked(check, resources, stopping)
        if not stopping.is_set():
            pulse.work_begins()
            await _work(resources, pulse, health, stopping)
    finally:
        stopping.set()
        if health is not None:
            await health.stop()
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        await resources.close()


async def _checked(check: StartCheck, resources: Resources, stopping: asyncio.Event) -> None:
    """Waits until the database has answered the checks of the start, or the worker has to stop."""
    asking = asyncio.create_task(check.until_answered(resources))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (asking, stopped):
        task.cancel()
    said, _ = await asyncio.gather(asking, stopped, return_exceptions=True)
    if isinstance(said, Exception):
        raise said


async def _work(
    resources: Resources, pulse: Pulse, health: HealthPort | None, stopping: asyncio.Event
) -> None:
    """Takes jobs until the worker has to stop; then hands them over, and answers no probe any more."""
    worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    pulling = source_jobs.Pulling(pulled=dispatch.release_waiting)
    redis_url = resources.settings.redis_url
    assert redis_url is not None
    crew = Crew(
        {name: pulse.counted(work) for name, work in _JOBS.items()},
        {
            "resources": resources,
            "stopping": stopping,
            "worker_id": worker_id,
            "runs": asyncio.Semaphore(MAX_RUNS),
            "pulling": pulling,
            "before_sync": sources.before_sync,
            "forms": asyncio.Semaphore(_MAX_FORMS),
            "refreshes": asyncio.Semaphore(_MAX_REFRESHES),
            "mails": asyncio.Semaphore(MAX_MAILS),
        },
        most=_ROOM,
        each={ORDER: jobs.ORDERS_EACH},
    )
    bell = Bell(redis_url.get_secret_value(), crew, _JOBS)
    resources.jobs.start_here(crew.start, is_heard=lambda: bell.is_heard)
    _log.info("worker_started", worker=worker_id, version=__version__)
    tasks = _begin_loops(resources, pulse, worker_id, stopping)
    listening = asyncio.create_task(bell.listen())
    try:
        await stopping.wait()
    finally:
        stopping.set()
        if health is not None:
            await health.stop()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        # jobs hand over what they hold (they see ``stopping``)
        await crew.drain(seconds=_DRAIN_SECONDS)
        await pulling.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _gone(resources, worker_id)
        _log.info("worker_stopped", worker=worker_id)


def _begin_loops(
    resources: Resources, pulse: Pulse, worker_id: str, stopping: asyncio.Event
) -> list[asyncio.Task[None]]:
    """What a worker does by itself: the schedules, the dispatcher and the heartbeats."""
    acts: list[tuple[float, Callable[[], Awaitable[Any]]]] = [
        *((seconds, partial(act, resources)) for seconds, act in _LOOPS),
        (_DISPATCH_SECONDS, partial(_ring_due, resources, pulse)),
        (BEAT_SECONDS, partial(_beat, resources, worker_id, pulse)),
    ]
    once = _once(partial(webhook_dispatch.ring_elsewhere, resources))
    return [
        *(asyncio.create_task(_every(seconds, stopping, act)) for seconds, act in acts),
        asyncio.create_task(once),
    ]


async def _every(
    seconds: float, stopping: asyncio.Event, act: Callable[[], Awaitable[Any]]
) -> None:
    """Acts again and again; a failure costs one turn, and is logged when it is new or a minute old."""
    told, told_at = "", 0.0
    while not stopping.is_set():
        try:
            await act()
            told = ""
        except Exception as error:  # noqa: BLE001 - the loop must outlive any of them
            cause, now = cause_of(error), time.monotonic()
            if cause != told or now - told_at >= _TELL_AGAIN_SECONDS:
                told, told_at = cause, now
                work = getattr(act, "func", act)
                name = f"{work.__module__.removeprefix('mcsync.features.')}.{work.__name__}"
                _log.warning("loop_failed", loop=name, error=cause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), seconds)


async def _once(act: Callable[[], Awaitable[Any]]) -> None:
    """Acts until it succeeded once."""
    done = asyncio.Event()

    async def at_start() -> None:
        await act()
        done.set()

    await _every(_SCHEDULE_SECONDS, done, at_start)


def _health_port(
    resources: Resources, pulse: Pulse, host: str, port: int | None
) -> HealthPort | None:
    async def checks() -> dict[str, str]:
        return (await readiness(resources, Response())).model_dump(mode="json", by_alias=True)

    return None if port is None else HealthPort(pulse, checks, host=host, port=port)


async def _beat(resources: Resources, worker_id: str, pulse: Pulse) -> None:
    async with resources.db.system(vital=True) as session:
        await heartbeats.beat(
            session, worker_id,
            dispatch=pulse.dispatch_seconds, idle=pulse.idle_seconds, jobs=pulse.jobs,
        )  # fmt: skip
    pulse.beaten()


async def _gone(resources: Resources, worker_id: str) -> None:
    with contextlib.suppress(Exception):
        async with resources.db.system() as session:
            await heartbeats.end(session, worker_id)
