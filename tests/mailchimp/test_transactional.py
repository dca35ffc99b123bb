"""What the Transactional calls send and read, what is repeated and what never is."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import orjson
import pytest
from pydantic import ValidationError

from mcsync.mailchimp import (
    CredentialError,
    MailchimpError,
    MailchimpTimeout,
    RetryPolicy,
    ThrottledError,
    TransientError,
)
from mcsync.mailchimp.transactional import (
    Attachment,
    MergeVar,
    Message,
    MessageTooLargeError,
    Recipient,
    RecipientMergeVars,
    RecipientMetadata,
    SendUncertainError,
    TemplateContent,
    TransactionalClient,
    base64_size,
    call_size,
    check_size,
    message_size,
    metadata_query,
)

KEY = "md-0123456789abcdefghijkl"
NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
SPEC = Path(__file__).parents[3] / "shared" / "spec" / "mailchimp-transactional-1.4.1.swagger.json"
HELLO = Message(
    to=(Recipient(email="a@x.org", name="A"),),
    from_email="us@x.org",
    subject="Hello",
    text="Hello",
    metadata={"mcsync_id": "abc"},
)
SENT = [{"email": "a@x.org", "status": "sent", "reject_reason": None, "_id": "m1"}]
HTML = httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"})
Answer = httpx.Response | Exception


def ok(body: object) -> httpx.Response:
    return httpx.Response(200, content=orjson.dumps(body))


def refused(status: int, name: str, message: str = "about a@x.org") -> httpx.Response:
    body = {"status": "error", "code": -1, "name": name, "message": message}
    return httpx.Response(status, content=orjson.dumps(body))


class Mandrill:
    """Answers from a script, the last answer again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.outcomes: list[tuple[str, str]] = []
        self.client = TransactionalClient(
            httpx.AsyncClient(transport=httpx.MockTransport(self.answer)),
            api_key=KEY,
            base_url="https://mandrill.test/api/1.0/",
            retry=RetryPolicy(base_seconds=0.001),
            on_call=lambda operation, _, outcome: self.outcomes.append((operation, outcome)),
            rand=lambda: 0.5,
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.requests[-1].content)
        return found


