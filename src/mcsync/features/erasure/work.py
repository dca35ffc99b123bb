"""Carrying out an erasure: claimed under a lease, until Mailchimp answers 404 everywhere (``design.md`` 6).

Every step may be repeated, and is safe to lose: what was not recorded is done again. Nothing but a read-back
that answers 404 while the list itself is there counts as erased; everything else leaves the target open,
visible, and tried again for ever.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.crash import crash_point
from mcsync.core.crypto import SecretError
from mcsync.core.db import is_passing
from mcsync.core.jobs import ERASURE, FencedError, under_lease
from mcsync.core.resources import Resources
from mcsync.features.erasure import completion, leases, repository, stores
from mcsync.features.erasure.models import ErasureTarget
from mcsync.features.erasure.reach import Reach
from mcsync.features.erasure.subject import Subject, subject_context

_log = structlog.get_logger(__name__)

SLICE_SECONDS: Final = 480.0
"""An erasure that takes longer hands itself on, so that no job outlives ARQ's time-out."""
_SOON_SECONDS: Final = 1.0
_NO_KEY_SECONDS: Final = 60.0


class HandOver(Exception):
    """This process should let go of the erasure: it stops, or the slice is over."""


async def work_on(
    resources: Resources, org_id: UUID, erasure_id: UUID, *, owner: str, stopping: asyncio.Event
) -> bool:
    """Claims an erasure and works on it; False where it was not to be had."""
    async with resources.db.transaction(org_id) as session:
        held = await leases.claim(
            session, erasure_id, owner=owner, lease_seconds=resources.settings.run_lease_seconds
        )
    if held is None:
        return False
    crash_point("erasure.claimed")
    await _Hold(resources, held, stopping).work()
    return True


class _Hold:
    """One worker's hold on one erasure."""

    def __init__(self, resources: Resources, held: leases.Claimed, stopping: asyncio.Event) -> None:
        self._resources = resources
        self._db = resources.db
        self._held = held
        self._stopping = stopping
        self._started = time.monotonic()

    async def work(self) -> None:
        """Works until it is done, waits, or is handed over. Never raises but on cancellation."""
        await under_lease(
            self._guarded(), renew=self._renew, hand_over=self._hand_over, erasure=str(self._held.id),
            lease_seconds=self._resources.settings.run_lease_seconds,
        )  # fmt: skip

    async def _renew(self) -> None:
        lease = self._resources.settings.run_lease_seconds
        async with self._db.transaction(self._held.org_id, vital=True) as session:
            await leases.renew(session, self._held, lease_seconds=lease)

    async def _guarded(self) -> None:
        log = _log.bind(erasure=str(self._held.id), org=str(self._held.org_id))
        try:
            await self._steps()
        except FencedError:
            log.info("erasure_fenced")
        except HandOver:
            await self._hand_over()
        except SecretError:
            await self._postpone("subject_unreadable", _NO_KEY_SECONDS)
        except completion.NotYetError:
            await self._postpone("plan_under_way", 2.0)
        except Exception as error:
            if is_passing(error):
                log.warning("erasure_delayed", error=type(error).__name__)
                await self._postpone("database_unavailable", 5.0)
            else:
                log.exception("erasure_crashed")
                await self._postpone("internal_error", 30.0)

    async def _postpone(self, code: str, seconds: float) -> None:
        try:
            async with self._db.transaction(self._held.org_id) as session:
                await leases.postpone(session, self._held, seconds=seconds, error=code)
        except (FencedError, SQLAlchemyError, OSError) as error:
            # then the lease runs out by itself, and the dispatcher finds the erasure
            _log.info("not_postponed", erasure=str(self._held.id), error=type(error).__name__)

    async def _hand_over(self) -> None:
        try:
            async with self._db.transaction(self._held.org_id) as session:
                await leases.write(
                    session, self._held,
                    "lease_until = null, lease_owner = null, next_attempt_at = clock_timestamp()",
                )  # fmt: skip
        except FencedError:
            return
        await self._resources.jobs.ring(
            ERASURE, self._held.id, self._held.org_id, epoch=self._held.epoch
        )

    def _check(self) -> None:
        if self._stopping.is_set() or time.monotonic() - self._started > SLICE_SECONDS:
            raise HandOver

    async def _steps(self) -> None:
        held = self._held
        context = subject_context(held.org_id, held.id)
        subject = Subject.load(self._resources.keys.open(held.subject, context=context))
        hash_key = await self._resources.hash_keys.hash_key(held.org_id)
        if not held.scrubbed:
            await self._scrub_large(subject, hash_key)
        reach = Reach(self._resources, held, subject, hash_key)
        # after trouble it is let go, and looked at again when that is due
        while not reach.failed and (due := await self._due()):
            self._check()
            await reach.round(due, self._check)
        async with self._db.transaction(held.org_id) as session:
            done = not await _open(session, held.id)
            if not done:
                await leases.let_go(session, held, failed=reach.failed, wait_seconds=_SOON_SECONDS)
        if done:
            crash_point("erasure.all_confirmed")
            await completion.complete(self._resources, held, subject, hash_key)
            crash_point("erasure.done")

    async def _scrub_large(self, subject: Subject, hash_key: bytes) -> None:
        async with self._db.transaction(self._held.org_id) as session:
            counts = await stores.scrub(
                session, subject, hash_key, erasure_id=self._held.id, only=stores.When.SOON
            )
            await leases.add_pass(session, self._held, counts, "scrubbed_at = clock_timestamp()")
        crash_point("erasure.scrubbed")

    async def _due(self) -> list[ErasureTarget]:
        async with self._db.transaction(self._held.org_id) as session:
            now = await session.scalar(text("select clock_timestamp()"))
            assert isinstance(now, datetime)
            found = await repository.targets(session, [self._held.id])
        return [t for t in found if t.state == "open" and t.next_attempt_at <= now]


async def _open(session: AsyncSession, erasure_id: UUID) -> bool:
    found = await session.scalar(
        text(
            """select exists (select from erasure_targets
                              where erasure_id = :erasure and state = 'open')"""
        ),
        {"erasure": erasure_id},
    )
    return bool(found)
