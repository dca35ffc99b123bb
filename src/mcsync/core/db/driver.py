"""Connections: how they are made, and two round trips less for each transaction."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg import Connection
from asyncpg.exceptions import (
    CannotConnectNowError,
    InvalidCachedStatementError,
    TargetServerAttributeNotMatched,
)
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from mcsync.core.postgres_url import PostgresUrl, driver_arguments

_IDLE_SECONDS: Final = 5.0
"""A connection used more recently is not asked whether it lives; one that was closed is known to be."""


class OrgConnection(Connection):
    """Binds the next transaction to an organisation in the same message that begins it.

    JIT is off in each transaction: it costs hundreds of milliseconds on short statements over large tables.
    A parameter of the connection would do the same, but poolers refuse those that they do not know.
    """

    next_org: UUID | None = None
    """Taken by the next ``BEGIN``; transaction-local like ``set_config(..., true)``."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """See asyncpg; SQLAlchemy begins its transactions through here."""
        if query.startswith("BEGIN"):
            org, self.next_org = self.next_org, None
            query = f"{query.rstrip(';')}; set local jit = off"
            if org is not None:
                query += f"; set local app.org_id = '{UUID(int=org.int)}'"
        return str(await super().execute(query, *args, timeout=timeout))


class Connector:
    """Makes connections to the first host of a URL that serves."""

    def __init__(self, url: PostgresUrl, application_name: str) -> None:
        self._url = url
        self._arguments = driver_arguments(url)
        self._arguments["server_settings"] = {
            "application_name": application_name,
            **self._arguments["server_settings"],
        }

    async def __call__(self) -> Connection:
        """One more connection. Raises what asyncpg raised for the last of the hosts."""
        arguments = {"timeout": self._url.host_seconds or 60, **self._arguments}
        places = list(zip(self._url.hosts, self._url.ports, strict=False))
        for host, port in places[:-1]:
            try:
                return await self._connect({**arguments, "host": host, "port": port})
            except (OSError, CannotConnectNowError, TargetServerAttributeNotMatched):
                continue
        if places:
            arguments["host"], arguments["port"] = places[-1]
        return await self._connect(arguments)

    async def _connect(self, arguments: dict[str, Any]) -> Connection:
        return await asyncpg.connect(connection_class=OrgConnection, **arguments)


def ping_only_idle(engine: AsyncEngine) -> None:
    """Like ``pool_pre_ping``, which takes three round trips, but only after a pause.

    A connection that the server closed is known at once, without asking: asyncpg sees the end of the
    stream. What remains is a network that went silent.
    """
    pool = engine.sync_engine.pool

    @event.listens_for(pool, "checkin")
    def _note(_: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(pool, "checkout")
    def _check(adapted: Any, record: Any, _: Any) -> None:
        driver = adapted.driver_connection
        driver.next_org = None
        if driver.is_closed():
            raise DisconnectionError
        idle_since = record.info.get("idle_since")
        if idle_since is not None and time.monotonic() - idle_since > _IDLE_SECONDS:
            try:
                adapted.ping()
            except Exception as error:
                raise DisconnectionError from error


def schema_changed(error: DBAPIError) -> bool:
    """Whether a statement failed only because the database was migrated since it was prepared.

    SQLAlchemy prepares every statement anew after this, so the same works when it is repeated.
    """
    return isinstance(getattr(error.orig, "__cause__", None), InvalidCachedStatementError)