class TestRequests:
    async def test_everything_is_a_post_with_the_key_in_its_body(self) -> None:
        mc = Mandrill(ok({"PING": "PONG!"}))
        await mc.client.ping()
        request = mc.requests[-1]
        assert (request.method, str(request.url)) == (
            "POST",
            "https://mandrill.test/api/1.0/users/ping2.json",
        )
        assert mc.body == {"key": KEY}
        assert "authorization" not in request.headers
        assert mc.outcomes == [("transactional.users.ping2", "200")]

    async def test_a_message_goes_out_as_it_was_made(self) -> None:
        mc = Mandrill(ok(SENT))
        message = Message(
            to=(Recipient(email="a@x.org", name="A", type="cc"),),
            html="<b>*|NAME|*</b>",
            merge_language="mailchimp",
            global_merge_vars=(MergeVar(name="NAME", content="A"),),
            merge_vars=(
                RecipientMergeVars(rcpt="a@x.org", vars=(MergeVar(name="NAME", content="B"),)),
            ),
            recipient_metadata=(RecipientMetadata(rcpt="a@x.org", values={"user": 7}),),
            attachments=(Attachment.of(b"hi", name="a.txt", type="text/plain"),),
            track_opens=False,
        )
        [outcome] = await mc.client.send(message, send_at=NOW)
        assert (outcome.id, outcome.status, outcome.accepted) == ("m1", "sent", True)
        assert mc.body == {
            "key": KEY,
            "async": False,
            "send_at": "2026-01-01 12:30:00",
            "message": {
                "to": [{"email": "a@x.org", "name": "A", "type": "cc"}],
                "html": "<b>*|NAME|*</b>",
                "merge_language": "mailchimp",
                "global_merge_vars": [{"name": "NAME", "content": "A"}],
                "merge_vars": [{"rcpt": "a@x.org", "vars": [{"name": "NAME", "content": "B"}]}],
                "recipient_metadata": [{"rcpt": "a@x.org", "values": {"user": 7}}],
                "attachments": [{"type": "text/plain", "name": "a.txt", "content": "aGk="}],
                "track_opens": False,
            },
        }

    def test_a_stored_message_is_the_same_message(self) -> None:
        stored = Message.model_validate_json(HELLO.model_dump_json())
        assert stored.as_json() == HELLO.as_json()

    async def test_outcomes_differ_by_recipient(self) -> None:
        answer = [
            *SENT,
            {"email": "b@x.org", "status": "rejected", "reject_reason": "unsub", "_id": "m2"},
            {"email": "c@x.org", "status": "queued", "queued_reason": "attachments", "_id": "m3"},
            {"email": "d@x.org", "status": "a new word", "_id": "m4"},
        ]
        found = await Mandrill(ok(answer)).client.send(HELLO)
        assert [each.accepted for each in found] == [True, False, True, False]
        assert (found[1].reject_reason, found[2].queued_reason) == ("unsub", "attachments")

    async def test_a_template_takes_content(self) -> None:
        mc = Mandrill(ok(SENT))
        await mc.client.send_template(
            "welcome", HELLO, content=(TemplateContent(name="main", content="<p>"),)
        )
        assert mc.requests[-1].url.path == "/api/1.0/messages/send-template.json"
        assert mc.body["template_content"] == [{"name": "main", "content": "<p>"}]

    async def test_a_search_is_narrowed_and_read(self) -> None:
        row = {"_id": "m1", "ts": 1767225600, "state": "sent", "metadata": [], "opens": 2}
        mc = Mandrill(ok([row]))
        [found] = await mc.client.search_messages(date_from=date(2026, 1, 1), tags=["a"])
        assert (found.ts, found.metadata) == (datetime(2026, 1, 1, tzinfo=UTC), {})
        assert mc.body == {
            "key": KEY,
            "query": "*",
            "date_from": "2026-01-01",
            "tags": ["a"],
            "limit": 1000,
        }

    async def test_a_metadata_search_keeps_exact_hits_only(self) -> None:
        rows = [{"_id": str(n), "metadata": {"id": text}} for n, text in enumerate(("a", "ab"))]
        mc = Mandrill(ok(rows))
        found = await mc.client.find_by_metadata("id", "a")
        assert [each.id for each in found] == ["0"]
        assert mc.body["query"] == "u_id:a"

    def test_other_values_are_quoted(self) -> None:
        assert metadata_query("id", 'a-"b\\') == 'u_id:"a-\\"b\\\\"'
        with pytest.raises(ValueError, match="metadata name"):
            metadata_query("a b", "x")

    async def test_times_have_no_offset_and_mean_utc(self) -> None:
        row = {"_id": "m1", "send_at": "2026-01-01 12:30:00", "created_at": "nonsense"}
        mc = Mandrill(ok(row))
        found = await mc.client.reschedule("m1", NOW)
        assert (found.send_at, found.created_at) == (NOW, None)
        [listed] = await Mandrill(ok([row])).client.scheduled_messages()
        assert listed == found

    async def test_a_time_without_offset_is_refused(self) -> None:
        with pytest.raises(ValueError, match="offset"):
            await Mandrill(ok(SENT)).client.send(HELLO, send_at=NOW.replace(tzinfo=None))

    async def test_the_rest(self) -> None:
        hook = {"id": 7, "url": "https://x.org/h", "auth_key": "k", "events": ["send"]}
        made = await Mandrill(ok(hook)).client.add_webhook("https://x.org/h", events=["send"])
        assert (made.id, made.auth_key) == (7, "k")
        [reject] = await Mandrill(ok([{"email": "a@x.org", "reason": "unsub"}])).client.rejects()
        assert reject.reason == "unsub"
        assert (await Mandrill(ok({"html": "<p>"})).client.render_template("t")) == "<p>"
        [template] = await Mandrill(ok([{"slug": "t", "labels": None}])).client.templates()
        assert (template.slug, template.labels) == ("t", ())


