"""10,000 webhooks over 20 connections: all answered, each under a second, and all worked off; the rate
against a bare FastAPI handler that opens the same SQLAlchemy session and does one insert.

A real uvicorn process, a real worker and the sandbox; the posts are a campaign's aftermath: each person of
a synced segment unsubscribes at Mailchimp, and Mailchimp posts it. Sent from another process's event loop
over keep-alive connections.

    python bench/bench_webhooks.py [--posts N] [--connections N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import uvloop
from bench_rpc import Served, serving
from stage import Stage, say, stage, verdict

from mcsync.core.crypto import new_path_token, path_token_hash
from mcsync.features.webhooks import registration

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: {length}\r\n\r\n"
)


def post(path: str, body: bytes) -> bytes:
    return HEAD.format(path=path, length=len(body)).encode() + body


def bodies(list_id: str, emails: list[str]) -> list[bytes]:
    fired = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return [
        urllib.parse.urlencode(
            {
                "type": "unsubscribe", "fired_at": fired, "data[action]": "unsub",
                "data[reason]": "manual", "data[id]": f"{number:010x}", "data[list_id]": list_id,
                "data[email]": email, "data[email_type]": "html", "data[ip_opt]": "192.0.2.7",
                "data[ip_signup]": "", "data[merges][EMAIL]": email, "data[merges][FNAME]": "Ada",
                "data[merges][LNAME]": "Lindqvist", "data[merges][INTERESTS]": "",
            }
        ).encode()
        for number, email in enumerate(emails)
    ]  # fmt: skip


async def connection(port: int, requests: list[bytes], seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while requests:
        request = requests.pop()
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        seconds.append(time.perf_counter() - began)
    writer.close()


def send(port: int, requests: list[bytes], connections: int) -> tuple[float, list[float]]:
    """Sends all; answers how long it took, and each answer's time."""
    left, seconds = list(requests), list[float]()

    async def load() -> float:
        began = time.monotonic()
        await asyncio.gather(*(connection(port, left, seconds) for _ in range(connections)))
        return time.monotonic() - began

    return uvloop.run(load()), sorted(seconds)


async def endpoint(on: Stage, audience_id: UUID) -> str:
    """An endpoint as it is after its registration; answers its path."""
    token = new_path_token()
    row = await on.superuser.fetchrow(
        """insert into webhook_endpoints (org_id, audience_id, account_id, list_id, token, token_hash,
                                          status, webhook_id, renewed_at, next_check_at)
           select org_id, id, account_id, list_id, 'bench', $2, 'active', 'bench', now(),
                  now() + interval '1 hour'
           from audiences where id = $1 returning id""",
        audience_id, path_token_hash(token),
    )  # fmt: skip
    assert row is not None
    return registration.PATH + token


async def worked_off(on: Stage, posts: int) -> float:
    """Seconds until the inbox is empty."""
    began = time.monotonic()
    while await on.superuser.fetchval("select count(*) from webhook_events where status = 'due'"):
        await asyncio.sleep(0.1)
    assert await on.superuser.fetchval("select count(*) from webhook_events") == posts
    return time.monotonic() - began


async def prepare(on: Stage, posts: int) -> tuple[str, list[bytes]]:
    await on.contacts("hooks", posts)
    await on.sync(await on.segment("hooks"))
    rows = await on.superuser.fetch("select email from contacts order by id")
    emails = [row["email"] for row in rows]
    audience = await on.superuser.fetchval(
        "select id from audiences where list_id = $1", on.list_id
    )
    await asyncio.sleep(1.1)  # Mailchimp tells whole seconds
    for start in range(0, posts, 50):
        await asyncio.gather(*(leave(on, email) for email in emails[start : start + 50]))
    return await endpoint(on, audience), bodies(on.list_id, emails)


async def leave(on: Stage, email: str) -> None:
    body = {"email": email, "act": "unsubscribe"}
    (await on.control.post(f"/lists/{on.list_id}/person", json=body)).raise_for_status()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=20)
    given = parser.parse_args()
    async with stage() as on:
        path, made = await prepare(on, given.posts)
        await on.superuser.execute("create table bench_inbox (body bytea); grant insert on "
                                   "bench_inbox to public")  # fmt: skip
        os.environ |= on.environment | {
            "BENCH_ORG": str(on.org_id), "BENCH_SQL_SEGMENTS": "", "BENCH_SQL_PREFERENCE": "",
        }  # fmt: skip
        bare = await asyncio.to_thread(measure, made, given.connections, "/insert", "bare:app")
        ours = await asyncio.to_thread(
            measure, made, given.connections, path, "mcsync.app:create_app", "--factory"
        )
        report(given, ours, bare)
        rest = await worked_off(on, given.posts)
        withdrawn: Any = await on.superuser.fetchval(
            "select count(*) from email_preferences where status = 'opted_out'"
        )
        say(f"worked off {rest:.1f} s after the last answer; {withdrawn:,} withdrawals recorded")
        verdict("withdrawals recorded", withdrawn, given.posts)


@dataclass
class Measured:
    """What became of the posts: posts a second, each answer's time, and the server's own CPU for each."""

    rate: float
    seconds: list[float]
    cpu: float


def cpu(served: Served) -> float:
    times = served.process.cpu_times()
    return float(times.user + times.system)


def measure(made: list[bytes], connections: int, path: str, *application: str) -> Measured:
    with serving(*application) as served:
        before = cpu(served)
        took, seconds = send(served.port, [post(path, body) for body in made], connections)
        return Measured(len(made) / took, seconds, (cpu(served) - before) / len(made))


def report(given: Any, ours: Measured, bare: Measured) -> None:
    seconds = ours.seconds
    p99 = seconds[int(len(seconds) * 0.99)]
    say(f"{len(seconds):,} webhooks over {given.connections} connections: {ours.rate:,.0f}/s, p50"
        f" {seconds[len(seconds) // 2] * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, longest"
        f" {seconds[-1] * 1000:.1f} ms; bare handler with one insert {bare.rate:,.0f}/s")  # fmt: skip
    verdict("answered", len(seconds), given.posts)
    verdict("longest answer in seconds", seconds[-1], 1, at_most=True)
    say(f"CPU a post: {ours.cpu * 1e6:.0f} microseconds, bare handler {bare.cpu * 1e6:.0f}")
    verdict("CPU beside the bare handler's", ours.cpu / bare.cpu, 2, at_most=True)


if __name__ == "__main__":
    asyncio.run(main())
