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


def run(settings: Settings, *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Runs a worker until SIGTERM or SIGINT; with a ``port`` it answers there how it is.

    Raises ``SettingsError`` when half-configured, and ``PortTakenError`` where the port cannot be had.
    """
    configure_logging(settings)
    # What is loaded now stays: the collector need not walk it again, nor as often, while answers
    # of 500 rows come and go (a fifth of a push's CPU otherwise).
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings, host=host, port=port))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: half the CPU a call costs here is moving bytes."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover
        return None
    return uvloop.new_event_loop


async def serve(settings: Settings, *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """The worker, in a running loop. Raises what :func:`run` raises."""
    pulse = Pulse(room=_ROOM)
    resources = await Resources.build(settings)
    try:
        health = _health_port(resources, pulse, host, port)
    except PortTakenError:
        await resources.close()
        raise
    stopping = asyncio.Event()
    worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    pulling = source_jobs.Pulling(pulled=dispatch.release_waiting)
    assert settings.redis_url is not None
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
    bell = Bell(settings.redis_url.get_secret_value(), crew, _JOBS)
    resources.jobs.start_here(crew.start, is_heard=lambda: bell.is_heard)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _log.info("worker_started", worker=worker_id, version=__version__)
    tasks = [
        asyncio.create_task(_every(seconds, stopping, partial(act, resources)))
        for seconds, act in _LOOPS
    ]
    tasks += [
        asyncio.create_task(pulse.turn()),
        asyncio.create_task(
            _every(_DISPATCH_SECONDS, stopping, partial(_ring_due, resources, pulse))
        ),
        asyncio.create_task(
            _every(BEAT_SECONDS, stopping, partial(_beat, resources, worker_id, pulse))
        ),
    ]
    tasks.append(asyncio.create_task(_once(partial(webhook_dispatch.ring_elsewhere, resources))))
    if health is not None:
        health.start()
        _log.info("health_port_opened", host=host, port=health.port)
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
        await resources.close()
        _log.info("worker_stopped", worker=worker_id)


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
