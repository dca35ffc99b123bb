"""Asynchronous batches: /batches (MC 10). GET operations answer one page; they do not page through a collection."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import orjson

from .. import problems
from ..batch import Batch, Operation, archive
from ..clock import iso
from ..exchange import Answer, Request, no_content, ok
from ..render import links
from ..world import Account, World

RESULTS = "/_results"
_PENDING_MOST = 500
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def index(request: Request) -> Answer:
    offset, count = request.paging()
    found = list(request.account.batches.values())
    body = {
        "batches": [_rendered(request, each) for each in found[offset : offset + count]],
        "total_items": len(found),
        "_links": links(("self", "/batches", "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return ok(_rendered(request, _found(request)), request)


def create(request: Request) -> Answer:
    """The batch is accepted at once and runs when its turn comes."""
    entries = request.json_object().get("operations")
    if not isinstance(entries, list) or not entries:
        raise problems.invalid_resource(None, ("", "Required fields were not provided: operations"))
    account = request.account
    if sum(not each.completed_at for each in account.batches.values()) >= _PENDING_MOST:
        raise problems.Problem(429, "Too Many Requests", "You have more than 500 pending batches.")
    operations = [_operation(entry) for entry in entries]
    batch = Batch(secrets.token_hex(5), operations, request.world.clock.second())
    account.batches[batch.id] = batch
    batch.task = asyncio.get_running_loop().create_task(_run(request.world, account, batch))
    return ok(_rendered(request, batch), request)


def remove(request: Request) -> Answer:
    """Stops the batch; the results of what it did are lost, what it did stays."""
    batch = _found(request)
    if batch.task is not None:
        batch.task.cancel()
    del request.account.batches[batch.id]
    return no_content()


def results_of(world: World, path: str) -> Answer:
    """The results under an address that has not ended; it needs no key."""
    ident, _, token = path.removeprefix(f"{RESULTS}/").removesuffix(".tar.gz").partition("/")
    for account in world.accounts.values():
        batch = account.batches.get(ident)
        if batch is not None and batch.urls.get(token, 0) > world.clock.now():
            return Answer(200, batch.results, "application/gzip")
    return Answer(403, b"<Error><Code>ExpiredToken</Code></Error>", "application/xml")


def _found(request: Request) -> Batch:
    batch = request.account.batches.get(request.args[0])
    if batch is None:
        raise problems.not_found()
    return batch


def _operation(entry: Any) -> Operation:
    given = entry if isinstance(entry, dict) else {}
    method, path = given.get("method"), given.get("path")
    if method not in _METHODS or not isinstance(path, str) or path.startswith("/batches"):
        raise problems.invalid_resource(
            None, ("operations", "Each operation needs a method and a path.")
        )
    text = given.get("body") or None
    if text is not None and not isinstance(text, str):
        raise problems.invalid_resource(
            None, ("operations.body", "Schema describes string, object found instead")
        )
    try:
        body = None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        body = text
    params = {str(key): _query(value) for key, value in (given.get("params") or {}).items()}
    return Operation(method, path, params, body, str(given.get("operation_id", "")))


def _query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _run(world: World, account: Account, batch: Batch) -> None:
    """pending, preprocessing, started, finalizing, finished: operations in no particular order, one after another."""
    step = world.config.batch_step_ms / 1000
    await asyncio.sleep(step)
    async with account.batch_turn:
        batch.status = "preprocessing"
        await asyncio.sleep(step)
        batch.status, batch.total = "started", len(batch.operations)
        order = list(batch.operations)
        if world.config.shuffle:
            world.random.shuffle(order)
        rows: list[dict[str, Any]] = []
        for operation in order:
            rows.append(await _perform(world, account, batch, operation))
            await asyncio.sleep(0)
        batch.status = "finalizing"
        await asyncio.sleep(step)
        batch.results = archive(rows)
        batch.completed_at = world.clock.second()
        batch.status = "finished"


async def _perform(
    world: World, account: Account, batch: Batch, operation: Operation
) -> dict[str, Any]:
    from .perform import look_ahead, perform  # the router knows this module

    request = Request(
        world=world,
        account=account,
        method=operation.method,
        path=operation.path.partition("?")[0],
        query=operation.params,
        body=operation.body,
        request_id=batch.id,
    )
    await look_ahead(request)
    answer = perform(request)
    batch.finished += 1
    batch.errored += answer.status >= 400
    return {
        "status_code": answer.status,
        "operation_id": operation.operation_id,
        "response": (answer.body or b"").decode(),
    }


def _rendered(request: Request, batch: Batch) -> dict[str, Any]:
    url = ""
    if batch.completed_at:
        token = batch.fresh_token(request.world.clock.now())
        url = f"http://{request.host}{RESULTS}/{batch.id}/{token}.tar.gz"
    return {
        "id": batch.id,
        "status": batch.status,
        "total_operations": batch.total,
        "finished_operations": batch.finished,
        "errored_operations": batch.errored,
        "submitted_at": iso(batch.submitted_at),
        "completed_at": iso(batch.completed_at),
        "response_body_url": url,
        "_links": links(("self", f"/batches/{batch.id}", "GET")),
    }
