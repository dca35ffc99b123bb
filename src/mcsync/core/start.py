"""What a process of the service must not start with: found before it serves, with what to do about each.

A database that cannot be reached is no reason: the process starts, and works when the database is there.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from sqlalchemy.exc import SQLAlchemyError

from mcsync.core.auth.organisations import opens_hash_key
from mcsync.core.crypto import KeyRing
from mcsync.core.db import Database, make_engine, migrations
from mcsync.core.db.inspection import ServerAndRole, sealed_keys, server_and_role
from mcsync.core.settings import Settings, SettingsError

Kind = Literal["api", "worker"]

_SECONDS: Final = 5.0
"""How long a database that does not answer is waited for before the process starts without the checks."""
_COMMANDS: Final = frozenset({"MCSYNC_SERVICE_PASSWORD", "MCSYNC_SOURCE_URL", "MCSYNC_ORG"})
"""Variables that commands read by themselves."""
_KUBERNETES: Final = re.compile(
    r"MCSYNC_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)
"""What Kubernetes gives each pod of a namespace that has a Service whose name begins with ``mcsync``."""


def unknown_names(environment: Iterable[str]) -> list[str]:
    """What to say of each variable ``MCSYNC_*`` that no setting has, with the name that may be meant."""
    known = {f"MCSYNC_{name.upper()}" for name in Settings.model_fields} | _COMMANDS
    problems = []
    for name in sorted(environment):
        if not name.startswith("MCSYNC_") or name in known or _KUBERNETES.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        meant = f" Is {near[0]} meant?" if near else " Remove it."
        problems.append(f"{name} is no setting of this version.{meant}")
    return problems


def require_start(
    settings: Settings, kind: Kind, environment: Mapping[str, str], *, any_role: bool = False
) -> None:
    """Checks all that a process must not start with. Raises ``SettingsError`` naming everything at once.

    ``any_role``: a role that row-level security does not bind is accepted (``--i-know``).
    """
    problems = unknown_names(environment)
    try:
        settings.require_service()
    except SettingsError as error:
        raise SettingsError(error.problems + problems) from None
    problems += asyncio.run(_of_database(settings, kind, any_role=any_role))
    if problems:
        raise SettingsError(problems)


async def _of_database(settings: Settings, kind: Kind, *, any_role: bool) -> list[str]:
    assert settings.database_url is not None
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=1)
    db = Database(engine)
    try:
        async with asyncio.timeout(_SECONDS):
            async with db.system() as session:
                about = await server_and_role(session)
                problems = [] if any_role else _of_role(about)
                if not about.migrated or not about.in_service_group:
                    return problems  # nothing else can be read; readiness and doctor say why
                at = await migrations.current(session)
            if kind == "worker" and at is not None and migrations.compared(at) == "behind":
                problems.append(
                    f"The database is at revision {at}, and this worker needs {migrations.head()}:"
                    " run `mcsync migrate`."
                )
            if at == migrations.head():
                problems += await _of_keys(db, KeyRing.from_settings(settings))
            return problems
    except (SQLAlchemyError, OSError, TimeoutError):
        return []
    finally:
        await engine.dispose()


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
