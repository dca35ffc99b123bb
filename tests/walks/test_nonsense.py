"""Whatever is sent, the answer is a problem document that repeats nothing, and nothing is half done."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from tests.walks.description import (
    Operation,
    operation,
    operations,
    wrong_with_answer,
)
from tests.walks.nonsense import Case, cases
from tests.walks.stage import Stage, valid_call

_each = pytest.mark.parametrize("name", [op.id for op in operations()])
_each_guarded = pytest.mark.parametrize("name", [op.id for op in operations() if op.needs_token])
_SECRET_PART = "qz7canary"


async def _send(
    api: httpx.AsyncClient, op: Operation, case: Case, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    url = op.path + (f"?{case.query}" if case.query else "")
    sent = dict(headers or {})
    if case.content is not None:
        sent["Content-Type"] = case.content_type
    return await api.request(op.method, url, content=case.content, headers=sent)


def _complaints(op: Operation, case: Case, answer: httpx.Response) -> list[str]:
    """What is not right about the answer to a wrong request."""
    found = wrong_with_answer(op, answer)
    if answer.status_code >= 500 or (case.wrong and answer.status_code < 400):
        found.append(f"status {answer.status_code}: {answer.text[:300]}")
    if case.wrong and (_SECRET_PART in answer.text or _SECRET_PART in str(answer.headers)):
        found.append(f"repeats what was submitted: {answer.text[:300]}")
    return found


@_each
async def test_nonsense_is_refused_as_described(stage: Stage, name: str) -> None:
    op, call = operation(name), valid_call(name, stage.ours)
    wrong: list[str] = []
    before = await stage.state()
    for case in cases(op, call):
        if case.wrong:
            answer = await _send(stage.ours.api, op, case)
            wrong += [f"{case.what}: {one}" for one in _complaints(op, case, answer)]
    assert not wrong, "\n".join(wrong)
    assert await stage.state() == before


async def test_what_is_odd_but_allowed_never_fails_on_our_side(own_stage: Stage) -> None:
    wrong: list[str] = []
    for op in operations():
        for case in cases(op, valid_call(op.id, own_stage.ours)):
            if not case.wrong and op.id != "connection_disconnect":
                answer = await _send(own_stage.ours.api, op, case)
                wrong += [f"{op.id} {case.what}: {one}" for one in _complaints(op, case, answer)]
    assert not wrong, "\n".join(wrong)
    assert (await own_stage.ours.call("audit_verify")).json()["valid"] is True
