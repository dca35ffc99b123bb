"""The organisation's own database in three kinds, and pulls from it as an operator would make them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import asyncpg

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.features.sources import service
from mcsync.features.sources.pulls import Wish
from mcsync.features.sources.schemas import PullView, SourceView
from mcsync.features.sources.service import NewSource
from tests.support.mariadb import MariaDbServer
from tests.support.organisations import Org

TABLE = "create table people (emp_no integer primary key, mail {text}, first {text}, dept {text}, updated_at {time})"
QUERY = "select emp_no, mail, first, dept, updated_at from people"
COLUMNS = {
    "entityId": "emp_no",
    "email": "mail",
    "firstName": "first",
    "costCentre": "dept",
}
CONSTANTS = {"entityType": "employee"}
FIRST = "2026-11-20 08:00:00"


class Home(Protocol):
    """A database of the organisation's. ``run`` executes plain SQL there."""

    kind: str
    url: str
    time: str
    text: str

    async def run(self, *statements: str) -> None: ...

    async def ask(self, query: str) -> list[tuple[Any, ...]]: ...


@dataclass
class PostgresHome:
    url: str
    kind: str = "postgresql"
    time: str = "timestamptz"
    text: str = "text"

    async def run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("set timezone = 'UTC'")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()


@dataclass
class SqliteHome:
    path: Path
    kind: str = "sqlite"
    time: str = "text"
    text: str = "text"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    async def run(self, *statements: str) -> None:
        with sqlite3.connect(self.path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


@dataclass
class MariaHome:
    server: MariaDbServer
    kind: str = "mysql"
    time: str = "datetime(6)"
    text: str = "varchar(400)"
    name: str = field(default_factory=lambda: f"d{uuid4().hex}")

    @property
    def url(self) -> str:
        login = f"{self.server.user}:{quote(self.server.password, safe='')}"
        return f"mysql://{login}@127.0.0.1:{self.server.port}/{self.name}"

    async def run(self, *statements: str) -> None:
        def act() -> None:
            with self._connected() as one, one.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

        await asyncio.to_thread(act)

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self._connected() as one, one.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def _connected(self) -> Any:
        return self.server.connect(self.server.user, self.server.password, self.name)


@dataclass
class World:
    """An organisation, its database, and what it has in mcsync."""

    resources: Resources
    org: Org
    home: Home
    onlooker: asyncpg.Connection

    @property
    def actor(self) -> Actor:
        return Actor.cli(self.org.id, "op")

    async def table(self) -> None:
        await self.home.run(TABLE.format(text=self.home.text, time=self.home.time))

    async def people(
        self, numbers: Sequence[int], *, at: str = FIRST, mail: str = "p{}@nordlicht.example"
    ) -> None:
        """Rows of the table, as they were written at a time."""
        rows = ", ".join(
            f"({n}, '{mail.format(n)}', 'First{n}', 'D{n % 3}', '{at}')" for n in numbers
        )
        await self.home.run(f"insert into people values {rows}")

    async def source(self, **given: Any) -> SourceView:
        """A source over the table; whatever is not given is as usual."""
        check = given.pop("check", True)
        described = {
            "name": "hr", "url": self.home.url, "query": QUERY, "mode": "full", "columns": COLUMNS,
            "constants": CONSTANTS,
        } | given  # fmt: skip
        return await service.add(self.resources, self.actor, NewSource(**described), check=check)

    async def pull(self, name: str = "hr", **wish: bool) -> PullView:
        """A pull at the command line, to its end."""
        view, _ = await service.pull_now(
            self.resources, self.actor, name, Wish(**wish), owner="test"
        )
        return view

    async def pulled(self, name: str = "hr", **wish: bool) -> dict[str, int]:
        """The counts of a pull that goes well."""
        view = await self.pull(name, **wish)
        assert view.status in {"succeeded", "succeeded_with_errors"}, view
        assert view.report is not None
        return view.report.model_dump()

    async def source_row(self, name: str = "hr") -> asyncpg.Record:
        """The source as it is stored."""
        row = await self.onlooker.fetchrow("select * from sources where name = $1", name)
        assert row is not None
        return row

    async def contacts(self, what: str = "entity_id", living: bool = True) -> list[Any]:
        """One column of the contacts, by entity id."""
        condition = "deleted_at is null" if living else "deleted_at is not null"
        rows = await self.onlooker.fetch(
            f"select {what} from contacts where org_id = $1 and {condition}"
            " order by length(entity_id), entity_id",
            self.org.id,
        )
        return [row[0] for row in rows]


def tally(report: dict[str, int]) -> tuple[int, int, int, int, int]:
    """(received, created, updated, unchanged, rejected)."""
    names = ("received", "created", "updated", "unchanged", "rejected")
    counted = tuple(report[name] for name in names)
    assert counted[0] == sum(counted[1:]), report
    return counted  # type: ignore[return-value]
