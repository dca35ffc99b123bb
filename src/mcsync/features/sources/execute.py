"""Working on a pull under its lease: kept alive, handed over, tried again, ended."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import is_passing
from mcsync.core.db.troubles import WORDS, Trouble, trouble_of
from mcsync.core.errors import ConflictError
from mcsync.core.jobs import SOURCE_PULL, FencedError, under_lease
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.sources import pulls, repository
from mcsync.features.sources.errors import SourceError, too_slow
from mcsync.features.sources.models import Source
from mcsync.features.sources.pull import Outcome, Pull, Record

_log = structlog.get_logger(__name__)

_PAUSES: Final = (10, 30, 60, 120, 300)
"""Seconds before a pull that met something passing begins anew; then it has failed."""
_COMMANDED: Final = frozenset({"cli"})
"""Triggers of pulls that somebody waits for: they are told at once, and may try again themselves."""


class _Failed(Exception):
    """The pull cannot go on. ``passing``: it may in a while."""

    def __init__(self, code: str, message: str, *, passing: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.passing = passing


async def work_on(
    resources: Resources, org_id: UUID, pull_id: UUID, *, owner: str, stopping: asyncio.Event
) -> bool:
    """Works on the pull until it ends, waits or is handed over; False where it was not to be had."""
    async with resources.db.transaction(org_id) as session:
        claimed = await pulls.claim(
            session, pull_id, owner=owner, lease_seconds=resources.settings.run_lease_seconds
        )
    if claimed is None:
        return False
    await _Execution(resources, claimed, stopping).execute()
    return True


class _Execution:
    """One worker's hold on one pull."""

    def __init__(self, resources: Resources, pull: pulls.Claimed, stopping: asyncio.Event) -> None:
        self._resources = resources
        self._db = resources.db
        self._pull = pull
        self._stopping = stopping
        self._actor = Actor.system(pull.org_id, SOURCE_PULL, request_id=pull.request_id)
        self._log = _log.bind(pull=str(pull.id), org=str(pull.org_id), epoch=pull.epoch)

    async def execute(self) -> None:
        """Never raises but on cancellation. Stopped in the middle, nothing was stored."""
        await under_lease(
            self._work(), renew=self._renew, hand_over=self._hand_over, stopping=self._stopping,
            lease_seconds=self._resources.settings.run_lease_seconds, pull=str(self._pull.id),
        )  # fmt: skip

    async def _renew(self) -> None:
        lease = self._resources.settings.run_lease_seconds
        async with self._db.transaction(self._pull.org_id, vital=True) as session:
            await pulls.renew(session, self._pull, lease_seconds=lease)

    async def _hand_over(self) -> None:
        try:
            async with self._db.transaction(self._pull.org_id) as session:
                await pulls.hand_over(session, self._pull)
        except (FencedError, SQLAlchemyError, OSError):
            self._log.info("pull_not_handed_over")

    async def _work(self) -> None:
        try:
            await self._steps()
        except FencedError:
            self._log.info("pull_fenced")
        except Exception as error:  # noqa: BLE001 - whatever it is, the row tells
            failure = _verdict(error)
            if failure.code == "internal_error":
                # the error itself may carry a row: its place must do
                self._log.error("pull_crashed", error=type(error).__name__, at=_place(error))
            else:
                self._log.info("pull_stopped", code=failure.code)
            await self._stop(failure)

    async def _steps(self) -> None:
        async with self._db.transaction(self._pull.org_id) as session:
            source = await repository.get(session, self._pull.source_id)
        if source is None:
            raise _Failed("source_removed", "The source was removed.")
        pull = Pull(self._resources, self._actor, source, self._pull.wish)
        minutes = self._resources.settings.source_pull_minutes
        try:
            async with asyncio.timeout(minutes * 60) as limit:
                outcome = await pull.carry_out(self._recorder(source))
                if source.mode == "queue":
                    await self._acknowledge(pull, outcome)
        except TimeoutError:
            if not limit.expired():
                raise
            raise too_slow(minutes * 60) from None
        finally:
            pull.close()
        self._log.info("pull_finished", status=outcome.status, rows=outcome.report["received"])

    def _recorder(self, source: Source) -> Record:
        async def record(session: AsyncSession, outcome: Outcome) -> None:
            if source.mode == "queue":  # it ends when the queue knows
                await pulls.write(session, self._pull, "import_id = :import",
                                  **{"import": outcome.import_id})  # fmt: skip
                return
            await pulls.end(
                session, self._pull, outcome.status, report=outcome.report,
                import_id=outcome.import_id, error=outcome.error,
            )  # fmt: skip

        return record

    async def _acknowledge(self, pull: Pull, outcome: Outcome) -> None:
        try:
            outcome.report["acknowledged"] = await pull.acknowledge(outcome.import_id)
        except SourceError as error:
            outcome.status = "succeeded_with_errors"
            outcome.error = {
                "code": "not_acknowledged",
                "message": "All rows were stored, but the queue could not be told; they will be read"
                f" again. {error.message}",
            }
        async with self._db.transaction(self._pull.org_id) as session:
            await pulls.end(
                session, self._pull, outcome.status, report=outcome.report, error=outcome.error
            )

    async def _stop(self, failure: _Failed) -> None:
        told = {"code": failure.code, "message": failure.message}
        attempt = self._pull.attempts
        try:
            async with self._db.transaction(self._pull.org_id) as session:
                if (
                    failure.passing
                    and attempt < len(_PAUSES)
                    and self._pull.trigger not in _COMMANDED
                ):
                    await pulls.postpone(session, self._pull, seconds=_PAUSES[attempt], error=told)
                    return
                waits = failure.code == "confirm_withdrawals"
                status = "approval_needed" if waits else "failed"
                await pulls.end(session, self._pull, status, error=told)
                audit.record(
                    session, self._actor, AuditAction.SOURCES_FINISH, entity="source",
                    entity_id=self._pull.source_id, diff={"status": status, "code": failure.code},
                )  # fmt: skip
        except FencedError:
            self._log.info("pull_fenced")
        except (SQLAlchemyError, OSError) as error:
            # the lease runs out, and another worker begins anew
            self._log.warning("pull_not_ended", error=type(error).__name__)


def _verdict(error: Exception) -> _Failed:
    """What to tell of an error, in words that hold neither credentials nor anybody's data."""
    if trouble_of(error) is Trouble.FULL:
        return _Failed(
            WORDS[Trouble.FULL].code,
            "The disk of mcsync's own database is full; an operator must make room on it.",
            passing=True,
        )
    match error:
        case _Failed():
            return error
        case SourceError():
            return _Failed(error.code, error.message, passing=error.passing)
        case ConflictError():
            return _Failed(error.code, error.detail, passing=error.code == "erased_meanwhile")
        case _ if is_passing(error):
            return _Failed(
                "database_unavailable", "mcsync's own database was not available.", passing=True
            )
    return _Failed(
        "internal_error", "Something went wrong on our side; the worker's log tells where.",
        passing=True,
    )  # fmt: skip


def _place(error: BaseException) -> str:
    """Where it happened: file and line, nothing of what was there."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "?" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
