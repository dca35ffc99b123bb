"""The client and the sandbox agree about webhooks, though they share no code (MC 9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from mcsync.mailchimp import (
    SIGNATURE_HEADER,
    CleanedEvent,
    MailchimpClient,
    MemorySlotStore,
    ProfileEvent,
    RefusedError,
    SignatureReason,
    SlotLimiter,
    SubscribeEvent,
    UnsubscribeEvent,
    UnverifiableUrlError,
    UpemailEvent,
    WebhookEvent,
    WebhookEvents,
    WebhookSignatureError,
    WebhookSources,
    build_http,
    consent_proof,
    parse_webhook,
    permission_changes,
    subscriber_hash,
    verify_webhook_signature,
)
from tests.sandbox.receiver import Post, Receiver, receiving
from tests.support.sandbox import ALL_STAFF, SandboxControl, SandboxProcess

WHO = "ada.lovelace@corp.test"
EVENTS = WebhookEvents(subscribe=True, unsubscribe=True, profile=True, cleaned=True, upemail=True)
OUTSIDE = WebhookSources(user=True, admin=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def client(
    process: SandboxProcess, control: SandboxControl
) -> AsyncIterator[MailchimpClient]:
    async with build_http() as http:
        yield MailchimpClient(
            http,
            api_key=process.api_key,
            base_url=process.url,
            slots=SlotLimiter(MemorySlotStore()),
            account="sandbox",
        )


def checked(post: Post, secret: str) -> WebhookEvent:
    header = post.headers[SIGNATURE_HEADER.lower()]
    verify_webhook_signature(secret, header, post.raw, datetime.now(UTC))
    return parse_webhook(post.raw)


async def test_every_event_is_signed_and_read(
    client: MailchimpClient, control: SandboxControl, receiver: Receiver
) -> None:
    hook = await client.create_webhook(
        ALL_STAFF, url=f"{receiver.url}/h", events=EVENTS, sources=OUTSIDE, signing_enabled=True
    )
    secret = hook.signing_secret
    assert secret
    person = control.person
    await person(ALL_STAFF, WHO, "subscribe_form", merge_fields={"FNAME": "Zoë"})
    await person(ALL_STAFF, WHO, "update_profile", merge_fields={"FNAME": "Ada"})
    await person(ALL_STAFF, WHO, "change_email", new_email="ada@new.test")
    await person(ALL_STAFF, "ada@new.test", "abuse")
    await person(ALL_STAFF, "ada@new.test", "bounce")
    await control.delivered()
    events = [checked(post, secret) for post in receiver.posts]
    kinds = (SubscribeEvent, ProfileEvent, UpemailEvent, UnsubscribeEvent, CleanedEvent)
    assert {type(event) for event in events} == set(kinds)
    assert {event.list_id for event in events} == {ALL_STAFF}
    assert all(event.fired_at is not None for event in events)
    [joined] = [event for event in events if isinstance(event, SubscribeEvent)]
    assert (joined.email, joined.merges["FNAME"]) == (WHO, "Zoë")
    [left] = [event for event in events if isinstance(event, UnsubscribeEvent)]
    assert (left.action, left.reason) == ("unsub", "abuse")


async def test_an_old_post_sent_again_is_expired(
    client: MailchimpClient, control: SandboxControl, receiver: Receiver
) -> None:
    hook = await client.create_webhook(
        ALL_STAFF, url=receiver.url, events=EVENTS, sources=OUTSIDE, signing_enabled=True
    )
    await control.person(ALL_STAFF, WHO, "subscribe_form")
    await control.delivered()
    [post] = receiver.posts
    header = post.headers[SIGNATURE_HEADER.lower()]
    later = datetime.now(UTC) + timedelta(minutes=6)
    with pytest.raises(WebhookSignatureError) as raised:
        verify_webhook_signature(hook.signing_secret or "", header, post.raw, later)
    assert raised.value.reason is SignatureReason.EXPIRED


async def test_the_life_of_a_webhook(client: MailchimpClient, receiver: Receiver) -> None:
    made = await client.create_webhook(ALL_STAFF, url=receiver.url, events=EVENTS, sources=OUTSIDE)
    assert await client.webhooks(ALL_STAFF) == [made]
    everything = WebhookSources(user=True, admin=True, api=True)
    changed = await client.update_webhook(ALL_STAFF, made.id, sources=everything)
    assert (changed.sources, changed.events) == (everything, EVENTS)
    receiver.get = 500
    with pytest.raises(UnverifiableUrlError):
        await client.update_webhook(ALL_STAFF, made.id, url=f"{receiver.url}/elsewhere")
    await client.delete_webhook(ALL_STAFF, made.id)
    assert await client.webhooks(ALL_STAFF) == []


async def test_permissions_and_proof(client: MailchimpClient, control: SandboxControl) -> None:
    assert await client.marketing_permissions(ALL_STAFF) == ()
    ids = await control.change_list(ALL_STAFF, marketing_permissions=["Email", "Letters"])
    moment = datetime(2020, 2, 29, 12, 30, tzinfo=UTC)
    ident = subscriber_hash(WHO)
    member = await client.put_member(
        ALL_STAFF,
        ident,
        {
            "email_address": WHO,
            "status_if_new": "subscribed",
            "marketing_permissions": permission_changes({next(iter(ids)): True}),
            **consent_proof(timestamp_opt=moment, ip_opt="192.0.2.7"),
        },
    )
    assert (member.timestamp_opt, member.ip_opt) == (moment, "192.0.2.7")
    assert [each.enabled for each in member.marketing_permissions] == [True, False]
    found = await client.marketing_permissions(ALL_STAFF)
    assert {each.marketing_permission_id: each.text for each in found} == ids


async def test_after_an_erasure_nobody_can_be_added(client: MailchimpClient) -> None:
    ident = subscriber_hash(WHO)
    body = {"email_address": WHO, "status_if_new": "subscribed"}
    await client.put_member(ALL_STAFF, ident, body)
    await client.delete_permanent(ALL_STAFF, ident)
    assert await client.find_member(ALL_STAFF, ident) is None
    with pytest.raises(RefusedError):
        await client.put_member(ALL_STAFF, ident, body)
