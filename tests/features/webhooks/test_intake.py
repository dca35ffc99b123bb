"""The door: who may post, what is taken, and that nothing posted widens a permission."""

from __future__ import annotations

import hmac
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcsync.features.connection import service as connection
from mcsync.features.webhooks.intake import Intake
from tests.features.webhooks.door import Door, form
from tests.support.logs import captured_logs

ADA = "ada@acme.example"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    with captured_logs() as stream:
        yield stream


async def ready(door: Door, *, signed: bool = False) -> str:
    """A synced person and a registered webhook; answers its URL."""
    await door.world.contact(ADA)
    await door.world.sync(await door.world.segment())
    hook = await door.register()
    if not signed:
        await door.world.sql("update webhook_endpoints set signing_secret = null")
    return hook["url"]


def unsubscribe(door: Door, email: str = ADA, **more: str) -> bytes:
    data = {"email": email, "id": "8a25ff1d98", "list_id": door.world.list_id} | more
    return form("unsubscribe", None, **data)


async def tables(door: Door) -> list[Any]:
    """Everything that a post could change."""
    return [
        await door.world.sql(f"select xmin::text, t::text from {name} t order by 2")
        for name in ("webhook_events", "webhook_endpoints", "audience_members", "email_preferences")
    ]


class TestWhoAsks:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_the_right_path_is_there(self, door: Door, method: str) -> None:
        url = await ready(door)
        answer = await door.post(b"", url=url, method=method)
        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    async def test_any_other_path_is_not_there(self, door: Door, method: str) -> None:
        url = await ready(door)
        before = await tables(door)
        body = unsubscribe(door) if method == "POST" else b""
        for wrong in (url[:-1], url + "x", url.rpartition("/")[0] + "/" + "0" * 43, url + "%00"):
            answer = await door.post(body, url=wrong, method=method)
            assert answer.status_code == 404
            assert wrong.rpartition("/")[2] not in answer.text
        assert await tables(door) == before

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
    async def test_nothing_else_can_be_done_there(self, door: Door, method: str) -> None:
        url = await ready(door)
        assert (await door.post(b"", url=url, method=method)).status_code == 405

    async def test_a_wrong_path_costs_the_same_steps(self, door: Door) -> None:
        url = await ready(door)
        wrong = url[:-6] + "aaaaaa"
        big = b"type=unsubscribe&data[x]=" + b"x" * 70_000
        for body, right in ((big, 413), (b"nonsense", 400), (unsubscribe(door), 200)):
            assert (await door.post(body, url=url)).status_code == right
            expected = 413 if right == 413 else 404
            assert (await door.post(body, url=wrong)).status_code == expected

    async def test_after_a_disconnect_it_is_gone(self, door: Door) -> None:
        url = await ready(door)
        await connection.disconnect(door.world.resources, door.world.actor)
        fresh = Intake()  # another process, which does not remember
        endpoint = await fresh.find(door.world.resources, url.rpartition("/")[2])
        assert endpoint is not None
        assert not endpoint.live
        assert (await door.post(b"", url=url, method="GET")).status_code == 410


