"""Erasing, webhooks, permissions and proof of consent: what the calls send and read."""

from datetime import UTC, datetime, timedelta, timezone

import httpx
import orjson
import pytest

from mcsync.mailchimp import (
    InvalidRequestError,
    MarketingPermission,
    MethodNotAllowedError,
    NotFoundError,
    TransientError,
    UnverifiableUrlError,
    WebhookEvents,
    WebhookSources,
    consent_proof,
    permission_changes,
)
from tests.mailchimp.test_client import HASH, Mailchimp, ok, problem

URL = "https://mcsync.test/hooks/mailchimp/" + "s" * 32
HOOK = {
    "id": "0123456789",
    "url": URL,
    "events": {"subscribe": True, "campaign": False},
    "sources": {"user": True, "admin": True, "api": False},
    "list_id": "l1",
}
EVENTS = WebhookEvents(subscribe=True, unsubscribe=True)
SOURCES = WebhookSources(user=True, admin=True)


class TestErasing:
    async def test_it_names_the_member_by_hash(self) -> None:
        mc = Mailchimp(httpx.Response(204))
        await mc.client.delete_permanent("l1", HASH)
        assert mc.last.method == "POST"
        assert mc.last.url.path == f"/3.0/lists/l1/members/{HASH}/actions/delete-permanent"
        assert not mc.last.content

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(404, NotFoundError), (405, MethodNotAllowedError), (500, TransientError)],
    )
    async def test_what_is_no_erasure_is_told_apart(
        self, status: int, kind: type[Exception]
    ) -> None:
        mc = Mailchimp(problem(status, "Resource Not Found"))
        with pytest.raises(kind):
            await mc.client.delete_permanent("l1", HASH)


class TestWebhooks:
    async def test_all_flags_are_sent(self) -> None:
        mc = Mailchimp(ok(HOOK))
        await mc.client.create_webhook("l1", url=URL, events=EVENTS, sources=SOURCES)
        assert mc.last.url.path == "/3.0/lists/l1/webhooks"
        assert orjson.loads(mc.last.content) == {
            "url": URL,
            "events": {
                "subscribe": True,
                "unsubscribe": True,
                "profile": False,
                "cleaned": False,
                "upemail": False,
                "campaign": False,
            },
            "sources": {"user": True, "admin": True, "api": False},
        }

    async def test_the_secret_is_read_and_not_shown(self) -> None:
        mc = Mailchimp(ok({**HOOK, "signing_enabled": True, "signing_secret": "hush"}))
        hook = await mc.client.create_webhook(
            "l1", url=URL, events=EVENTS, sources=SOURCES, signing_enabled=True
        )
        assert orjson.loads(mc.last.content)["signing_enabled"] is True
        assert (hook.signing_enabled, hook.signing_secret) == (True, "hush")
        assert "hush" not in repr(hook)
        assert "sssss" not in repr(hook)

    async def test_an_account_that_knows_no_signing(self) -> None:
        mc = Mailchimp(ok({"webhooks": [HOOK], "total_items": 1}))
        [hook] = await mc.client.webhooks("l1")
        assert (hook.id, hook.url, hook.signing_enabled) == ("0123456789", URL, None)
        assert hook.events == WebhookEvents(subscribe=True)
        assert hook.sources == SOURCES

    async def test_more_than_one_page(self) -> None:
        first, second = ({**HOOK, "id": ident} for ident in "ab")
        mc = Mailchimp(
            ok({"webhooks": [first], "total_items": 2}),
            ok({"webhooks": [second], "total_items": 2}),
        )
        assert [hook.id for hook in await mc.client.webhooks("l1")] == ["a", "b"]
        assert mc.last.url.params["offset"] == "1"

    async def test_paging_that_is_ignored_ends(self) -> None:
        mc = Mailchimp(ok({"webhooks": [HOOK], "total_items": 2}))
        assert len(await mc.client.webhooks("l1")) == 1

    async def test_a_creation_is_not_repeated_blindly(self) -> None:
        mc = Mailchimp(httpx.Response(502))
        with pytest.raises(TransientError):
            await mc.client.create_webhook("l1", url=URL, events=EVENTS, sources=SOURCES)
        assert len(mc.requests) == 1

    async def test_a_url_that_does_not_answer(self) -> None:
        detail = "We couldn't verify the URL is working. Please double check and try again."
        mc = Mailchimp(problem(400, "Invalid Resource", f"{detail} HTTP Code: 404"))
        with pytest.raises(UnverifiableUrlError):
            await mc.client.create_webhook("l1", url=URL, events=EVENTS, sources=SOURCES)

    async def test_another_refusal_is_of_the_usual_class(self) -> None:
        mc = Mailchimp(problem(400, "Invalid Resource", "Sorry, you can't set up multiple"))
        with pytest.raises(InvalidRequestError) as raised:
            await mc.client.create_webhook("l1", url=URL, events=EVENTS, sources=SOURCES)
        assert not isinstance(raised.value, UnverifiableUrlError)

    async def test_an_update_names_what_changes(self) -> None:
        mc = Mailchimp(ok(HOOK))
        await mc.client.update_webhook("l1", "w1", sources=SOURCES)
        assert (mc.last.method, mc.last.url.path) == ("PATCH", "/3.0/lists/l1/webhooks/w1")
        assert set(orjson.loads(mc.last.content)) == {"sources"}

    async def test_deleting(self) -> None:
        mc = Mailchimp(httpx.Response(204))
        await mc.client.delete_webhook("l1", "w1")
        assert (mc.last.method, mc.last.url.path) == ("DELETE", "/3.0/lists/l1/webhooks/w1")


