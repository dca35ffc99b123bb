"""Asynchronous batches (MC 10)."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from typing import Any

import httpx

from tests.sandbox.driver import Audience, problem


async def run(staff: Audience, *operations: dict[str, Any]) -> dict[str, Any]:
    """A batch from its start to its end."""
    answer = await staff.api.post("/batches", json={"operations": list(operations)})
    batch: dict[str, Any] = answer.json()
    assert (batch["status"], batch["total_operations"]) == ("pending", 0)
    while batch["status"] != "finished":
        await asyncio.sleep(0.02)
        batch = (await staff.api.get(f"/batches/{batch['id']}")).json()
    return batch


async def fetch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as anyone:
        answer = await anyone.get(batch["response_body_url"])
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = []
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(answer.content))) as tar:
        names = tar.getnames()
        assert names[0] in (".", "./")
        for name in names[1:]:
            content = tar.extractfile(name)
            assert content is not None
            rows += json.load(content)
    return rows


async def test_results_come_as_texts_in_an_archive(staff: Audience) -> None:
    for number in range(5):
        await staff.add(f"p{number}@corp.test")
    operations = [
        {
            "method": "DELETE",
            "path": staff.member_path(f"p{number}@corp.test"),
            "operation_id": f"op-{number}",
        }
        for number in range(6)
    ]
    batch = await run(staff, *operations)
    assert (batch["total_operations"], batch["finished_operations"]) == (6, 6)
    assert batch["errored_operations"] == 1
    rows = {row["operation_id"]: row for row in await fetch(batch)}
    assert {name: row["status_code"] for name, row in rows.items()} == {
        **{f"op-{number}": 204 for number in range(5)},
        "op-5": 404,
    }
    assert json.loads(rows["op-5"]["response"])["title"] == "Resource Not Found"
    assert (await staff.listing(status="archived"))["total_items"] == 5


async def test_an_operation_may_be_a_bulk_call(staff: Audience) -> None:
    members = [
        {"email_address": f"p{number}@corp.test", "status": "subscribed"} for number in range(20)
    ]
    body = json.dumps({"members": members})
    params = {"skip_duplicate_check": True}
    batch = await run(staff, {"method": "POST", "path": staff.path, "params": params, "body": body})
    [row] = await fetch(batch)
    assert json.loads(row["response"])["total_created"] == 20


async def test_the_address_of_the_results_ends_and_can_be_renewed(staff: Audience) -> None:
    batch = await run(staff, {"method": "GET", "path": "/ping"})
    await staff.control.advance_clock(700)
    async with httpx.AsyncClient() as anyone:
        assert (await anyone.get(batch["response_body_url"])).status_code == 403
    assert len(await fetch((await staff.api.get(f"/batches/{batch['id']}")).json())) == 1


async def test_a_body_must_be_a_text_and_operations_are_needed(staff: Audience) -> None:
    assert problem(await staff.api.post("/batches", json={})) == (400, "Invalid Resource")
    bad = {"method": "POST", "path": staff.path, "body": {"members": []}}
    answer = await staff.api.post("/batches", json={"operations": [bad]})
    assert problem(answer) == (400, "Invalid Resource")


async def test_deleting_stops_it_and_loses_the_results(staff: Audience) -> None:
    await staff.control.configure(batchStepMs=10_000)
    body = {"operations": [{"method": "GET", "path": "/ping"}]}
    ident = (await staff.api.post("/batches", json=body)).json()["id"]
    assert (await staff.api.get("/batches")).json()["total_items"] == 1
    assert (await staff.api.delete(f"/batches/{ident}")).status_code == 204
    assert (await staff.api.get(f"/batches/{ident}")).status_code == 404
