"""The client against the sandbox, which shares no code with it: what one writes the other understands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from mcsync.mailchimp import (
    CredentialError,
    Lane,
    MailchimpClient,
    MemorySlotStore,
    RetryPolicy,
    SlotLimiter,
    build_http,
)
from mcsync.mailchimp.transactional import (
    Attachment,
    MergeVar,
    Message,
    MessageEvent,
    MessageTooLargeError,
    Recipient,
    SendUncertainError,
    SyncEvent,
    TemplateContent,
    TransactionalClient,
    UnknownMessageError,
    UnknownRejectError,
    UnknownTemplateError,
    UnknownWebhookError,
    ValidationFailedError,
    parse_events,
    verify_mandrill_signature,
)
from tests.sandbox.receiver import Receiver, receiving
from tests.support.sandbox import ALL_STAFF, SandboxControl, SandboxProcess

HELLO = Message(
    to=(Recipient(email="a@corp.test"),),
    from_email="us@corp.test",
    subject="Hello",
    text="Hi",
    metadata={"mcsync_id": "m1"},
)


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
async def control(process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(process.control) as made:
        await made.reset()
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with build_http() as client:
        yield client


@pytest.fixture
async def client(
    process: SandboxProcess, control: SandboxControl, http: httpx.AsyncClient
) -> TransactionalClient:
    return TransactionalClient(
        http,
        api_key=process.mandrill_key,
        base_url=process.mandrill_url,
        retry=RetryPolicy(base_seconds=0.01),
        read_seconds=5,
        write_seconds=1,
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


class TestDoubt:
    @pytest.mark.parametrize(
        ("fault", "sent"),
        [("reset_after", 1), ("504_after", 1), ("slow:1.5", 1), ("reset", 0), ("502_html", 0)],
    )
    async def test_a_send_in_doubt_can_be_looked_up(
        self, client: TransactionalClient, control: SandboxControl, fault: str, sent: int
    ) -> None:
        await client.add_metadata_field("mcsync_id")
        await control.fault(fault, path="messages/send")
        with pytest.raises(SendUncertainError) as caught:
            await client.send(HELLO)
        assert caught.value.timed_out is fault.startswith("slow")
        if caught.value.timed_out:
            await asyncio.sleep(0.7)  # the sandbox is still at it
        assert await control.mails_sent("mcsync_id", "m1") == sent
        assert len(await client.find_by_metadata("mcsync_id", "m1")) == sent

    async def test_a_busy_moment_is_waited_out(
        self, client: TransactionalClient, control: SandboxControl
    ) -> None:
        await control.fault("429_json", path="messages/send", times=2)
        assert (await client.send(HELLO))[0].accepted
        assert await control.mails_sent("mcsync_id", "m1") == 1

    async def test_a_refused_key(
        self, client: TransactionalClient, control: SandboxControl, process: SandboxProcess
    ) -> None:
        await control.revoke_mandrill(process.mandrill_key)
        with pytest.raises(CredentialError):
            await client.ping()

    async def test_a_late_index_shows_nothing_yet(
        self, client: TransactionalClient, control: SandboxControl
    ) -> None:
        await control.configure(mandrill={"indexLagSeconds": 600, "metadataAlwaysIndexed": True})
        [outcome] = await client.send(HELLO)
        assert await client.find_by_metadata("mcsync_id", "m1") == ()
        with pytest.raises(UnknownMessageError):
            await client.message_info(outcome.id)
        await control.advance_clock(601)
        [found] = await client.find_by_metadata("mcsync_id", "m1")
        assert found.id == outcome.id


class TestEverythingElse:
    async def test_a_template_reaches_its_reader(
        self, client: TransactionalClient, control: SandboxControl
    ) -> None:
        await control.add_mail_template(
            "Welcome", '<p mc:edit="main"></p>*|NAME|*', subject="Hi *|NAME|*"
        )
        file = Attachment.of(b"\x00data", name="a.bin", type="application/octet-stream")
        message = HELLO.model_copy(
            update={
                "subject": None,
                "global_merge_vars": (MergeVar(name="name", content="Ann"),),
                "attachments": (file,),
            }
        )
        content = (TemplateContent(name="main", content="<b>x</b>"),)
        [outcome] = await client.send_template("welcome", message, content=content)
        assert (outcome.status, outcome.queued_reason) == ("queued", "attachments")
        stored = await client.message_content(outcome.id)
        assert (stored.subject, stored.html) == ("Hi Ann", "<p><b>x</b></p>Ann")
        assert stored.attachments[0].content == file.content
        assert await client.render_template("welcome", content=content) == (
            "<p><b>x</b></p>*|NAME|*"
        )
        with pytest.raises(UnknownTemplateError):
            await client.template("other")

    async def test_a_time_is_kept_moved_and_given_up(self, client: TransactionalClient) -> None:
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        [outcome] = await client.send(HELLO, send_at=due)
        [waiting] = await client.scheduled_messages("a@corp.test")
        assert (outcome.status, waiting.id, waiting.send_at) == ("scheduled", outcome.id, due)
        moved = await client.reschedule(outcome.id, due + timedelta(days=1))
        assert moved.send_at == due + timedelta(days=1)
        assert (await client.cancel_scheduled(outcome.id)).id == outcome.id
        with pytest.raises(UnknownMessageError):
            await client.cancel_scheduled(outcome.id)

    async def test_rejects(self, client: TransactionalClient) -> None:
        assert (await client.add_reject("a@corp.test", comment="asked")).added
        [outcome] = await client.send(HELLO)
        assert (outcome.status, outcome.reject_reason) == ("rejected", "custom")
        [listed] = await client.rejects("a@corp.test")
        assert listed.created_at is not None
        assert (await client.delete_reject("a@corp.test")).deleted
        with pytest.raises(UnknownRejectError):
            await client.delete_reject("a@corp.test")

    async def test_what_the_client_allows_the_server_takes(
        self, client: TransactionalClient
    ) -> None:
        file = Attachment.of(b"x" * 7_400_000, name="a.bin", type="application/octet-stream")
        [outcome] = await client.send(HELLO.model_copy(update={"attachments": (file,)}))
        assert outcome.accepted
        with pytest.raises(MessageTooLargeError):
            await client.send(HELLO.model_copy(update={"attachments": (file, file)}))

    async def test_signed_events_are_believed(
        self, client: TransactionalClient, control: SandboxControl, receiver: Receiver
    ) -> None:
        await control.configure(mandrill={"webhookScale": 0.0002})
        url = f"{receiver.url}/mail?x=1"
        hook = await client.add_webhook(url, events=["send", "hard_bounce", "blacklist"])
        receiver.posts.clear()
        [outcome] = await client.send(HELLO)
        await control.mail_act(outcome.id, "hard_bounce")
        events: list[MessageEvent | SyncEvent] = []
        async with asyncio.timeout(60):
            while len(events) < 3:
                await asyncio.sleep(0.02)
                events = []
                for post in receiver.posts:
                    header = post.headers["x-mandrill-signature"]
                    assert verify_mandrill_signature(hook.auth_key, url, post.form, header)
                    delivery = parse_events(post.form["mandrill_events"])
                    assert delivery.unreadable == 0
                    events += delivery.events
        sent, bounced, listed = events
        assert isinstance(sent, MessageEvent)
        assert isinstance(bounced, MessageEvent)
        assert isinstance(listed, SyncEvent)
        assert (sent.event, sent.msg.metadata) == ("send", {"mcsync_id": "m1"})
        assert (bounced.id, bounced.msg.state) == (outcome.id, "bounced")
        assert listed.reject is not None
        assert listed.reject.reason == "hard-bounce"
        assert (await client.update_webhook(hook.id, url=url, events=["open"])).events == ("open",)
        assert (await client.delete_webhook(hook.id)).id == hook.id
        with pytest.raises(UnknownWebhookError):
            await client.delete_webhook(hook.id)
        with pytest.raises(ValidationFailedError):
            await client.add_webhook("http://127.0.0.1:9/", events=["send"])

    async def test_campaigns_are_read_by_the_marketing_client(
        self, process: SandboxProcess, control: SandboxControl, http: httpx.AsyncClient
    ) -> None:
        slots = SlotLimiter(MemorySlotStore())
        marketing = MailchimpClient(
            http,
            api_key=process.api_key,
            base_url=process.url,
            slots=slots,
            account="a",
            lane=Lane.BULK,
        )
        await control.seed(ALL_STAFF, 200)
        await control.make_campaigns(
            ALL_STAFF, count=25, title="Letter", status="sent", ago_seconds=7200
        )
        since = await control.seq()
        found = [each async for each in marketing.iterate_campaigns(page_size=25)]
        assert [call["path"] for call in await control.calls(since=since)] == ["/campaigns"]
        assert await marketing.campaign(found[0].id) == found[0]
        report = await marketing.report(found[0].id)
        assert found[0].report_summary is not None
        assert report.opens.unique == found[0].report_summary.unique_opens > 0
        assert report.opens.proxy_excluded_opens is not None
        assert len((await marketing.search_campaigns("letter")).results) == 25
        assert len([each async for each in marketing.iterate_reports(page_size=10)]) == 25
