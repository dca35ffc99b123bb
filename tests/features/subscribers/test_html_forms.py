"""Plain HTML forms: without a script, answered by a page or by the way back to the site."""

# ruff: noqa: F811 - fixtures that are imported by their names

from __future__ import annotations

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from mcsync.core.auth import Role
from mcsync.core.auth.tokens import issue_token
from mcsync.core.resources import Resources
from tests.features.connection.bench import Caller
from tests.features.subscribers.test_forms import (  # noqa: F401 - fixtures
    ORIGIN,
    SUBSCRIBE,
    form,
    known_audiences,
    more_settings,
    requests,
    work,
)
from tests.features.subscribers.test_subscribers import ADA
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Origin": "https://any.example"}


@pytest.fixture
def token(form: Caller) -> str:
    """A publishable token, as it stands in a page."""
    return form.http.headers["authorization"].removeprefix("Bearer ")


@pytest.fixture
async def page(app: FastAPI, known_audiences: None) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, which has no token of its own."""
    transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 4711))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers=BROWSER
    ) as client:
        yield client


@pytest.fixture
async def fields(connected: Caller, known_audiences: None) -> None:
    answer = await connected.mutate(
        "audiences.createMergeFields", audienceId=ALL_STAFF,
        fields=[{"tag": "BDAY", "name": "Birthday", "type": "birthday"},
                {"tag": "HOME", "name": "Home", "type": "address"}],
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


def filled(token: str, **more: str) -> dict[str, str]:
    return {"token": token, "audienceId": ALL_STAFF, "email": ADA, "website": "", **more}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.lang: str | None = None
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag == "html":
            self.lang = dict(attrs).get("lang")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(answer: httpx.Response) -> str:
    """The text of a page, once it is known to be a whole and accessible one."""
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    reader = _Reader()
    reader.feed(answer.text)
    assert reader.open == []
    assert reader.lang == "en"
    assert {"title", "main", "h1"} <= reader.seen
    assert not {"script", "link", "img", "form"} & reader.seen
    return reader.text


class TestAPost:
    @pytest.mark.parametrize("multipart", [False, True])
    async def test_asks_the_person_and_is_answered_by_a_page(
        self, page: httpx.AsyncClient, token: str, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection, fields: None, multipart: bool,
    ) -> None:  # fmt: skip
        given = filled(
            token, FNAME="Jos\u00e9 & S\u00f8n", **{
                "mergeFields[LNAME]": "L+\u00e9", "BDAY": "1815-12-10", "language": "de-DE",
                "HOME[addr1]": "Rua 1", "HOME[city]": "Porto", "HOME[state]": "P",
                "mergeFields[HOME][zip]": "4000", "proof[form]": "/news", "_charset_": "UTF-8",
            },
        )  # fmt: skip
        sent: dict[str, Any] = (
            {"files": {name: (None, value) for name, value in given.items()}} if multipart
            else {"data": given}
        )  # fmt: skip
        answer = await page.post(SUBSCRIBE, **sent)
        assert answer.status_code == 200
        assert "confirm" in read(answer)
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("asked", None)]
        member = await mailchimp.member(ALL_STAFF, ADA)
        assert member is not None
        assert member["status"] == "pending"
        stored = member["mergeFields"]
        assert (stored["FNAME"], stored["LNAME"]) == ("Jos\u00e9 & S\u00f8n", "L+\u00e9")
        assert (stored["BDAY"], stored["HOME"]["city"]) == ("12/10", "Porto")
        row = await onlooker.fetchrow("select language, source, proof from subscription_requests")
        assert row is not None
        assert (row["language"], row["source"]) == ("de", "html form")
        assert row["proof"] == '{"form": "/news", "ipAddress": "203.0.113.7"}'

    async def test_needs_no_audience_where_the_token_is_for_one(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection
    ) -> None:
        answer = await page.post(SUBSCRIBE, params={"token": token}, data={"EMAIL": ADA})
        assert answer.status_code == 200
        assert await requests(onlooker) == [("queued", None)]

    async def test_is_the_same_page_whoever_it_is(
        self, page: httpx.AsyncClient, token: str, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        texts = {
            (await page.post(SUBSCRIBE, data=filled(token) | {"email": email})).text
            for email in (ADA, "stranger@people.example")
        }
        assert len(texts) == 1

    async def test_what_was_left_empty_is_left_out(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection, fields: None
    ) -> None:
        answer = await page.post(SUBSCRIBE, data=filled(token, BDAY="", FNAME=" ", language=""))
        assert answer.status_code == 200
        assert await onlooker.fetchval("select merge_fields from subscription_requests") == "{}"

    async def test_the_trap_for_robots_does_nothing(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection
    ) -> None:
        human = await page.post(SUBSCRIBE, data=filled(token))
        robot = await page.post(SUBSCRIBE, data=filled(token) | {"website": "http://spam.example"})
        assert (robot.status_code, robot.text) == (human.status_code, human.text)
        assert len(await requests(onlooker)) == 1

    async def test_it_cannot_ask_for_more_than_a_confirmation(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection, fields: None
    ) -> None:
        answer = await page.post(SUBSCRIBE, data=filled(token, status="subscribed"))
        assert answer.status_code == 400
        assert await requests(onlooker) == []


class TestTheWayBack:
    @pytest.mark.parametrize("path", ["", "/", "/thanks?from=news#top", ":443/thanks"])
    async def test_leads_to_an_allowed_site(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection, path: str
    ) -> None:
        answer = await page.post(SUBSCRIBE, data=filled(token, redirect=ORIGIN + path))
        assert (answer.status_code, answer.headers["location"]) == (303, ORIGIN + path)
        assert await requests(onlooker) == [("queued", None)]

    @pytest.mark.parametrize(
        "redirect",
        [
            "https://evil.example/", "//evil.example", "/thanks", "javascript:alert(1)",
            f"{ORIGIN}.evil.example", f"{ORIGIN}@evil.example", f"{ORIGIN}\\@evil.example",
            f"https://evil.example\\@{ORIGIN[8:]}", f"https://evil.example#{ORIGIN}",
            f"https:{ORIGIN[6:]}", f"https:/{ORIGIN[8:]}", f"{ORIGIN}/\r\nSet-Cookie: a=b",
            f"{ORIGIN.replace('https', 'http')}/", f"{ORIGIN}:8443/", f"https://user@{ORIGIN[8:]}/",
            f"https://evil.example/?{ORIGIN}", "https://\u24e6ww.nordlicht.example/", "data:text/html,x",
            f"{ORIGIN}/\ttab",
        ],
    )  # fmt: skip
    async def test_leads_nowhere_else_and_then_nothing_is_done(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection, redirect: str
    ) -> None:
        answer = await page.post(SUBSCRIBE, data=filled(token, redirect=redirect))
        if redirect == f"https:{ORIGIN[6:]}":  # the same address as it should be
            assert answer.headers["location"] == ORIGIN
            return
        assert answer.status_code == 400, redirect
        assert "location" not in answer.headers
        assert "MCSYNC_FORM_ORIGINS" in read(answer)
        assert "evil" not in answer.text
        assert await requests(onlooker) == []


class TestRefusals:
    async def test_a_wrong_value_is_told_on_a_page(
        self, page: httpx.AsyncClient, token: str, onlooker: asyncpg.Connection, fields: None
    ) -> None:
        for more, told in (
            ({"BDAY": "31/12"}, "BDAY"),
            ({"email": "<b>nobody"}, "email"),
            ({"audienceId": SUPPLIERS}, "no audience"),
            ({"CITY": "Porto"}, "CITY"),
            ({"mergeFields[<i>]": "x"}, "*i*"),
            ({"a[b][c]": "x"}, "means nothing"),
            ({"FNAME": "Ada", "fname": "Eve"}, "given twice"),
        ):
            answer = await page.post(SUBSCRIBE, data=filled(token) | more)
            assert answer.status_code in {400, 404, 422}, more
            assert told in read(answer), more
            assert "<b>" not in answer.text
            assert "nobody" not in answer.text
        assert await requests(onlooker) == []

    async def test_without_a_token_or_with_a_secret_one(
        self, page: httpx.AsyncClient, token: str, resources: Resources, organisation: Org
    ) -> None:
        answer = await page.post(SUBSCRIBE, data={"email": ADA})
        assert answer.status_code == 401
        assert "token" in read(answer)
        answer = await page.post(SUBSCRIBE, data=filled(token[:-1] + "x"))
        assert answer.status_code == 401
        async with resources.db.transaction(organisation.id) as session:
            secret = await issue_token(session, resources.hash_keys, name="x", role=Role.OWNER)
        answer = await page.post(SUBSCRIBE, data=filled(secret.token))
        assert answer.status_code == 403
        assert "Revoke it" in read(answer)
        assert secret.token not in answer.text

    async def test_too_many_say_when_to_try_again(
        self, page: httpx.AsyncClient, token: str
    ) -> None:
        for _ in range(3):
            assert (await page.post(SUBSCRIBE, data=filled(token))).status_code == 200
        answer = await page.post(SUBSCRIBE, data=filled(token))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 3500
        assert "60 minutes" in read(answer)

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("application/x-www-form-urlencoded", b"email=caf%E9@x.example"),
            ("application/x-www-form-urlencoded", b"email=caf\xe9"),
            ("application/x-www-form-urlencoded", b"a=1&" * 300),
            ("multipart/form-data", b"--x"),
            ("multipart/form-data; boundary=x", b"nothing"),
            ("multipart/form-data; boundary=x",
             b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\na\r\n--x--\r\n'),
        ],
    )  # fmt: skip
    async def test_what_cannot_be_read_is_told(
        self, page: httpx.AsyncClient, kind: str, content: bytes
    ) -> None:
        answer = await page.post(SUBSCRIBE, content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400
        read(answer)

    async def test_a_body_that_is_too_large_is_told_on_a_page(
        self, page: httpx.AsyncClient, token: str
    ) -> None:
        answer = await page.post(SUBSCRIBE, data=filled(token, FNAME="a" * 3_000_000))
        assert answer.status_code == 413
        read(answer)


class TestScripts:
    async def test_a_script_that_posts_a_form_is_answered_in_json(
        self, form: Caller, token: str, fields: None
    ) -> None:
        form.http.headers["Accept"] = "*/*"
        answer = await form.http.post(SUBSCRIBE, data={"email": ADA})
        assert answer.json() == {"status": "requested", "subscriber": None}
        answer = await form.http.post(SUBSCRIBE, data={"email": ADA, "BDAY": "31/12"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_merge_fields")
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_a_secret_token_still_needs_json(self, connected: Caller) -> None:
        answer = await connected.http.post(SUBSCRIBE, data={"email": ADA})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["code"] == "json_expected"
