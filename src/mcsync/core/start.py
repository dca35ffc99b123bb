"""What a process of the service must not start with: found before it serves, with what to do about each.

A database that does not answer is no reason: the process starts, and asks again until it was answered
once. Until then it takes no work and no requests, since nobody knows whether it may.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from mcsync.core.auth.organisations import opens_hash_key
from mcsync.core.crypto import KeyRing
from mcsync.core.db import Database, make_engine, migrations
from mcsync.core.db.inspection import ServerAndRole, sealed_keys, server_and_role
from mcsync.core.db.pooler import find_pooler
from mcsync.core.db.troubles import trouble_of
from mcsync.core.environment import Reading, unknown_names
from mcsync.core.logging import cause_of
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError

Kind = Literal["api", "worker"]

_SECONDS: Final = 5.0
"""How long a database that does not answer is waited for before the process starts without the checks."""
_LATE_SECONDS: Final = 15.0
"""How long one attempt may take once the process has started: nobody waits for it."""
_AGAIN_SECONDS: Final = 1.0
"""Seconds between two attempts."""
_TELL_AGAIN_SECONDS: Final = 60.0
_NO_ANSWER: Final = (SQLAlchemyError, PostgresError, InterfaceError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the database said. ``lacking``: why it could not be asked everything; None where it was."""

    problems: list[str]
    lacking: str | None = None


def require_start(
    reading: Reading, kind: Kind, environment: Mapping[str, str], *, any_role: bool = False
) -> StartCheck | None:
    """Checks all that a process must not start with. Raises ``SettingsError`` naming everything at once.

    ``any_role``: a role that row-level security does not bind is accepted (``--i-know``). Answers what is
    still to be asked because the database did not answer it; None where nothing is.
    """
    problems = reading.service_problems() + unknown_names(environment)
    check, complete = StartCheck(kind, any_role=any_role), False
    if not reading.settings.database_problems():
        answer = asyncio.run(check.ask_apart(reading.settings))
        problems += answer.problems
        complete = answer.lacking is None
    if problems:
        raise SettingsError(problems)
    return None if complete else check


class StartCheck:
    """The questions to the database: may a process of this kind work on it, as this role, with these keys?"""

    def __init__(self, kind: Kind, *, any_role: bool = False) -> None:
        self._kind = kind
        self._any_role = any_role

    async def ask_apart(self, settings: Settings) -> _Answer:
        """Asks once, on a connection of its own. An unusable set of keys is left out."""
        assert settings.database_url is not None
        keys = None if settings.key_problems() else KeyRing.from_settings(settings)
        engine = make_engine(settings.database_url.get_secret_value(), pool_size=1)
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._ask(Database(engine), keys)
        except _NO_ANSWER as error:
            return _Answer([], lacking=_trouble(error))
        finally:
            await engine.dispose()

    async def until_answered(self, resources: Resources) -> None:
        """Asks again and again; then the process may serve (``resources.start_checked``).

        Raises ``SettingsError`` as soon as an answer says that it must not.
        """
        began = time.monotonic()
        told, told_at = "", 0.0
        while True:
            try:
                async with asyncio.timeout(_LATE_SECONDS):
                    answer = await self._ask(resources.db, resources.keys)
            except _NO_ANSWER as error:
                answer = _Answer([], lacking=_trouble(error))
            if answer.problems:
                raise SettingsError(answer.problems)
            if answer.lacking is None:
                break
            now = time.monotonic()
            if answer.lacking != told or now - told_at >= _TELL_AGAIN_SECONDS:
                told, told_at = answer.lacking, now
                _log.warning("start_unchecked", kind=self._kind, error=told)
            await asyncio.sleep(_AGAIN_SECONDS)
        resources.start_checked = True
        _log.info("start_checked", kind=self._kind, seconds=round(time.monotonic() - began, 1))

    async def _ask(self, db: Database, keys: KeyRing | None) -> _Answer:
        pooler = await find_pooler(db.engine)
        if pooler is not None and pooler.problem is not None:
            return _Answer([pooler.problem])
        async with db.system() as session:
            about = await server_and_role(session)
            problems = [] if self._any_role else _of_role(about)
            if not about.migrated:
                return _Answer(problems, lacking="database_not_migrated")
            if not about.in_service_group:
                return _Answer(problems, lacking="role_outside_group")  # it can read nothing else
            at = await migrations.current(session)
        state = migrations.compared(at)
        if state == "behind":
            if self._kind == "worker" and at is not None:
                problems.append(
                    f"The database is at revision {at}, and this worker needs {migrations.head()}:"
                    " run `mcsync migrate`."
                )
            return _Answer(problems, lacking="database_behind")
        if keys is not None:
            try:
                problems += await _of_keys(db, keys)
            except ProgrammingError:
                if state != "ahead":  # a newer version may have moved what this one looks for
                    raise
        return _Answer(problems)


def _trouble(error: Exception) -> str:
    """The name of a failure, as in the other events of the log."""
    trouble = trouble_of(error)
    return cause_of(error) if trouble is None else f"database_{trouble.value}"


def _of_role(about: ServerAndRole) -> list[str]:
    wrong = f"is {about.unbound}" if about.unbound else "owns the tables" if about.owner else None
    if wrong is None:
        return []
    return [
        (
            f"The role {about.role} of MCSYNC_DATABASE_URL {wrong}, so that nothing keeps organisations"
            " apart. Use a role of its own: `mcsync migrate --service-role mcsync_service` makes one"
            " (`--i-know` starts all the same)."
        )
    ]


async def _of_keys(db: Database, keys: KeyRing) -> list[str]:
    """Keys that stored secrets need, and that are missing or are others under the same id."""
    problems = []
    async with db.system() as session:
        used = [one for one in await sealed_keys(session) if one.key]
    for one in used:
        if one.key not in keys.key_ids:
            problems.append(
                f"MCSYNC_MASTER_KEYS lacks the key {one.key}, under which {one.secrets} stored secrets"
                " are sealed. Put it back."
            )
        elif await opens_hash_key(db, keys, one) is False:
            problems.append(
                f"The key {one.key} of MCSYNC_MASTER_KEYS is not the one under which {one.secrets} stored"
                " secrets are sealed. Put the right one back."
            )
    return problems
