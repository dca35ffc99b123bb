"""Whatever is sent, the answer is a problem document that repeats nothing, and nothing is half done."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import timedelta

import httpx
import pytest
from uuid6 import uuid7

from mcsync.core.auth import Role, scopes_of
from mcsync.core.auth.token_format import make_token
from mcsync.core.auth.tokens import issue_token, revoke_token
from mcsync.core.web.paging import encode_cursor
from tests.walks.description import (
    Operation,
    operation,
    operations,
    wrong_with_answer,
    wrong_with_problem,
)
from tests.walks.nonsense import CANARY, Case, cases
from tests.walks.stage import Call, Stage, send, valid_call, valid_calls

_each = pytest.mark.parametrize("name", [op.id for op in operations()])
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


# ------------------------------------------------------------------------------------ cursors

_PARTS = (
    None,
    -1,
    2**31,
    2**63 - 1,
    2**63,
    2**64 - 1,
    "",
    "\0",
    "employee",
    "x" * 300,
    uuid7(),
    True,
    0.5,
)
_FORGED = [
    encode_cursor(*values)  # type: ignore[arg-type]
    for count in (0, 1, 2)
    for values in itertools.product(_PARTS, repeat=count)
]
_MANGLED = ("", "x", "=", "AAAA", "e30", "nextCursor", "%25", CANARY, "Ж", "a" * 1000, "-_" * 20)


@pytest.mark.parametrize(
    "name",
    [op.id for op in operations() if any(p["name"] == "cursor" for p in op.parameters("query"))],
)
async def test_a_cursor_is_of_this_list_or_refused(stage: Stage, name: str) -> None:
    op, call = operation(name), valid_call(name, stage.ours)
    wrong: list[str] = []
    for cursor in (*_MANGLED, *_FORGED):
        answer = await send(
            stage.ours.api, op, Call({**call.query, "cursor": cursor, "limit": "2"})
        )
        found = wrong_with_answer(op, answer)
        if answer.status_code not in ({400} if cursor in _MANGLED else {200, 400}):
            found.append(f"status {answer.status_code}")
        if CANARY in answer.text:
            found.append("repeats the cursor")
        wrong += [f"{cursor!r:.80}: {one}" for one in found]
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------------------- tokens


async def _ended_tokens(stage: Stage) -> dict[str, str]:
    """A token that has expired and one that was revoked."""
    resources, org = stage.resources, stage.ours.org
    now = resources.clock()
    async with resources.db.transaction(org.id) as session:
        expired = await issue_token(
            session, resources.hash_keys, name="expired", role=Role.OWNER,
            expires_at=now - timedelta(seconds=1),
        )  # fmt: skip
        revoked = await issue_token(session, resources.hash_keys, name="revoked", role=Role.OWNER)
        await revoke_token(session, revoked.id, at=now)
    return {"expired": expired.token, "revoked": revoked.token}


async def test_without_a_valid_token_nothing_is_answered(stage: Stage) -> None:
    right = stage.ours.tokens[Role.OWNER]
    ended = await _ended_tokens(stage)
    another = right[:-7] + ("A" if right[-7] != "A" else "B") + right[-6:]
    headers = {
        "none": None,
        "empty": "",
        "no scheme": right,
        "another scheme": f"Basic {right}",
        "two": f"Bearer {right} {right}",
        "garbage": f"Bearer {CANARY}",
        "long": f"Bearer {'mcs_' + 'a' * 20_000}",
        "another last character": f"Bearer {another}",
        "of nobody": f"Bearer {make_token(uuid7())}",
        "expired": f"Bearer {ended['expired']}",
        "revoked": f"Bearer {ended['revoked']}",
    }
    api = await stage.client()
    before = await stage.state()
    wrong: list[str] = []
    for op in operations():
        if not op.needs_token:
            continue
        for what, header in headers.items():
            sent = {} if header is None else {"Authorization": header}
            answer = await send(api, op, valid_call(op.id, stage.ours), sent)
            found = wrong_with_problem(answer, 401)
            if not answer.headers.get("www-authenticate", "").startswith("Bearer"):
                found.append("no WWW-Authenticate")
            found += ["repeats it"] * (CANARY in answer.text)
            wrong += [f"{op.id} with {what}: {one}" for one in found]
    assert not wrong, "\n".join(wrong)
    assert await stage.state() == before


async def test_a_role_may_do_what_its_scopes_say_and_no_more(own_stage: Stage) -> None:
    ours = own_stage.ours
    wrong: list[str] = []
    for role in (Role.VIEWER, Role.EDITOR):  # whatever an owner calls is walked elsewhere
        api = await own_stage.client(ours.tokens[role])
        scopes = {scope.value for scope in scopes_of(role)}
        for name, call in valid_calls(ours).items():
            op = operation(name)
            before = await own_stage.state()
            answer = await send(api, op, call)
            if not op.needs_token or op.scope in scopes:
                found = [] if answer.is_success else [f"{answer.status_code} {answer.text}"]
            else:
                found = wrong_with_problem(answer, 403)
                if await own_stage.state() != before:
                    found.append("refused, and yet something changed")
            if op.changes and op.scope.endswith(":read"):
                found.append("whoever reads may change something")
            wrong += [f"{name} as {role}: {one}" for one in found]
    assert not wrong, "\n".join(wrong)


# --------------------------------------------------------------------------- methods and paths


async def test_another_method_or_path_is_refused(stage: Stage) -> None:
    before = await stage.state()
    wrong: list[str] = []
    for op in operations():
        call = valid_call(op.id, stage.ours)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", CANARY):
            health = op.path.startswith("/health/")
            if method.lower() == op.method or (health and method == "HEAD"):
                continue  # load balancers ask for health by HEAD
            body = {} if method in {"HEAD", "TRACE"} else {"json": call.body}
            answer = await stage.ours.api.request(method, op.path, params=dict(call.query), **body)
            if method == "HEAD":
                found = [] if answer.status_code == 405 else [f"status {answer.status_code}"]
            else:
                found = wrong_with_problem(answer, 405)
            allowed = {"GET", "HEAD"} if health else {op.method.upper()}
            if answer.headers.get("allow") not in allowed:
                found.append(f"allows {answer.headers.get('allow')}")
            wrong += [f"{method} {op.path}: {one}" for one in found]
        for path in (
            f"{op.path}/", f"/{op.path}", op.path.upper(), f"{op.path}%00", f"{op.path}/{CANARY}",
            op.path.replace("/mailchimp", f"/{CANARY}"), op.path[:-1], f"{op.path}/../{CANARY}",
            f"{op.path};{CANARY}", f"{op.path}%0a", f"{op.path}%ff",
        ):  # fmt: skip
            if path == op.path:
                continue
            answer = await stage.ours.api.request(op.method, f"http://mcsync.test{path}")
            found = wrong_with_problem(answer, 404)
            found += ["repeats the path"] * (CANARY in answer.text)
            wrong += [f"{path}: {one}" for one in found]
    assert not wrong, "\n".join(wrong)
    assert await stage.state() == before


@pytest.mark.parametrize(
    "key", [b"", b"a b", b"\xff", b"x" * 256, b"caf\xc3\xa9", CANARY.encode() * 20]
)
async def test_an_idempotency_key_that_is_none_is_refused(stage: Stage, key: bytes) -> None:
    before = await stage.state()
    wrong: list[str] = []
    for op in operations():
        if op.is_post:
            call = valid_call(op.id, stage.ours)
            answer = await send(stage.ours.api, op, call, {"Idempotency-Key": key})  # type: ignore[dict-item]
            wrong += [f"{op.id}: {one}" for one in wrong_with_problem(answer, 400)]
            wrong += [f"{op.id} repeats it"] * (CANARY in answer.text)
    assert not wrong, "\n".join(wrong)
    assert await stage.state() == before