class TestRepeating:
    @pytest.mark.parametrize(
        "trouble",
        [
            httpx.ReadTimeout(""),
            httpx.WriteTimeout(""),
            httpx.ReadError(""),
            httpx.RemoteProtocolError(""),
            refused(500, "GeneralError"),
            refused(503, "ServiceUnavailable"),
            httpx.Response(502, content=b"<html>"),
            httpx.Response(504),
            httpx.Response(500, content=orjson.dumps({"name": "SomethingNew"})),
            HTML,
            ok("fine"),
        ],
    )
    async def test_a_send_in_doubt_is_never_repeated(self, trouble: Answer) -> None:
        mc = Mandrill(trouble)
        with pytest.raises(SendUncertainError) as caught:
            await mc.client.send(HELLO)
        assert len(mc.requests) == 1
        assert not isinstance(caught.value, TransientError)
        assert caught.value.timed_out is isinstance(trouble, httpx.TimeoutException)

    @pytest.mark.parametrize(
        "trouble",
        [
            httpx.ConnectError(""),
            httpx.ConnectTimeout(""),
            refused(429, "RequestLimitExceeded"),
            httpx.Response(429),
        ],
    )
    async def test_what_surely_was_not_taken_is_sent_again(self, trouble: Answer) -> None:
        mc = Mandrill(trouble, ok(SENT))
        assert (await mc.client.send(HELLO))[0].status == "sent"
        assert len(mc.requests) == 2

    async def test_a_refusal_is_final(self) -> None:
        mc = Mandrill(refused(500, "Invalid_Key"))
        with pytest.raises(CredentialError) as caught:
            await mc.client.send(HELLO)
        assert len(mc.requests) == 1
        assert caught.value.code == "transactional_key_invalid"

    @pytest.mark.parametrize("trouble", [httpx.ReadTimeout(""), refused(500, "GeneralError"), HTML])
    async def test_a_question_is_asked_again(self, trouble: Answer) -> None:
        mc = Mandrill(trouble, ok({"_id": "m1", "state": "sent"}))
        assert (await mc.client.message_info("m1")).state == "sent"
        assert len(mc.requests) == 2

    async def test_a_webhook_is_not_made_twice(self) -> None:
        mc = Mandrill(httpx.ReadTimeout(""))
        with pytest.raises(MailchimpTimeout) as caught:
            await mc.client.add_webhook("https://x.org/h", events=["send"])
        assert (len(mc.requests), caught.value.outcome_unknown) == (1, True)

    async def test_too_many_searches_are_left_to_the_caller(self) -> None:
        mc = Mandrill(refused(429, "RequestLimitExceeded"))
        with pytest.raises(ThrottledError) as caught:
            await mc.client.search_messages()
        assert (len(mc.requests), caught.value.retry_after) == (1, 60.0)

    async def test_nothing_tells_the_key_or_an_address(self) -> None:
        mc = Mandrill(refused(422, "ValidationError"))
        with pytest.raises(MailchimpError) as caught:
            await mc.client.send(HELLO)
        texts = [str(caught.value), repr(mc.client), repr(HELLO), repr(mc.client._caller.transport)]
        assert not [text for text in texts if KEY in text or "a@x.org" in text]


class TestLimits:
    def test_base64_grows_by_a_third(self) -> None:
        assert [base64_size(size) for size in (0, 1, 3, 4)] == [0, 4, 4, 8]
        made = Attachment.of(b"x" * 1000, name="a", type="text/plain")
        assert len(made.content) == base64_size(1000)

    def test_sizes_count_what_is_sent(self) -> None:
        file = Attachment.of(b"x" * 3000, name="a", type="text/plain")
        message = HELLO.model_copy(update={"attachments": (file,), "html": "\u00fc"})
        assert message_size(message) == 4000 + 2 + len("Hello") * 2
        assert call_size(message) > message_size(message)
        check_size(message)

    async def test_too_much_is_refused_before_the_call(self) -> None:
        file = Attachment.of(b"x" * 7_500_000, name="a", type="text/plain")
        mc = Mandrill(ok(SENT))
        with pytest.raises(MessageTooLargeError) as caught:
            await mc.client.send(HELLO.model_copy(update={"attachments": (file,)}))
        assert (caught.value.part, caught.value.limit) == ("call", 10_000_000)
        with pytest.raises(MessageTooLargeError, match="message of"):
            check_size(HELLO.model_copy(update={"attachments": (file,) * 3}))
        assert mc.requests == []

    def test_metadata_is_short(self) -> None:
        each = RecipientMetadata(rcpt="a@x.org", values={"note": "x" * 190})
        with pytest.raises(MessageTooLargeError, match="metadata"):
            check_size(HELLO.model_copy(update={"recipient_metadata": (each,)}))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"to": []},
            {"tags": ["_x"]},
            {"tags": ["x" * 51]},
            {"metadata": {"_x": 1}},
            {"metadata": {"a b": 1}},
            {"metadata": {"a": [1]}},
            {"attachments": [{"type": "t", "name": "n", "content": "secret!"}]},
            {"nonsense": 1},
        ],
    )
    def test_what_mandrill_would_refuse_is_refused_without_a_quote(
        self, wrong: dict[str, object]
    ) -> None:
        with pytest.raises(ValidationError) as caught:
            Message.model_validate({"to": [{"email": "a@x.org"}], **wrong})
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("limit", [99, 1001])
    async def test_a_search_has_bounds(self, limit: int) -> None:
        with pytest.raises(ValueError, match="limit"):
            await Mandrill(ok([])).client.search_messages(limit=limit)


