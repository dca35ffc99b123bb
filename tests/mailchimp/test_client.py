"""What the calls send and read, and how they use slots."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone

import httpx
import orjson
import pytest

from mcsync.mailchimp import (
    Lane,
    MailchimpClient,
    MailchimpTimeout,
    MemorySlotStore,
    MethodNotAllowedError,
    NotFoundError,
    RefusalCode,
    RefusedError,
    RetryPolicy,
    Slot,
    SlotLimiter,
    ThrottledError,
    TransientError,
)

KEY = "0123456789abcdef0123456789abcdef-us6"
HASH = "2b9150605ac374d671a306b5fcee60a0"
Answer = httpx.Response | Exception


class Limiter(SlotLimiter):
    """Remembers the slots it gave and how many were held during each."""

    def __init__(self) -> None:
        super().__init__(MemorySlotStore())
        self.given: list[Slot] = []
        self.held = 0

    @contextlib.asynccontextmanager
    async def hold(self, account: str, lane: Lane) -> AsyncIterator[Slot]:
        async with super().hold(account, lane) as slot:
            self.given.append(slot)
            self.held += 1
            try:
                yield slot
            finally:
                self.held -= 1


class Mailchimp:
    """Answers from a script, the last answer again and again."""

    def __init__(self, *answers: Answer | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers) or [ok({})]
        self.requests: list[httpx.Request] = []
        self.slots = Limiter()
        self.client = MailchimpClient(
            httpx.AsyncClient(transport=httpx.MockTransport(self.answer)),
            api_key=KEY,
            base_url="https://{dc}.mc.test/3.0/",
            slots=self.slots,
            account="a",
            retry=RetryPolicy(base_seconds=0.001),
            rand=lambda: 0.5,
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert self.slots.held >= 1, "a call outside a slot"
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]


def ok(body: object) -> httpx.Response:
    return httpx.Response(200, content=orjson.dumps(body))


def problem(status: int, title: str = "", detail: str = "") -> httpx.Response:
    return httpx.Response(
        status,
        content=orjson.dumps({"title": title, "detail": detail}),
        headers={"content-type": "application/problem+json"},
    )


class TestBulk:
    async def test_encoded_rows_are_joined_as_they_are(self) -> None:
        mc = Mailchimp(ok({"new_members": [], "updated_members": [], "errors": []}))
        await mc.client.batch_subscribe(
            "l1",
            [b'{"email_address":"a@x.org"}', '{"email_address":"\u00fc@x.org"}', {"vip": True}],
            update_existing=True,
            skip_merge_validation=True,
        )
        assert mc.last.url.path == "/3.0/lists/l1"
        assert dict(mc.last.url.params) == {
            "skip_merge_validation": "true",
            "skip_duplicate_check": "true",
        }
        assert orjson.loads(mc.last.content) == {
            "members": [
                {"email_address": "a@x.org"},
                {"email_address": "\u00fc@x.org"},
                {"vip": True},
            ],
            "update_existing": True,
        }

    @pytest.mark.parametrize("count", [0, 501])
    async def test_the_size_is_checked_before_the_call(self, count: int) -> None:
        mc = Mailchimp()
        with pytest.raises(ValueError, match="bulk call"):
            await mc.client.batch_subscribe("l1", [b"{}"] * count, update_existing=True)
        assert not mc.requests

    async def test_the_answer_is_typed(self) -> None:
        member = {
            "email_address": "A@x.org",
            "last_changed": "2026-01-02T03:04:05+00:00",
            "timestamp_opt": "",
            "tags": [{"id": 3, "name": "vip"}],
            "surprise": [1],
        }
        mc = Mailchimp(ok({"new_members": [member], "errors": [{"error": None}]}))
        result = await mc.client.batch_subscribe("l1", [b"{}"], update_existing=False)
        new = result.new_members[0]
        assert new.last_changed == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert new.timestamp_opt is None
        assert new.tags[0].name == "vip"
        assert result.errors[0].error == ""


class TestMembers:
    async def test_a_page_asks_for_the_oldest_changes_without_links(self) -> None:
        mc = Mailchimp(ok({"members": [], "total_items": 7}))
        since = datetime(2026, 1, 1, 2, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
        page = await mc.client.members_page(
            "l1", count=500, offset=20, status="archived", since_last_changed=since
        )
        assert page.total_items == 7
        params = dict(mc.last.url.params)
        assert params.pop("exclude_fields").startswith("_links,members._links")
        assert params == {
            "count": "500",
            "offset": "20",
            "status": "archived",
            "since_last_changed": "2026-01-01T00:00:00+00:00",
            "sort_field": "last_changed",
            "sort_dir": "ASC",
        }
        with pytest.raises(ValueError, match="offset"):
            await mc.client.members_page("l1", since_last_changed=datetime(2026, 1, 1))  # noqa: DTZ001

    async def test_fields_can_be_chosen(self) -> None:
        mc = Mailchimp(ok({"members": [{"id": "x"}]}))
        await mc.client.members_page("l1", fields=["id", "members.status"])
        assert mc.last.url.params["fields"] == "members.id,members.status,total_items"
        assert "exclude_fields" not in mc.last.url.params

    async def test_a_slow_large_page_is_not_repeated_but_a_small_one_is(self) -> None:
        for count, calls in ((1000, 1), (250, 4)):
            mc = Mailchimp(httpx.Response(504))
            with pytest.raises(TransientError):
                await mc.client.members_page("l1", count=count)
            assert len(mc.requests) == calls

    async def test_counting_is_one_row(self) -> None:
        mc = Mailchimp(ok({"total_items": 31}))
        assert await mc.client.count_members("l1", status="subscribed") == 31
        assert mc.last.url.params["count"] == "1"

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("ada.lovelace@example.com", HASH),
            (" Ada.Lovelace@Example.com", HASH),
            (HASH, HASH),
            ("m\u00fcller@x.de", "m%C3%BCller%40x.de"),
        ],
    )
    async def test_a_member_is_named_by_hash_or_address(self, name: str, path: str) -> None:
        mc = Mailchimp(ok({"id": HASH}))
        assert (await mc.client.member("l1", name)).id == HASH
        assert mc.last.url.raw_path.decode().startswith(f"/3.0/lists/l1/members/{path}?")

    async def test_a_stranger_is_none_or_an_error(self) -> None:
        mc = Mailchimp(problem(404, "Resource Not Found"))
        assert await mc.client.find_member("l1", HASH) is None
        with pytest.raises(NotFoundError):
            await mc.client.member("l1", HASH)

    async def test_a_refusal_has_a_code_and_is_not_repeated(self) -> None:
        mc = Mailchimp(problem(400, "Member In Compliance State", "a@b.org is in ..."))
        with pytest.raises(RefusedError) as caught:
            await mc.client.put_member("l1", HASH, {"status": "subscribed"})
        assert caught.value.code is RefusalCode.COMPLIANCE
        assert len(mc.requests) == 1

    async def test_an_addition_whose_answer_is_lost_is_not_repeated(self) -> None:
        mc = Mailchimp(problem(504, "Gateway Timeout"))
        with pytest.raises(TransientError) as caught:
            await mc.client.add_member("l1", {"email_address": "a@b.org", "status": "pending"})
        assert caught.value.outcome_unknown
        assert len(mc.requests) == 1
        assert mc.last.url.path == "/3.0/lists/l1/members"

    async def test_archiving_twice_is_for_the_caller_to_interpret(self) -> None:
        mc = Mailchimp(httpx.Response(204), problem(405, "Method Not Allowed"))
        await mc.client.archive_member("l1", HASH)
        with pytest.raises(MethodNotAllowedError):
            await mc.client.archive_member("l1", HASH)

    @pytest.mark.parametrize("segment", ["", ".", ".."])
    async def test_a_path_cannot_be_bent(self, segment: str) -> None:
        mc = Mailchimp()
        with pytest.raises(ValueError, match="segment"):
            await mc.client.member(segment, HASH)
        await mc.client.find_member("../x", HASH)
        assert b"..%2Fx" in mc.last.url.raw_path


class TestPages:
    async def test_all_audiences_are_read(self) -> None:
        rows = [{"id": f"l{n}"} for n in range(1500)]

        def page(request: httpx.Request) -> httpx.Response:
            offset = int(request.url.params["offset"])
            return ok({"lists": rows[offset : offset + 1000], "total_items": len(rows)})

        mc = Mailchimp(page)
        assert [audience.id for audience in await mc.client.audiences()] == [
            row["id"] for row in rows
        ]
        assert len(mc.requests) == 2

    async def test_a_wrong_total_does_not_go_round_for_ever(self) -> None:
        def page(request: httpx.Request) -> httpx.Response:
            first = request.url.params["offset"] == "0"
            rows = [{"merge_id": 1, "tag": "FNAME"}] if first else []
            return ok({"merge_fields": rows, "total_items": 9})

        assert len(await Mailchimp(page).client.merge_fields("l1")) == 1


class TestTags:
    async def test_changes_name_only_what_changes(self) -> None:
        mc = Mailchimp(ok({"members_added": [{"email_address": "a@x.org"}], "total_added": 1}))
        result = await mc.client.change_tag_members("l1", 5, add=["a@x.org"])
        assert result.members_added[0].email_address == "a@x.org"
        assert orjson.loads(mc.last.content) == {"members_to_add": ["a@x.org"]}

    @pytest.mark.parametrize("add", [[], ["a@x.org"] * 501])
    async def test_the_size_is_checked_before_the_call(self, add: list[str]) -> None:
        mc = Mailchimp()
        with pytest.raises(ValueError, match=r"tag|untag"):
            await mc.client.change_tag_members("l1", 5, add=add)
        assert not mc.requests

    async def test_a_tag_that_is_gone_is_none(self) -> None:
        assert await Mailchimp(problem(404)).client.tag("l1", 5) is None

    async def test_an_empty_search_finds_all(self) -> None:
        mc = Mailchimp(ok({"tags": [{"id": 1, "name": "vip"}]}))
        assert [tag.name for tag in await mc.client.search_tags("l1", "")] == ["vip"]
        assert "name" not in mc.last.url.params


class TestRetries:
    @pytest.mark.parametrize(
        "trouble", [httpx.Response(503), httpx.Response(429), httpx.Response(403, text="<html>")]
    )
    async def test_passing_trouble_is_repeated_each_time_in_a_slot(
        self, trouble: httpx.Response
    ) -> None:
        mc = Mailchimp(trouble, trouble, ok({"account_id": "acc"}))
        assert (await mc.client.account()).account_id == "acc"
        assert len({slot.holder for slot in mc.slots.given}) == 3
        assert mc.slots.given[0].is_throttled is (trouble.status_code != 503)

    async def test_an_end_is_made_of_it(self) -> None:
        mc = Mailchimp(httpx.Response(500))
        with pytest.raises(TransientError):
            await mc.client.ping()
        assert len(mc.requests) == 4

    @pytest.mark.parametrize(
        ("trouble", "calls"),
        [
            (httpx.Response(502), 1),
            (httpx.ReadError("x"), 1),
            (httpx.ConnectError("x"), 2),
            (httpx.Response(429), 2),
        ],
    )
    @pytest.mark.parametrize(
        "create",
        [
            lambda client: client.create_tag("l1", "vip"),
            lambda client: client.create_merge_field("l1", tag="T", name="t", type="text"),
        ],
    )
    async def test_a_creation_that_may_have_happened_is_not_repeated(
        self,
        create: Callable[[MailchimpClient], Awaitable[object]],
        trouble: Answer,
        calls: int,
    ) -> None:
        mc = Mailchimp(trouble, ok({"id": 1, "merge_id": 1, "tag": "T"}))
        if calls == 1:
            with pytest.raises(TransientError):
                await create(mc.client)
        else:
            await create(mc.client)
        assert len(mc.requests) == calls

    async def test_a_repeatable_write_is_repeated_though_its_outcome_is_unknown(self) -> None:
        mc = Mailchimp(httpx.ReadError("x"), httpx.Response(504), ok({"id": HASH}))
        assert (await mc.client.update_member("l1", HASH, {"vip": True})).id == HASH


class TestHeldSlots:
    async def test_calls_of_the_task_use_it_and_are_made_once(self) -> None:
        mc = Mailchimp(httpx.Response(429))
        async with mc.client.slot(Lane.LIVE) as slot:
            with pytest.raises(ThrottledError):
                await mc.client.ping()
            assert slot.is_throttled
        assert len(mc.requests) == 1
        assert [given.lane for given in mc.slots.given] == [Lane.LIVE]

    async def test_other_tasks_do_not(self) -> None:
        mc = Mailchimp()
        async with mc.client.slot():
            await asyncio.create_task(mc.client.ping())
        assert len(mc.slots.given) == 2

    async def test_other_accounts_do_not(self) -> None:
        mc, other = Mailchimp(), Mailchimp()
        other.client._caller.account = "b"
        async with mc.client.slot():
            await other.client.ping()
        assert [slot.account for slot in other.slots.given] == ["b"]

    async def test_afterwards_each_call_takes_its_own_again(self) -> None:
        mc = Mailchimp()
        async with mc.client.slot():
            pass
        await mc.client.ping()
        assert len(mc.slots.given) == 2

    async def test_a_copy_for_the_other_lane(self) -> None:
        mc = Mailchimp()
        await mc.client.with_lane(Lane.LIVE).ping()
        await mc.client.ping()
        assert [slot.lane for slot in mc.slots.given] == [Lane.LIVE, Lane.BULK]

    async def test_a_call_given_up_keeps_counting(self) -> None:
        mc = Mailchimp(httpx.ReadTimeout("x"))
        async with mc.client.slot() as slot:
            with pytest.raises(MailchimpTimeout):
                await mc.client.ping()
        assert slot.is_abandoned
