"""What is answered to a call whose refusal is an answer like others."""

from __future__ import annotations

import httpx
import pytest

from mcsync.mailchimp import CredentialError, RefusalCode, TransientError, classify_refusal
from tests.mailchimp.test_client import Mailchimp, ok

PROBLEM = {"content-type": "application/problem+json; charset=utf-8"}


def refused(status: int, **body: object) -> httpx.Response:
    return httpx.Response(status, json={"status": status, **body}, headers=PROBLEM)


async def test_the_body_comes_as_it_was_sent() -> None:
    body: dict[str, object] = {"members": [{"merge_fields": None, "tags": [], "web_id": "12"}]}
    seen = await Mailchimp(ok(body)).client.observe("GET", "/lists/l1/members")
    assert (seen.accepted, seen.body) == (True, body)


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]"])
async def test_what_is_no_object_is_an_empty_body(content: bytes) -> None:
    mc = Mailchimp(httpx.Response(200, content=content))
    assert (await mc.client.observe("GET", "/ping")).body == {}


async def test_a_refusal_keeps_all_its_words() -> None:
    errors = [{"field": "email address", "message": "is already in this list"}]
    answer = refused(400, title="Invalid Resource", detail="See errors.", errors=errors)
    seen = await Mailchimp(answer).client.observe("PATCH", "/lists/l1/members/x", body={})
    assert (seen.accepted, seen.status, seen.title) == (False, 400, "Invalid Resource")
    assert seen.words == "Invalid Resource See errors. is already in this list"


@pytest.mark.parametrize("status", [404, 405])
async def test_a_missing_member_is_an_answer(status: int) -> None:
    seen = await Mailchimp(refused(status, title="No")).client.observe("DELETE", "/lists/l1")
    assert seen.status == status


async def test_member_exists_can_be_told_by_its_words() -> None:
    answer = refused(400, title="Member Exists", detail="a@x.org is already a list member.")
    seen = await Mailchimp(answer).client.observe("POST", "/lists/l1/members", body={})
    assert classify_refusal(seen.words) is RefusalCode.EXISTS


async def test_a_refused_key_and_an_unreachable_service_are_errors() -> None:
    with pytest.raises(CredentialError):
        await Mailchimp(refused(401, title="API Key Invalid")).client.observe("GET", "/ping")
    with pytest.raises(TransientError):
        await Mailchimp(httpx.Response(502)).client.observe("POST", "/lists/l1", body={})


async def test_a_post_whose_outcome_is_unknown_is_not_repeated() -> None:
    mc = Mailchimp(httpx.Response(502), ok({}))
    with pytest.raises(TransientError):
        await mc.client.observe("POST", "/lists/l1/members", body={})
    assert len(mc.requests) == 1


async def test_an_audience_is_not_made_twice() -> None:
    mc = Mailchimp(httpx.Response(504), ok({"id": "l1"}))
    with pytest.raises(TransientError):
        await mc.client.create_audience({"name": "x"})
    assert len(mc.requests) == 1