class TestWhatIsPosted:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b"\xff\xfe", b"type=unsubscribe", b"{}", b"type[]=x", b"a=1&" * 1001,
            b"type=unsubscribe&data=x", b"type=unsubscribe&data[list_id]=LIST&data[email]=nobody",
            b"type=unsubscribe&data[list_id]=LIST", b"type=unsubscribe&data[email]=nobody",
            b"type=unsubscribe&data[list_id][x]=LIST&data[email]=ada%40acme.example",
            b"type=unsubscribe&data[list_id]=another&data[email]=ada%40acme.example",
            b"type=unsubscribe&data[list_id]=LIST&data[email]=a%00b%40c.example",
            b"type=upemail&data[list_id]=LIST&data[old_email]=ada%40acme.example",
            b"type=cleaned&data[list_id]=LIST&data[email]=%ff%fe%40acme.example",
        ],
    )  # fmt: skip
    async def test_nonsense_is_refused_and_changes_nothing(self, door: Door, body: bytes) -> None:
        url = await ready(door)
        before = await tables(door)
        body = body.replace(b"LIST", door.world.list_id.encode())
        answer = await door.post(body, url=url)
        assert answer.status_code == 400
        assert answer.json()["code"] == "webhook_malformed"
        assert await tables(door) == before

    async def test_too_much_is_refused_and_changes_nothing(self, door: Door) -> None:
        url = await ready(door)
        before = await tables(door)
        body = unsubscribe(door, merges="x" * 65_536)
        assert (await door.post(body, url=url)).status_code == 413
        assert await tables(door) == before

    async def test_without_an_audience_it_is_about_that_of_its_path(self, door: Door) -> None:
        url = await ready(door)
        body = form("unsubscribe", None, email=ADA, id="8a25ff1d98")
        assert b"list_id" not in body
        assert b"action" not in body

        answer = await door.post(body, url=url)

        assert answer.status_code == 200
        (event,) = await door.events()
        assert (event.type, event.email) == ("unsubscribe", ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.work()
        rows = await door.world.sql("select status from email_preferences")
        assert [row.status for row in rows] == ["opted_out"]

    @pytest.mark.parametrize("kind", ["campaign", "something_new"])
    async def test_what_is_of_no_interest_is_answered(self, door: Door, kind: str) -> None:
        url = await ready(door)
        answer = await door.post(form(kind, list_id=door.world.list_id, id="1"), url=url)
        assert answer.status_code == 200
        assert await door.events() == []

    async def test_a_stranger_leaves_nothing_behind_but_the_event(self, door: Door) -> None:
        url = await ready(door)
        body = unsubscribe(door, "stranger@elsewhere.example")
        assert (await door.post(body, url=url)).status_code == 200
        await door.work()
        (event,) = await door.events()
        assert (event.email, event.outcome) == (None, "absent")
        members = await door.world.sql("select email from audience_members")
        assert [m.email for m in members] == [ADA]

    async def test_the_same_post_twice_is_one_event(self, door: Door) -> None:
        url = await ready(door)
        body = unsubscribe(door)
        for _ in range(3):
            assert (await door.post(body, url=url)).status_code == 200
        assert len(await door.events()) == 1

    @pytest.mark.parametrize("kind", ["subscribe", "profile", "cleaned", "unsubscribe", "upemail"])
    async def test_forged_it_never_records_or_sends_anything(self, door: Door, kind: str) -> None:
        person = await door.world.contact(ADA)
        await door.world.sync(await door.world.segment())
        await door.world.opt(person, "out")
        await door.world.orders()
        hook = await door.register()
        await door.world.sql("update webhook_endpoints set signing_secret = null")
        since = await door.world.sandbox.seq()
        body = form(
            kind, email=ADA, id="8a25ff1d98", list_id=door.world.list_id, old_email=ADA,
            new_email="eve@evil.example", new_id="1",
        )  # fmt: skip
        assert (await door.post(body, url=hook["url"])).status_code == 200
        await door.work()
        await door.world.sync(await door.world.segment("Again"))
        assert await door.consent(person) == ("opted_out", "console")
        assert await door.world.status(ADA) == "unsubscribed"
        assert [w for w in await door.world.writes(since) if "webhooks" not in w] == []


class TestSignatures:
    async def test_the_published_vector(self, door: Door) -> None:
        await ready(door, signed=True)
        endpoint = await Intake().find(
            door.world.resources, (await door.hooks())[0]["url"].rpartition("/")[2]
        )
        assert endpoint is not None
        assert endpoint.secret == (await door.hooks())[0]["signingSecret"]

    async def test_without_a_valid_one_nothing_is_taken(self, door: Door) -> None:
        url = await ready(door, signed=True)
        (hook,) = await door.hooks()
        assert hook["signingSecret"]
        body, now = unsubscribe(door), int(time.time())

        def sign(secret: str, at: int, what: bytes) -> dict[str, str]:
            mac = hmac.new(secret.encode(), str(at).encode() + b"." + what, sha256).hexdigest()
            return {"X-Mailchimp-Signature": f"t={at},v1={mac}"}

        right = hook["signingSecret"]
        before = await tables(door)
        for headers in (
            {}, sign("other", now, body), sign(right, now, body + b"&x=1"),
            sign(right, now - 301, body), sign(right, now + 400, body),
            {"X-Mailchimp-Signature": "t=1,v1=00"},
        ):  # fmt: skip
            answer = await door.post(body, url=url, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "webhook_signature")
        assert await tables(door) == before
        answer = await door.post(body, url=url, headers=sign(right, now, body))
        assert answer.status_code == 200
        assert len(await door.events()) == 1

    async def test_an_account_without_them_is_taken_by_its_path(
        self, door: Door, configure: Any
    ) -> None:
        await configure(webhooks={"signing": False})
        url = await ready(door, signed=True)
        assert (await door.endpoint()).signing_secret is None
        assert (await door.post(unsubscribe(door), url=url)).status_code == 200
        assert len(await door.events()) == 1


class TestSecrets:
    async def test_neither_token_nor_query_nor_address_is_logged(
        self, door: Door, log: io.StringIO
    ) -> None:
        url = await ready(door)
        token = url.rpartition("/")[2]
        await door.post(unsubscribe(door), url=url + "?hidden=" + "q" * 30)
        await door.post(b"nonsense", url=url)
        await door.post(b"x", url=url + "wrong")
        await door.post(b"", url=url, method="GET")
        await door.post(b"", url=url, method="PUT")
        await door.work()
        lines = log.getvalue()
        assert "/webhooks/mailchimp/{token}" in lines
        for secret in (token, token[:12], "q" * 30, ADA, "ada%40acme"):
            assert secret not in lines

    async def test_the_store_holds_no_token_in_clear(self, door: Door) -> None:
        token = (await ready(door, signed=True)).rpartition("/")[2]
        (hook,) = await door.hooks()
        (row,) = await door.world.sql("select t::text as everything from webhook_endpoints t")
        assert token not in row.everything
        assert str(hook["signingSecret"]) not in row.everything


class TestTheLookUp:
    async def test_answers_ids_to_whoever_has_the_hash_and_nothing_else(self, door: Door) -> None:
        url = await ready(door)
        async with door.world.resources.db.system() as session:
            from sqlalchemy import text

            token = url.rpartition("/")[2].encode()
            found = await session.execute(
                text("select * from mcsync_webhook_endpoint(:hash)"),
                {"hash": sha256(token).digest()},
            )
            (row,) = found.all()
            assert set(row._mapping) == {"endpoint_id", "org_id"}
            assert (await session.execute(text("select * from webhook_endpoints"))).all() == []
            assert (await session.execute(text("select * from webhook_events"))).all() == []


class TestAnything:
    @settings(
        max_examples=60, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(
        kind=st.sampled_from(["subscribe", "unsubscribe", "profile", "cleaned", "upemail", "x"]),
        email=st.one_of(st.emails(), st.text(max_size=50)),
        action=st.text(max_size=120),
        at=st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001
    )
    async def test_that_is_posted_is_answered_and_never_a_crash(
        self, door: Door, kind: str, email: str, action: str, at: datetime
    ) -> None:
        urls = getattr(door, "_url", None)
        if urls is None:
            urls = door._url = await ready(door)  # type: ignore[attr-defined]
        body = form(
            kind, at.replace(tzinfo=UTC).timestamp(), email=email, action=action, reason=action,
            id=action, list_id=door.world.list_id, old_email=email, new_email=email, new_id=action,
        )  # fmt: skip
        assert (await door.post(body, url=urls)).status_code in {200, 400}