CONTENT = (TemplateContent(name="main", content="x"),)
CALLS: dict[str, Callable[[TransactionalClient], Awaitable[object]]] = {
    "users/ping2": lambda c: c.ping(),
    "users/info": lambda c: c.user_info(),
    "messages/send": lambda c: c.send(HELLO, send_at=NOW),
    "messages/send-template": lambda c: c.send_template("t", HELLO, content=CONTENT),
    "messages/info": lambda c: c.message_info("m1"),
    "messages/search": lambda c: c.search_messages(
        date_from=NOW.date(), date_to=NOW.date(), tags=["a"], senders=["a@x.org"]
    ),
    "messages/content": lambda c: c.message_content("m1"),
    "messages/list-scheduled": lambda c: c.scheduled_messages("a@x.org"),
    "messages/cancel-scheduled": lambda c: c.cancel_scheduled("m1"),
    "messages/reschedule": lambda c: c.reschedule("m1", NOW),
    "rejects/list": lambda c: c.rejects("a@x.org", include_expired=True),
    "rejects/add": lambda c: c.add_reject("a@x.org", comment="x"),
    "rejects/delete": lambda c: c.delete_reject("a@x.org"),
    "templates/list": lambda c: c.templates("label"),
    "templates/info": lambda c: c.template("t"),
    "templates/render": lambda c: c.render_template(
        "t", content=CONTENT, merge_vars=(MergeVar(name="a", content="b"),)
    ),
    "metadata/list": lambda c: c.metadata_fields(),
    "metadata/add": lambda c: c.add_metadata_field("mcsync_id"),
    "webhooks/list": lambda c: c.webhooks(),
    "webhooks/add": lambda c: c.add_webhook("https://x.org", events=["send"], description="d"),
    "webhooks/update": lambda c: c.update_webhook(7, url="https://x.org", events=["send"]),
    "webhooks/delete": lambda c: c.delete_webhook(7),
}


@pytest.mark.skipif(
    not SPEC.exists(),
    reason="Mandrill's published Swagger description is not beside this checkout",
)
@pytest.mark.parametrize("method", CALLS)
async def test_the_description_knows_the_request(method: str) -> None:
    spec: dict[str, Any] = orjson.loads(SPEC.read_bytes())
    mc = Mandrill(ok({"id": 7, "PING": "PONG!"}))
    await CALLS[method](mc.client)
    assert mc.requests[-1].url.path == f"/api/1.0/{method}.json"
    [parameter] = spec["paths"][f"/{method}"]["post"]["parameters"]
    schema = {**parameter["schema"], "definitions": spec.get("definitions", {})}
    if "events" in schema["properties"]:
        # Declared as objects, of which an enum of texts names the only values.
        del schema["properties"]["events"]["items"]["type"]
    jsonschema.Draft4Validator(schema).validate(mc.body)
    known = set(parameter["schema"]["properties"])
    assert set(mc.body) <= known
    if "message" in mc.body:
        assert set(mc.body["message"]) <= set(schema["properties"]["message"]["properties"])
