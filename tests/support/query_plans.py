"""The plans that PostgreSQL really carried out, as they come over each of a process's connections.

The server explains every statement of one database to whoever sent it (``auto_explain`` with the level
``notice``), functions' own statements too, so that nothing has to be repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import event

from mcsync.core.resources import Resources

_EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}


async def explain_everything(onlooker: asyncpg.Connection, database: str) -> None:
    """From now on each new connection to the database is sent the plans of what it does."""
    for name, value in _EXPLAINING.items():
        await onlooker.execute(f"alter database \"{database}\" set {name} = '{value}'")


@dataclass(frozen=True)
class Read:
    """How one step of one statement read a table."""

    statement: str
    table: str
    step: str
    times: int
    rows: int
    """Rows looked at, also those that were dropped then, over all times."""

    def __str__(self) -> str:
        return f"{self.rows} rows of {self.table} in {self.times} times by {self.step}: {self.statement}"


class Plans:
    """Collects plans from the connections that ``resources`` open from now on."""

    def __init__(self, resources: Resources) -> None:
        self.reads: list[Read] = []
        self.statements = 0
        event.listen(resources.db.engine.sync_engine, "connect", self._listen)

    def _listen(self, connection: Any, _: object) -> None:
        connection.driver_connection.add_log_listener(self._hear)

    def _hear(self, _: object, message: Any) -> None:
        head, found, plan = message.message.partition("plan:\n")
        if head.startswith("duration:") and found:
            said = json.loads(plan)
            self.statements += 1
            self.reads += _reads(" ".join(said["Query Text"].split()), said["Plan"])


def _reads(statement: str, node: dict[str, Any]) -> Iterator[Read]:
    if node.get("Relation Name") and "Actual Loops" in node and node["Node Type"].endswith("Scan"):
        times = node["Actual Loops"]
        dropped = sum(node.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Index Recheck"))
        yield Read(
            statement, node["Relation Name"],
            f"{node['Node Type']} {node.get('Index Name', '')}".strip(), times,
            round(times * (node["Actual Rows"] + dropped)),
        )  # fmt: skip
    for part in node.get("Plans", ()):
        yield from _reads(statement, part)
