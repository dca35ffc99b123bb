"""``segments.watchRun`` over a real socket: resumes, ends with the run, and refuses before it streams."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn

from mcsync.core.auth import Role
from tests.walks.description import operation, wrong_with_problem
from tests.walks.stage import Call, Stage, Tenant, work

_PATH = "/mailchimp/segments/watchRun"


@pytest.fixture
async def url(stage: Stage) -> AsyncIterator[str]:
    """The app behind uvicorn on a port of its own."""
    config = uvicorn.Config(stage.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by nothing else
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def browser(stage: Stage, url: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {stage.ours.tokens[Role.VIEWER]}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        yield client


async def events(answer: httpx.Response) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """Id and data of each event, in the order in which they arrive."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
        elif event:
            assert event["event"] == "run"
            yield int(event["id"]), json.loads(event["data"])
            event = {}


async def watch(
    browser: httpx.AsyncClient, run_id: str, last: str | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Everything that a stream sends until it ends by itself."""
    headers = {} if last is None else {b"Last-Event-ID": last.encode("latin-1")}
    async with (
        asyncio.timeout(60),
        browser.stream("GET", _PATH, params={"id": run_id}, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [event async for event in events(answer)]


async def run_of(tenant: Tenant) -> str:
    body = {"id": tenant.ids["plain"], "dryRun": True}
    return str((await tenant.done("segments_sync", Call(body=body)))["id"])


async def test_a_run_is_shown_until_it_has_ended(stage: Stage, browser: httpx.AsyncClient) -> None:
    ours = stage.ours
    run_id = await run_of(ours)
    async with (
        asyncio.timeout(60),
        browser.stream("GET", _PATH, params={"id": run_id}) as answer,
    ):
        stream = events(answer)
        first, view = await anext(stream)
        assert view["status"] == "queued"
        await work(ours, stage.resources, run_id)
        rest = [event async for event in stream]
    ids = [first, *(number for number, _ in rest)]
    assert ids == sorted(set(ids)), "never back, never twice"
    last_id, last = rest[-1]
    assert last["status"] == "succeeded"
    assert last == (await browser.get("/mailchimp/segments/getRun", params={"id": run_id})).json()

    again = await watch(browser, run_id, str(first))
    assert again == [(last_id, last)], "resuming shows what came since"
    for given in (str(last_id), None, "", "0", "-1", "x", "9" * 400, "1.5", "\xb2"):
        shown = await watch(browser, run_id, given)
        assert shown == [(last_id, last)], "a run that has ended is shown once, and no more"


async def test_whoever_leaves_in_between_misses_nothing(
    stage: Stage, browser: httpx.AsyncClient
) -> None:
    ours = stage.ours
    run_id = await run_of(ours)
    async with browser.stream("GET", _PATH, params={"id": run_id}) as answer:
        first, _ = await anext(events(answer))
    await work(ours, stage.resources, run_id)
    ((last_id, last),) = await watch(browser, run_id, str(first))
    assert last_id > first
    assert last["status"] == "succeeded"


async def test_a_run_that_waits_for_approval_ends_the_stream(
    stage: Stage, browser: httpx.AsyncClient
) -> None:
    ((_, view),) = await watch(browser, stage.ours.ids["held"])
    assert view["status"] == "awaiting_approval"


async def test_refusals_come_before_the_stream(stage: Stage, browser: httpx.AsyncClient) -> None:
    ours, theirs = stage.ours, stage.theirs
    for run_id, status in (
        (theirs.ids["held"], 404),
        (theirs.ids["run"], 404),
        (ours.ids["synced"], 404),
        (str(uuid4()), 404),
        ("x", 422),
        ("", 422),
    ):
        answer = await browser.get(_PATH, params={"id": run_id})
        assert wrong_with_problem(answer, status) == []
    answer = await browser.get(
        _PATH, params={"id": ours.ids["run"]}, headers={"Authorization": "x"}
    )
    assert wrong_with_problem(answer, 401) == []
    assert operation("segments_watch_run").path == _PATH