class TestPermissions:
    async def test_they_are_read_from_any_member(self) -> None:
        shown = {"marketing_permission_id": "p1", "text": "Email", "enabled": True}
        mc = Mailchimp(ok({"members": [{"marketing_permissions": [shown]}], "total_items": 9}))
        assert await mc.client.marketing_permissions("l1") == (
            MarketingPermission(marketing_permission_id="p1", text="Email", enabled=True),
        )
        assert mc.last.url.params["count"] == "1"

    async def test_nobody_shows_none(self) -> None:
        mc = Mailchimp(ok({"members": [], "total_items": 0}))
        assert await mc.client.marketing_permissions("l1") == ()

    async def test_they_are_written_with_a_member(self) -> None:
        mc = Mailchimp(ok({}))
        body = {"marketing_permissions": permission_changes({"p1": True, "p2": False})}
        await mc.client.update_member("l1", HASH, body)
        assert orjson.loads(mc.last.content) == {
            "marketing_permissions": [
                {"marketing_permission_id": "p1", "enabled": True},
                {"marketing_permission_id": "p2", "enabled": False},
            ]
        }


class TestProof:
    def test_whole_seconds_in_utc(self) -> None:
        there = datetime(2026, 5, 1, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
        assert consent_proof(timestamp_opt=there, ip_opt=" 2001:DB8::1 ") == {
            "timestamp_opt": "2026-05-01T10:00:00+00:00",
            "ip_opt": "2001:db8::1",
        }

    def test_what_is_not_known_is_left_out(self) -> None:
        assert consent_proof() == {}
        assert consent_proof(timestamp_opt=datetime(2026, 1, 1, tzinfo=UTC)).keys() == {
            "timestamp_opt"
        }

    @pytest.mark.parametrize("text", ["", "localhost", "10.0.0.300", "10.0.0.1/8"])
    def test_a_text_that_would_make_the_whole_call_fail(self, text: str) -> None:
        with pytest.raises(ValueError, match="not an IP address") as raised:
            consent_proof(ip_opt=text)
        assert raised.value.__cause__ is None

    def test_a_time_without_an_offset(self) -> None:
        with pytest.raises(ValueError, match="offset"):
            consent_proof(timestamp_opt=datetime(2026, 1, 1))  # noqa: DTZ001
