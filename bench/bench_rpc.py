"""Two queries of the API against bare FastAPI handlers that open the same SQLAlchemy session, set
``app.org_id`` and run the same SQL; a bare asyncpg handler stands beside them.

Real uvicorn processes, keep-alive connections from another process, in turns. The SQL is captured from
the API itself, with its values, so that both sides run the same.

    python bench/bench_rpc.py [--seconds N] [--rounds N] [--segments N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import httpx
import psutil
import uvloop
from sqlalchemy import event
from stage import Stage, say, stage, verdict

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.auth.tokens import issue_token
from mcsync.embedded import free_port


async def connection(port: int, request: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        answered += 1
    writer.close()
    return answered


def rate(port: int, path: str, token: str, seconds: float, connections: int = 16) -> float:
    """Requests a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def load() -> float:
        began = time.monotonic()
        counts = await asyncio.gather(
            *(connection(port, request, began + seconds) for _ in range(connections))
        )
        return sum(counts) / (time.monotonic() - began)

    return uvloop.run(load())


def literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, (bool, int)):
        return str(value).lower()
    if isinstance(value, (UUID, datetime, str)):
        return "'" + str(value).replace("'", "''") + "'"
    message = f"no literal for {type(value)}"
    raise TypeError(message)


async def captured(on: Stage, token: str, path: str) -> str:
    """The last SELECT the API runs for this path, with its values written in."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    target = on.resources.db.engine.sync_engine
    event.listen(target, "before_cursor_execute", note)
    transport = httpx.ASGITransport(create_app(resources=on.resources))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
    event.remove(target, "before_cursor_execute", note)
    assert answer.is_success, answer.text
    statement, parameters = next(
        (s, p) for s, p in reversed(seen) if s.lstrip().lower().startswith(("select", "with"))
    )
    for number in range(len(parameters), 0, -1):
        statement = statement.replace(f"${number}", literal(parameters[number - 1]))
    return str(statement)


async def prepare(on: Stage, segments: int) -> tuple[str, dict[str, str]]:
    await on.contacts("rpc", 1000)
    for number in range(segments):
        await on.segment(f"rpc {number}")
    async with on.resources.db.transaction(on.org_id) as session:
        issued = await issue_token(session, on.resources.hash_keys, name="bench", role=Role.VIEWER)
    token = issued.token
    paths = {
        "segments.list": "/mailchimp/segments/list",
        "preferences.getForEntity":
            "/mailchimp/preferences/getForEntity?entityType=employee&entityId=rpc7",
    }  # fmt: skip
    for name, path in paths.items():
        os.environ[
            "BENCH_SQL_SEGMENTS" if "list" in name else "BENCH_SQL_PREFERENCE"
        ] = await captured(on, token, path)
    return token, paths


@dataclass
class Served:
    """A server process. Where others use the machine too, its CPU a request says more than its rate."""

    port: int
    process: psutil.Process

    def measure(self, path: str, token: str, seconds: float) -> tuple[float, float]:
        """Requests a second, and microseconds of CPU for each."""
        before = self.process.cpu_times()
        rated = rate(self.port, path, token, seconds)
        after = self.process.cpu_times()
        spent = after.user + after.system - before.user - before.system
        return rated, 1e6 * spent / (rated * seconds)


@contextlib.contextmanager
def serving(application: str, *options: str) -> Any:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--no-access-log",
         "--loop", "uvloop", "--http", "httptools", "--log-level", "warning", *options],
        cwd=Path(__file__).parent, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        yield Served(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--segments", type=int, default=20)
    given = parser.parse_args()
    async with stage(worker=False) as on:
        token, paths = await prepare(on, given.segments)
        os.environ |= on.environment | {"BENCH_ORG": str(on.org_id)}
        await asyncio.to_thread(measure, token, paths, given.rounds, given.seconds)


def measure(token: str, paths: dict[str, str], rounds: int, seconds: float) -> None:
    with serving("mcsync.app:create_app", "--factory") as ours, serving("bare:app") as bare:
        for name, path in paths.items():
            short = "segments" if "list" in name else "preference"
            seen: dict[str, list[tuple[float, float]]] = {"api": [], "session": [], "asyncpg": []}
            for _ in range(rounds):
                seen["api"].append(ours.measure(path, token, seconds))
                for kind in ("session", "asyncpg"):
                    seen[kind].append(bare.measure(f"/{kind}/{short}", token, seconds))
            api, session, plain = (median(r for r, _ in seen[k]) for k in seen)
            cpu = {kind: median(c for _, c in seen[kind]) for kind in seen}
            say(f"{name}: {api:,.0f}/s; bare FastAPI and SQLAlchemy {session:,.0f}/s; bare FastAPI and"
                f" asyncpg {plain:,.0f}/s; CPU a request {cpu['api']:,.0f}, {cpu['session']:,.0f} and"
                f" {cpu['asyncpg']:,.0f} microseconds")  # fmt: skip
            verdict("share of the bare SQLAlchemy handler", api / session, 0.6)
            verdict("its CPU over ours", cpu["session"] / cpu["api"], 0.6)


if __name__ == "__main__":
    asyncio.run(main())
