"""Webhooks are registered for what is used, kept alive, rotated and removed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from mcsync.core.crypto import path_token_hash
from mcsync.core.errors import ConflictError, NotFoundError
from mcsync.core.web.paging import PageParams
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.webhooks import dispatch, registration, service
from mcsync.features.webhooks.schemas import WebhookView
from tests.features.webhooks.conftest import Configure
from tests.features.webhooks.door import Door

ADA = "ada@acme.example"


async def synced(door: Door, *emails: str) -> list[str]:
    people = [await door.world.contact(email) for email in emails or (ADA,)]
    await door.world.sync(await door.world.segment())
    return people


async def shown(door: Door) -> WebhookView:
    page = await service.list_webhooks(door.world.resources, door.world.actor, PageParams(50, None))
    return page.items[0]


async def due(door: Door) -> list[Any]:
    """The organisations that the dispatcher would ring for."""
    async with door.world.resources.db.system() as session:
        found = await session.execute(text("select * from mcsync_due_webhook_checks(100)"))
        return list(found.scalars())


class TestRegistering:
    async def test_nothing_is_registered_before_a_segment_uses_the_audience(
        self, door: Door
    ) -> None:
        assert door.world.org.id not in await due(door)
        await door.check()
        assert await door.hooks() == []

    async def test_a_used_audience_is_found_and_registered(self, door: Door) -> None:
        await synced(door)
        assert await due(door) == [door.world.org.id]
        assert await dispatch.ring_checks(door.world.resources) > 0

        hook = await door.register()

        assert hook["url"].startswith(f"{door.url}/webhooks/mailchimp/")
        assert len(hook["url"].rpartition("/")[2]) == 43
        assert hook["sources"] == {"user": True, "admin": True, "api": False}
        assert hook["events"] == {
            "subscribe": True, "unsubscribe": True, "profile": True, "cleaned": True,
            "upemail": True, "campaign": False,
        }  # fmt: skip
        assert hook["signingEnabled"]
        assert await door.hooks(door.world.other_list_id) == []
        assert await due(door) == []
        view = await shown(door)
        assert (view.status, view.signed, view.last_error) == ("active", True, None)
        entries = await door.world.sql(
            "select 1 from audit_entries where action = :a", a=AuditAction.WEBHOOKS_REGISTER
        )
        assert len(entries) == 1

    async def test_looking_again_changes_nothing(self, door: Door) -> None:
        await synced(door)
        hook = await door.register()
        since = await door.world.sandbox.seq()
        await door.check()
        assert await door.world.writes(since) == []
        assert await door.hooks() == [hook]

    async def test_two_workers_register_one(self, door: Door) -> None:
        import asyncio

        await synced(door)
        await asyncio.gather(
            *(
                registration.check_organisation(door.world.resources, door.world.org.id)
                for _ in range(4)
            )
        )
        assert len(await door.hooks()) == 1

    async def test_a_creation_whose_answer_was_lost_is_not_doubled(self, door: Door) -> None:
        await synced(door)
        first = await door.register()
        # the answer with id and signing secret never arrived
        await door.world.sql(
            "update webhook_endpoints set webhook_id = null, signing_secret = null"
        )
        second = await door.register()
        assert second["id"] != first["id"]
        assert second["url"] == first["url"]
        await door.world.person(ADA, "unsubscribe")
        assert await door.work() == 1

    async def test_an_url_that_cannot_be_reached_is_told(self, door: Door) -> None:
        await synced(door)
        await door.world.sql("select 1")
        elsewhere = door.world.resources.settings.model_copy(
            update={"public_url": "http://127.0.0.1:9"}
        )
        before, door.world.resources.settings = door.world.resources.settings, elsewhere
        await door.check()
        view = await shown(door)
        assert (view.status, view.last_error) == ("error", "url_not_verified")
        door.world.resources.settings = before
        await door.check()
        assert (await shown(door)).status == "active"

    async def test_trouble_at_mailchimp_is_tried_again(self, door: Door) -> None:
        await synced(door)
        await door.world.sandbox.fault("500", method="GET", path="/webhooks", times=3)
        await door.check()
        assert ((await shown(door)).status, await door.hooks()) == ("error", [])
        await door.world.wait(60)
        await door.check()
        assert (await shown(door)).status == "active"


class TestRepairing:
    async def test_a_deleted_one_comes_back_and_what_was_missed_is_pulled(self, door: Door) -> None:
        (person,) = await synced(door)
        hook = await door.register()
        await door.world._staff("DELETE", f"webhooks/{hook['id']}")
        await door.world.person(ADA, "unsubscribe")
        assert await door.work() == 0

        again = await door.register()
        assert again["id"] != hook["id"]
        assert await door.pull()
        assert await door.consent(person) == ("opted_out", "mailchimp")

    @pytest.mark.parametrize("listed", [True, False])
    async def test_a_disabled_one_lives_again(
        self, door: Door, configure: Configure, listed: bool
    ) -> None:
        await configure(webhooks={"disabledListed": listed, "disableAfter": 1, "retrySeconds": []})
        gone, back = await synced(door, ADA, "bob@acme.example")
        await door.register()
        await door.world.sql("update webhook_endpoints set token_hash = 'x', list_id = list_id")
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        token = door.world.resources.keys.open(
            (await door.endpoint()).token,
            context=registration.token_context(door.world.org.id, (await door.endpoint()).id),
        )
        await door.world.sql(
            "update webhook_endpoints set token_hash = :h", h=path_token_hash(token)
        )
        assert [h["disabled"] for h in await door.hooks()] == (
            ["persistent failure"] if listed else []
        )

        await door.world.wait(1200)
        assert await door.pull(), "the watchdog's own pull finds what no post told of"
        assert await door.consent(gone) == ("opted_out", "mailchimp")
        await door.check()
        assert [h["disabled"] for h in await door.hooks()] == [None]
        assert (await shown(door)).status == "active"
        await door.world.person("bob@acme.example", "unsubscribe")
        assert await door.work() == 1
        assert await door.consent(back) == ("opted_out", "mailchimp")

    async def test_changed_flags_and_urls_are_put_right(self, door: Door) -> None:
        await synced(door)
        hook = await door.register()
        await door.world._staff(
            "PATCH", f"webhooks/{hook['id']}",
            {"url": hook["url"], "events": {"unsubscribe": False}, "sources": {"api": True}},
        )  # fmt: skip
        await door.check()
        assert await door.hooks() == [hook]

    async def test_other_peoples_webhooks_are_left_alone(self, door: Door) -> None:
        await synced(door)
        await door.register()
        other = f"{door.url}/health/live"
        await door.world._staff("POST", "webhooks", {"url": other, "events": {}, "sources": {}})
        await door.check()
        assert other in [hook["url"] for hook in await door.hooks()]


class TestRotating:
    async def test_both_addresses_are_accepted_and_only_the_new_one_is_registered(
        self, door: Door
    ) -> None:
        gone, too = await synced(door, ADA, "bob@acme.example")
        old = await door.register()
        view = await service.rotate(door.world.resources, door.world.actor, door.world.list_id)
        assert view.status == "missing"
        assert view.previous_until is not None
        await door.world.person(ADA, "unsubscribe")
        assert await door.work() == 1, "Mailchimp still knows the address before"
        assert await door.consent(gone) == ("opted_out", "mailchimp")

        new = await door.register()
        assert new["url"] != old["url"]
        assert new["signingSecret"] != old["signingSecret"]
        await door.world.person("bob@acme.example", "unsubscribe")
        assert await door.work() == 1
        assert await door.consent(too) == ("opted_out", "mailchimp")
        assert (await door.post(b"", url=old["url"], method="GET")).status_code == 200
        await door.world.sql(
            "update webhook_endpoints set previous_until = now() - interval '1 year'"
        )
        assert (await door.post(b"", url=old["url"], method="GET")).status_code == 404
        await service.tidy(door.world.resources)
        assert (await door.endpoint()).previous_token_hash is None
        assert (await door.post(b"", url=new["url"], method="GET")).status_code == 200

    async def test_an_audience_without_one_cannot(self, door: Door) -> None:
        with pytest.raises(NotFoundError):
            await service.rotate(door.world.resources, door.world.actor, "abcdef0123")

    async def test_without_a_public_url_it_cannot(self, door: Door) -> None:
        await synced(door)
        await door.register()
        door.world.resources.settings = door.world.resources.settings.model_copy(
            update={"public_url": None}
        )
        with pytest.raises(ConflictError):
            await service.rotate(door.world.resources, door.world.actor, door.world.list_id)


class TestRemoving:
    async def test_a_disconnect_takes_them_along(self, door: Door) -> None:
        await synced(door)
        hook = await door.register()

        async def farewell(actor: Any) -> None:
            await service.farewell(door.world.resources, actor)

        await connection.disconnect(door.world.resources, door.world.actor, farewell)
        assert await door.hooks() == []
        assert (await door.post(b"", url=hook["url"], method="GET")).status_code == 410
        assert await due(door) == []

        await connection.connect(door.world.resources, door.world.actor, door.world.api_key)
        assert await due(door) == [door.world.org.id]
        await door.register()
        assert (await shown(door)).status == "active"

    async def test_a_disconnect_does_not_wait_for_mailchimp(self, door: Door) -> None:
        await synced(door)
        hook = await door.register()
        await door.world.sandbox.revoke(door.world.api_key)
        await service.farewell(door.world.resources, door.world.actor)
        assert (await door.post(b"", url=hook["url"], method="GET")).status_code == 410

    async def test_posts_after_a_disconnect_disable_what_was_left(self, door: Door) -> None:
        await synced(door)
        await door.register()
        await door.world.sql("update webhook_endpoints set status = 'removed'")
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        assert await door.hooks() == []

    async def test_a_disconnect_without_farewell_is_noticed(self, door: Door) -> None:
        await synced(door)
        await door.register()
        await connection.disconnect(door.world.resources, door.world.actor)
        await door.check()
        assert (await shown(door)).status == "removed"

    async def test_when_no_segment_uses_the_audience_any_more(self, door: Door) -> None:
        await door.world.contact(ADA)
        segment = await door.world.segment()
        await door.world.sync(segment)
        await door.register()
        await door.world.delete_segment(segment)
        await door.check()
        assert await door.hooks() == []
        assert (await shown(door)).status == "removed"
        await door.world.segment("Again")
        await door.register()

    async def test_of_a_list_that_is_gone(self, door: Door) -> None:
        await synced(door)
        await door.register()
        await door.world.sandbox.delete_list(door.world.list_id)
        await door.check()
        assert (await shown(door)).status == "removed"
        assert await due(door) == []


async def noticed(door: Door) -> bool:
    """Whether the dispatcher would ring; if so, what the worker then does is done."""
    async with door.world.resources.db.system() as session:
        found = list(
            await session.scalars(
                text(
                    "select * from mcsync_due_webhook_checks(100)"
                    " union select * from mcsync_changed_webhooks(100)"
                )
            )
        )
    if door.world.org.id not in found:
        return False
    await registration.check_organisation(door.world.resources, door.world.org.id)
    return True


class TestWhatChangedIsLookedAtAtOnce:
    async def test_another_public_url_and_none(self, door: Door) -> None:
        await synced(door)
        await door.register()
        first = await shown(door)
        assert first.next_check_at is not None
        resources = door.world.resources
        right = resources.settings
        assert (await dispatch.ring_elsewhere(resources), await noticed(door)) == (0, False)

        resources.settings = right.model_copy(update={"public_url": "http://127.0.0.1:9"})
        assert (await shown(door)).status == "active"  # as of the last check
        assert (await dispatch.ring_elsewhere(resources), await noticed(door)) == (1, True)
        view = await shown(door)
        assert (view.status, view.last_error) == ("error", "url_not_verified")
        assert first.checked_at is not None
        assert view.checked_at is not None
        assert view.checked_at > first.checked_at

        resources.settings = right.model_copy(update={"public_url": None})
        assert (await dispatch.ring_elsewhere(resources), await noticed(door)) == (1, True)
        view = await shown(door)
        assert (view.status, view.last_error) == ("error", "no_public_url")
        assert view.next_check_at is None
        assert await dispatch.ring_elsewhere(resources) == 0

        resources.settings = right
        assert (await dispatch.ring_elsewhere(resources), await noticed(door)) == (1, True)
        assert (await shown(door)).status == "active"
        assert (await dispatch.ring_elsewhere(resources), await noticed(door)) == (0, False)

    async def test_a_connection_that_was_made_again(self, door: Door) -> None:
        await synced(door)
        await door.register()
        await door.world.sandbox.fault("500", method="GET", path="/webhooks", times=3)
        await door.check()
        assert (await shown(door)).status == "error"
        assert not await noticed(door)
        await connection.connect(door.world.resources, door.world.actor, door.world.api_key)
        assert await noticed(door)
        assert (await shown(door)).status == "active"
        assert not await noticed(door)

    async def test_a_segment_that_was_removed(self, door: Door) -> None:
        await door.world.contact(ADA)
        segment = await door.world.segment()
        await door.world.sync(segment)
        await door.register()
        assert not await noticed(door)
        await door.world.delete_segment(segment)
        assert await noticed(door)
        view = await shown(door)
        assert (view.status, view.next_check_at, await door.hooks()) == ("removed", None, [])
