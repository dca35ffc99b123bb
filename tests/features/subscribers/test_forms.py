"""Public forms: a token that may lie open, posts that tell nothing, and the work behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.auth.tokens import issue_token
from mcsync.core.jobs import ring_due
from mcsync.core.rate_limit import RateLimiter
from mcsync.core.resources import Resources
from mcsync.features.subscribers import forms, jobs
from tests.features.connection.bench import Caller, audit_actions
from tests.features.subscribers.test_subscribers import (
    ADA,
    carry_out,
    ok,
    pull,
    status,
    suppress,
    who,
)
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl, SandboxProcess

ORIGIN = "https://www.nordlicht.example"
SUBSCRIBE = "/mailchimp/subscribers/subscribe"


@pytest.fixture
def more_settings(mailchimp_process: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": mailchimp_process.url, "form_origins": (ORIGIN,)}


@pytest.fixture
async def known_audiences(connected: Caller) -> None:
    """Making the token has looked them up."""
    assert (await connected.query("connection.listAudiences")).status_code == 200


@pytest.fixture
async def form(
    app: FastAPI, resources: Resources, organisation: Org, known_audiences: None
) -> AsyncIterator[Caller]:
    """A page with a publishable token for one audience."""
    async with resources.db.transaction(organisation.id) as session:
        issued = await issue_token(
            session, resources.hash_keys, name="site", role=None, audiences=[ALL_STAFF]
        )
    assert issued.token.startswith("mcp_")
    transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 4711))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api",
        headers={"Authorization": f"Bearer {issued.token}"},
    ) as client:  # fmt: skip
        yield Caller(client)


async def work(resources: Resources, org: Org, onlooker: asyncpg.Connection) -> None:
    """What a worker does that is rung for everything due, twice over."""
    ctx = {
        "resources": resources, "stopping": asyncio.Event(), "forms": asyncio.Semaphore(3),
    }  # fmt: skip
    rows = await onlooker.fetch(
        "select id from subscription_requests where next_attempt_at <= clock_timestamp()"
    )
    for row in rows:
        for _ in range(2):
            await jobs.form_post(ctx, str(org.id), str(row["id"]))


async def requests(onlooker: asyncpg.Connection) -> list[tuple[str, str | None]]:
    rows = await onlooker.fetch(
        "select state, outcome from subscription_requests order by requested_at, id"
    )
    return [(row["state"], row["outcome"]) for row in rows]


class TestAPublishableToken:
    async def test_may_do_nothing_else(self, form: Caller) -> None:
        for query in ("subscribers.getStatus", "contacts.list", "audiences.get"):
            answer = await form.query(query, audienceId=ALL_STAFF, email=ADA)
            assert answer.status_code == 403, query
        for mutation in ("update", "unsubscribe", "archive", "createOrUpdate"):
            answer = await form.mutate(f"subscribers.{mutation}", who())
            assert answer.status_code == 403, mutation

    async def test_is_for_its_audiences_only(
        self, form: Caller, onlooker: asyncpg.Connection
    ) -> None:
        for audience in (SUPPLIERS, "0000000000"):
            answer = await form.mutate("subscribers.subscribe", who() | {"audienceId": audience})
            assert (answer.status_code, answer.json()["code"]) == (404, "audience_not_found")
        assert await requests(onlooker) == []

    async def test_forces_the_confirmation(
        self, form: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        wanted = who(
            status="subscribed", consentGivenAt="2026-11-20T08:30:00Z", proof={"form": "/x"}
        )
        assert (await ok(form, "subscribe", **wanted))["status"] == "requested"
        await work(resources, organisation, onlooker)
        member = await mailchimp.member(ALL_STAFF, ADA)
        assert member is not None
        assert member["status"] == "pending"


class TestAPost:
    async def test_becomes_one_confirmation_mail_and_then_an_opt_in(
        self, form: Caller, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        seq = await mailchimp.seq()
        body = await ok(
            form, "subscribe",
            **who(mergeFields={"fName": "Ada"}, source="footer", proof={"form": "/newsletter"}),
        )  # fmt: skip
        assert body == {"status": "requested", "subscriber": None}
        assert await mailchimp.calls(since=seq) == []
        await work(resources, organisation, onlooker)
        member = await mailchimp.member(ALL_STAFF, ADA)
        assert member is not None
        assert (member["status"], member["confirmationMails"]) == ("pending", 1)
        assert member["mergeFields"]["FNAME"] == "Ada"
        assert member["ipSignup"] == "203.0.113.7"
        row = await onlooker.fetchrow("select * from subscription_requests")
        assert row is not None
        assert (row["state"], row["via"], row["source"]) == ("asked", "form", "footer")
        assert row["proof"] == '{"form": "/newsletter", "ipAddress": "203.0.113.7"}'
        assert (row["email"], row["merge_fields"], row["next_attempt_at"]) == (None, "{}", None)
        assert not await onlooker.fetchval("select owned from audience_members")
        await mailchimp.advance_clock(2)
        await mailchimp.person(ALL_STAFF, ADA, "confirm")
        await pull(resources, organisation, ADA)
        assert (await status(connected))["consent"]["givenSource"] == "mailchimp"
        assert "subscribers.request" in await audit_actions(onlooker, organisation)

    async def test_tells_nothing_of_who_is_known(
        self, form: Caller, connected: Caller, resources: Resources, organisation: Org,
        mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        """Whoever it is: the same answer, no call, the same statements, the same entries."""
        people = {
            name: f"{name}@people.example"
            for name in ("stranger", "member", "gone", "bounced", "archived", "erased", "withdrawn")
        }
        for name in ("member", "gone", "bounced", "archived"):
            await mailchimp.person(ALL_STAFF, people[name], "subscribe_form")
        await mailchimp.person(ALL_STAFF, people["gone"], "unsubscribe")
        await mailchimp.person(ALL_STAFF, people["bounced"], "bounce")
        await mailchimp.admin(ALL_STAFF, people["archived"], "archive")
        await suppress(resources, organisation, people["erased"])
        await ok(connected, "unsubscribe", **who(people["withdrawn"]))
        seq = await mailchimp.seq()
        answers = set()
        for email in people.values():
            answer = await form.mutate("subscribers.subscribe", who(email))
            shown = {
                name: value for name, value in answer.headers.items() if name != "x-request-id"
            }
            answers.add((answer.status_code, answer.text, str(shown)))
        assert len(answers) == 1
        assert await mailchimp.calls(since=seq) == []
        actions = await audit_actions(onlooker, organisation)
        assert actions.count("subscribers.request") == len(people)
        await work(resources, organisation, onlooker)
        assert dict(zip(people, await requests(onlooker), strict=True)) == {
            "stranger": ("asked", None),
            "member": ("already", "subscribed"),
            "gone": ("asked", None),
            "bounced": ("refused", "cleaned"),
            "archived": ("asked", None),
            "erased": ("dropped", "suppressed"),
            "withdrawn": ("queued", None),
        }
        await carry_out(resources, organisation, onlooker)
        await onlooker.execute(
            "update subscription_requests set next_attempt_at = now() where state = 'queued'"
        )
        await work(resources, organisation, onlooker)
        member = await mailchimp.member(ALL_STAFF, people["withdrawn"])
        assert member is not None
        assert member["status"] == "pending"

    async def test_a_stranger_changes_nothing_of_who_is_known(
        self, form: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        for email, act in ((ADA, None), ("bo@unce.example", "unsubscribe")):
            await mailchimp.person(
                ALL_STAFF, email, "subscribe_form", merge_fields={"FNAME": "Mine"}
            )
            if act:
                await mailchimp.person(ALL_STAFF, email, "unsubscribe")
            await ok(form, "subscribe", **who(email, mergeFields={"FNAME": "Theirs"}))
        await work(resources, organisation, onlooker)
        for member in await mailchimp.members(ALL_STAFF, ADA, "bo@unce.example"):
            assert member["mergeFields"]["FNAME"] == "Mine"

    async def test_the_trap_for_robots_does_nothing(
        self, form: Caller, onlooker: asyncpg.Connection
    ) -> None:
        human = await form.mutate("subscribers.subscribe", who("human@people.example"))
        robot = await form.mutate("subscribers.subscribe", who(website="http://spam.example"))
        assert (robot.status_code, robot.text) == (human.status_code, human.text)
        assert len(await requests(onlooker)) == 1

    async def test_missing_fields_are_told_whoever_asks(
        self, form: Caller, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await connected.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF,
            fields=[{"tag": "CITY", "name": "City", "type": "text", "required": True}],
        )  # fmt: skip
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form", merge_fields={"CITY": "Porto"})
        answers = {
            (await form.mutate("subscribers.subscribe", who(email))).json()["detail"]
            for email in (ADA, "stranger@people.example")
        }
        assert len(answers) == 1


class TestTrouble:
    async def test_bad_weather_and_a_refused_key_only_delay_it(
        self, form: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection, mailchimp_process: SandboxProcess, connected: Caller,
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who())
        await mailchimp.revoke(mailchimp_process.api_key)
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("queued", None)]
        pause = await onlooker.fetchval(
            "select extract(epoch from next_attempt_at - clock_timestamp()) from subscription_requests"
        )
        assert 200 < pause <= 300
        assert (await connected.query("connection.get")).json()["status"] == "needs_attention"
        await mailchimp.rekey(mailchimp_process.api_key, mailchimp_process.api_key)
        await onlooker.execute("update subscription_requests set next_attempt_at = now()")
        assert await ring_due(resources.db, resources.jobs, *forms.DUE) == 1
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("asked", None)]

    async def test_a_post_that_lost_its_answer_is_not_asked_twice(
        self, form: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who())
        await mailchimp.fault("504_after", method="POST", path="/members", times=1)
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("queued", None)]
        await onlooker.execute("update subscription_requests set next_attempt_at = now()")
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("already", "pending")]
        member = await mailchimp.member(ALL_STAFF, ADA)
        assert member is not None
        assert member["confirmationMails"] == 1
        await mailchimp.advance_clock(2)
        await mailchimp.person(ALL_STAFF, ADA, "confirm")
        await pull(resources, organisation, ADA)
        assert await onlooker.fetchval("select given_at from address_consents") is not None

    async def test_one_that_is_too_old_is_given_up_without_its_address(
        self, form: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who())
        await onlooker.execute(
            "update subscription_requests set requested_at = now() - interval '8 days'"
        )
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("dropped", "expired")]
        assert await onlooker.fetchval("select email from subscription_requests") is None
        assert await mailchimp.member(ALL_STAFF, ADA) is None

    async def test_a_worker_that_died_is_succeeded(
        self, form: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        await ok(form, "subscribe", **who())
        await onlooker.execute(
            "update subscription_requests set lease_until = clock_timestamp() + interval '1 minute'"
        )
        await work(resources, organisation, onlooker)
        assert await ring_due(resources.db, resources.jobs, *forms.DUE) == 0
        assert await requests(onlooker) == [("queued", None)]
        await onlooker.execute(
            "update subscription_requests set lease_until = clock_timestamp() - interval '1 second'"
        )
        assert await ring_due(resources.db, resources.jobs, *forms.DUE) == 1
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("asked", None)]


class TestLimits:
    async def test_one_address_is_named_three_times_an_hour(
        self, form: Caller, onlooker: asyncpg.Connection, resources: Resources
    ) -> None:
        for spelling in (ADA, ADA.upper(), f" {ADA} "):
            await ok(form, "subscribe", **who(spelling))
        answer = await form.mutate("subscribers.subscribe", who())
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
        assert len(await requests(onlooker)) == 3
        stored = [key async for key in resources.redis.scan_iter("mcsync:limit:*")]
        assert stored
        assert not [key for key in stored if b"@" in key or b"203.0.113" in key]

    async def test_one_client_posts_ten_times_a_minute(self, form: Caller) -> None:
        for number in range(10):
            await ok(form, "subscribe", **who(f"person{number}@people.example"))
        answer = await form.mutate("subscribers.subscribe", who())
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60

    async def test_an_operator_is_not_counted(
        self, connected: Caller, resources: Resources
    ) -> None:
        await ok(connected, "subscribe", **who())
        assert [key async for key in resources.redis.scan_iter("mcsync:limit:*")] == []

    async def test_without_redis_it_works_and_is_stricter(
        self, form: Caller, resources: Resources, onlooker: asyncpg.Connection
    ) -> None:
        dead: Redis = Redis.from_url("redis://127.0.0.1:9", socket_connect_timeout=0.2)
        object.__setattr__(resources, "limits", RateLimiter(dead))
        answers = [
            (await form.mutate("subscribers.subscribe", who(f"p{n}@people.example"))).status_code
            for n in range(4)
        ]
        assert answers == [200, 200, 429, 429]
        await dead.aclose()

    async def test_windows_begin_anew(self, resources: Resources) -> None:
        now = 100.0
        limiter = RateLimiter(Redis.from_url("redis://127.0.0.1:9"), monotonic=lambda: now)
        limiter._silent_until = float("inf")
        taken = [await limiter.take("x", limit=8, seconds=60) for _ in range(3)]
        assert taken == [None, None, 60]
        now = 161.0
        assert await limiter.take("x", limit=8, seconds=60) is None


class TestOtherSites:
    async def test_a_page_of_a_known_site_may_ask_and_post(self, form: Caller) -> None:
        asked = await form.http.options(
            SUBSCRIBE,
            headers={
                "Origin": ORIGIN, "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )  # fmt: skip
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        assert asked.headers["vary"] == "Origin"
        posted = await form.http.post(SUBSCRIBE, json=who(), headers={"Origin": ORIGIN})
        assert posted.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in posted.headers
        wrong = await form.http.post(SUBSCRIBE, json={}, headers={"Origin": ORIGIN})
        assert wrong.status_code == 422
        assert wrong.headers["access-control-allow-origin"] == ORIGIN

    async def test_no_other_site_and_no_other_procedure(self, form: Caller) -> None:
        preflight = {"Access-Control-Request-Method": "POST"}
        for path, origin in (
            (SUBSCRIBE, "https://evil.example"),
            (SUBSCRIBE, ORIGIN + ".evil.example"),
            ("/mailchimp/subscribers/update", ORIGIN),
        ):
            answer = await form.http.options(path, headers={"Origin": origin, **preflight})
            assert answer.status_code == 405
            assert "access-control-allow-origin" not in answer.headers

    async def test_without_origins_nothing_is_allowed(self, resources: Resources) -> None:
        object.__setattr__(resources.settings, "form_origins", ())
        transport = httpx.ASGITransport(app=create_app(resources=resources))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            answer = await client.options(
                SUBSCRIBE, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
            )
        assert answer.status_code == 405


async def test_a_token_of_a_role_is_not_publishable(
    resources: Resources, organisation: Org
) -> None:
    async with resources.db.transaction(organisation.id) as session:
        with pytest.raises(AssertionError):
            await issue_token(
                session, resources.hash_keys, name="x", role=Role.OWNER, audiences=[ALL_STAFF]
            )
        issued = await issue_token(session, resources.hash_keys, name="x", role=Role.OWNER)
    assert isinstance(issued.id, UUID)
    assert issued.token.startswith("mcs_")
