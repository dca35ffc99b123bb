"""``Idempotency-Key`` on every operation that takes one: once, the same answer, no other request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

from tests.walks.description import JSON, Operation, operation, wrong_with_problem
from tests.walks.stage import Call, Stage, send, valid_calls

_KEY = "Idempotency-Key"
_REPLAYED = "Idempotency-Replayed"


def _another(op: Operation, call: Call) -> Call | None:
    """The same operation asked for something else; None where there is nothing else to ask."""
    if call.content is not None:
        return replace(call, content=call.content + b"employee,another-1,another@acme.example\n")
    if JSON not in op.request:
        return None
    return replace(call, body={**call.body, "another": True})


async def test_a_repeated_call_happens_once_and_is_answered_the_same(own_stage: Stage) -> None:
    ours = own_stage.ours
    wrong: list[str] = []
    for name, call in valid_calls(ours).items():
        op = operation(name)
        if not op.is_post:
            continue
        headers = {_KEY: str(uuid4())}
        first = await send(ours.api, op, call, headers)
        after = await own_stage.rows(ours.org)
        again = await send(ours.api, op, call, headers)
        found = [] if first.is_success else [f"{first.status_code} {first.text}"]
        if _REPLAYED in first.headers or again.headers.get(_REPLAYED) != "true":
            found.append("does not tell the first answer from its replay")
        if (again.status_code, again.content) != (first.status_code, first.content):
            found.append(f"answers {again.status_code} {again.text} after {first.text}")
        kept = ("content-type", "location")
        if [again.headers.get(k) for k in kept] != [first.headers.get(k) for k in kept]:
            found.append("answers other headers")

        another = _another(op, call)
        if another is not None:
            other = await send(ours.api, op, another, headers)
            found += wrong_with_problem(other, 409)
            found += [] if other.json()["code"] == "idempotency_key_reused" else [other.text]
        elsewhere = operation(
            "segments_cancel_run" if op.id != "segments_cancel_run" else "segments_sync"
        )
        other = await send(ours.api, elsewhere, valid_calls(ours)[elsewhere.id], headers)
        found += wrong_with_problem(other, 409)
        if await own_stage.rows(ours.org) != after:
            found.append("the repetition changed something")
        theirs = await send(own_stage.theirs.api, op, valid_calls(own_stage.theirs)[name], headers)
        if _REPLAYED in theirs.headers or not theirs.is_success:
            found.append(f"is in another organisation's way: {theirs.status_code} {theirs.text}")
        wrong += [f"{name}: {one}" for one in found]
    assert not wrong, "\n".join(wrong)


async def test_a_refused_call_may_be_repeated_with_its_key(stage: Stage) -> None:
    op, key = operation("segments_delete"), {_KEY: str(uuid4())}
    before = await stage.state()
    for _ in range(2):
        answer = await send(stage.ours.api, op, Call(body={"id": str(uuid4())}), key)
        assert wrong_with_problem(answer, 404) == []
    assert await stage.state() == before


async def test_callers_at_once_have_one_effect(own_stage: Stage) -> None:
    ours, op, key = own_stage.ours, operation("segments_create"), {_KEY: str(uuid4())}
    call = valid_calls(ours)["segments_create"]
    answers = await asyncio.gather(*(send(ours.api, op, call, key) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency_key_in_use"
            assert int(answer.headers["retry-after"]) >= 1
    count = await own_stage.onlooker.fetchval(
        "select count(*) from contact_segments where name = $1", call.body["name"]
    )
    assert count == 1
    assert (await send(ours.api, op, call, key)).headers[_REPLAYED] == "true"
