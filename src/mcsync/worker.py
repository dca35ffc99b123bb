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
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from uuid import uuid4

import structlog
from sqlalchemy import text

from mcsync import __version__
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
    JobFunction,
    ring_due,
)
from mcsync.core.logging import cause_of, configure_logging
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
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
_DRAIN_SECONDS = 5.0
_DISPATCH_SECONDS = 1.0
_CHECK_SECONDS = 2.0
_SCHEDULE_SECONDS = 20.0
_HEARTBEAT_SECONDS = 10.0
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


async def _ring_due(resources: Resources) -> int:
    return await ring_due(resources.db, resources.jobs, *_DUE)


_JOBS: Final[dict[str, JobFunction]] = {
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
    (_DISPATCH_SECONDS, _ring_due),
    (_CHECK_SECONDS, webhook_dispatch.ring_checks),
    (_SCHEDULE_SECONDS, campaign_dispatch.schedule),
    (_SCHEDULE_SECONDS, partial(dispatch.schedule, before=sources.before_sync)),
    (_SCHEDULE_SECONDS, sources.schedule),
    (_TIDY_SECONDS, housekeeping.tidy),
    (_TIDY_SECONDS, webhooks.tidy),
    (_TIDY_SECONDS, mail_dispatch.tidy),
)
"""What every worker does again and again. Each is safe in any number of processes."""


def run(settings: Settings) -> None:
    """Runs a worker until SIGTERM or SIGINT. Raises ``SettingsError`` when half-configured."""
    configure_logging(settings)
    # What is loaded now stays: the collector need not walk it again, nor as often, while answers
    # of 500 rows come and go (a fifth of a push's CPU otherwise).
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: half the CPU a call costs here is moving bytes."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover
        return None
    return uvloop.new_event_loop


async def serve(settings: Settings) -> None:
    """The worker, in a running loop."""
    resources = await Resources.build(settings)
    stopping = asyncio.Event()
    worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    pulling = source_jobs.Pulling(pulled=dispatch.release_waiting)
    assert settings.redis_url is not None
    crew = Crew(
        _JOBS,
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
        most=MAX_RUNS + _ROOM_FOR_ORDERS + _MAX_REFRESHES + _MAX_FORMS + MAX_MAILS,
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
    tasks.append(
        asyncio.create_task(
            _every(_HEARTBEAT_SECONDS, stopping, partial(_beat, resources, worker_id))
        )
    )
    listening = asyncio.create_task(bell.listen())
    try:
        await stopping.wait()
    finally:
        stopping.set()
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


async def _beat(resources: Resources, worker_id: str) -> None:
    async with resources.db.system(vital=True) as session:
        await session.execute(
            text(
                """insert into worker_heartbeats (worker_id, host, version, started_at, seen_at)
                   values (:id, :host, :version, now(), now())
                   on conflict (worker_id) do update set seen_at = now()"""
            ),
            {"id": worker_id, "host": socket.gethostname(), "version": __version__},
        )
        await session.execute(
            text("delete from worker_heartbeats where seen_at < now() - interval '1 hour'")
        )


async def _gone(resources: Resources, worker_id: str) -> None:
    with contextlib.suppress(Exception):
        async with resources.db.system() as session:
            await session.execute(
                text("delete from worker_heartbeats where worker_id = :id"), {"id": worker_id}
            )
