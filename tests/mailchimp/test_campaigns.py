"""Campaigns and reports: what the calls send and read, and walks while the account changes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema
import orjson
import pytest

from mcsync.mailchimp import MailchimpClient, NotFoundError
from tests.mailchimp.test_client import Mailchimp, ok, problem
from tests.mailchimp.test_contract import SPEC, operation

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAMPAIGN = {
    "id": "c0ffee0001",
    "web_id": 77,
    "type": "regular",
    "status": "sent",
    "create_time": "2026-01-01T10:00:00+00:00",
    "send_time": "2026-01-02T10:00:00+00:00",
    "emails_sent": 40,
    "settings": {"title": "January", "subject_line": "News"},
    "recipients": {"list_id": "l1"},
    "report_summary": {
        "opens": 30,
        "unique_opens": 20,
        "open_rate": 0.5,
        "clicks": 8,
        "subscriber_clicks": 4,
        "click_rate": 0.1,
    },
}
REPORT = {
    "id": "c0ffee0001",
    "campaign_title": "January",
    "emails_sent": 40,
    "unsubscribed": 1,
    "abuse_reports": 2,
    "bounces": {"hard_bounces": 3, "soft_bounces": 4, "syntax_errors": 5},
    "opens": {
        "opens_total": 30,
        "unique_opens": 20,
        "open_rate": 0.5,
        "last_open": "2026-01-03T10:00:00+00:00",
        "proxy_excluded_opens": 12,
        "proxy_excluded_unique_opens": 10,
        "proxy_excluded_open_rate": 0.25,
    },
    "clicks": {"clicks_total": 8, "unique_subscriber_clicks": 4, "last_click": ""},
}


class TestReading:
    async def test_a_campaign_is_flattened(self) -> None:
        found = await Mailchimp(ok(CAMPAIGN)).client.campaign("c0ffee0001")
        assert (found.title, found.subject, found.list_id) == ("January", "News", "l1")
        assert (found.web_id, found.status, found.emails_sent) == (77, "sent", 40)
        assert found.send_time == datetime(2026, 1, 2, 10, tzinfo=UTC)
        assert found.report_summary is not None
        assert found.report_summary.open_rate == 0.5

    async def test_a_draft_has_neither_send_time_nor_summary(self) -> None:
        draft = {"id": "c1", "status": "save", "send_time": "", "settings": {"title": None}}
        found = await Mailchimp(ok(draft)).client.campaign("c1")
        assert (found.send_time, found.report_summary, found.title) == (None, None, "")

    async def test_a_test_of_subjects_shows_the_first(self) -> None:
        body = {"id": "c1", "settings": {}, "variate_settings": {"subject_lines": ["A", "B"]}}
        assert (await Mailchimp(ok(body)).client.campaign("c1")).subject == "A"

    async def test_a_report_is_read_by_kind(self) -> None:
        found = await Mailchimp(ok(REPORT)).client.report("c0ffee0001")
        assert (found.opens.total, found.opens.unique, found.opens.rate) == (30, 20, 0.5)
        assert found.opens.proxy_excluded_open_rate == 0.25
        assert (found.bounces.hard, found.bounces.soft, found.bounces.syntax) == (3, 4, 5)
        assert (found.clicks.total, found.clicks.unique_subscribers) == (8, 4)
        assert (found.clicks.last_click, found.unsubscribed, found.abuse_reports) == (None, 1, 2)

    async def test_opens_without_proxies_may_be_unknown(self) -> None:
        found = await Mailchimp(ok({"id": "c1", "opens": {"opens_total": 1}})).client.report("c1")
        assert found.opens.proxy_excluded_opens is None

    async def test_a_search_gives_campaigns_and_snippets(self) -> None:
        mc = Mailchimp(ok({"results": [{"campaign": CAMPAIGN, "snippet": "x"}], "total_items": 1}))
        found = await mc.client.search_campaigns("jan uary")
        assert mc.last.url.params["query"] == "jan uary"
        assert [each.campaign.title for each in found.results] == ["January"]

    async def test_an_unknown_campaign(self) -> None:
        with pytest.raises(NotFoundError):
            await Mailchimp(problem(404, "Resource Not Found")).client.campaign("c1")

    async def test_an_id_cannot_lead_elsewhere(self) -> None:
        with pytest.raises(ValueError, match="segment"):
            await Mailchimp().client.campaign("..")


class TestPages:
    async def test_filters_and_fields(self) -> None:
        mc = Mailchimp(ok({"campaigns": [CAMPAIGN], "total_items": 1}))
        page = await mc.client.campaigns_page(
            count=100,
            status="sent",
            since_create_time=NOW,
            list_id="l1",
            sort_field="send_time",
            sort_dir="DESC",
        )
        sent = dict(mc.last.url.params)
        assert page.campaigns[0].id == "c0ffee0001"
        fields = sent.pop("fields").split(",")
        assert {"campaigns.id", "campaigns.settings.title", "total_items"} <= set(fields)
        assert sent == {
            "count": "100",
            "offset": "0",
            "status": "sent",
            "since_create_time": "2026-01-01T00:00:00+00:00",
            "list_id": "l1",
            "sort_field": "send_time",
            "sort_dir": "DESC",
        }

    async def test_reports_come_many_a_page(self) -> None:
        mc = Mailchimp(ok({"reports": [REPORT], "total_items": 1}))
        page = await mc.client.reports_page(since_send_time=NOW)
        assert page.reports[0].opens.unique == 20
        assert mc.last.url.params["since_send_time"] == "2026-01-01T00:00:00+00:00"
        assert mc.last.url.params["count"] == "1000"


class Shelf:
    """A growing and shrinking list of campaigns behind the API."""

    def __init__(self, count: int, *, key: str = "campaigns") -> None:
        self.ids = [f"c{number:03}" for number in range(count)]
        self.key = key
        self.calls = 0
        self.before_call: Callable[[Shelf], None] = lambda _: None
        self.client = Mailchimp(self.answer).client

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        self.before_call(self)
        offset, count = (int(request.url.params[name]) for name in ("offset", "count"))
        rows = [{"id": ident} for ident in self.ids[offset : offset + count]]
        return ok({self.key: rows, "total_items": len(self.ids)})


class TestWalks:
    async def test_a_hundred_campaigns_are_one_call(self) -> None:
        shelf = Shelf(100)
        found = [each.id async for each in shelf.client.iterate_campaigns(page_size=100)]
        assert (found, shelf.calls) == (shelf.ids, 1)

    @pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 29])
    async def test_every_campaign_comes_once_and_in_order(self, count: int) -> None:
        shelf = Shelf(count)
        found = [each.id async for each in shelf.client.iterate_campaigns(page_size=10)]
        assert found == shelf.ids

    @pytest.mark.parametrize("deleted", [1, 3, 8])
    async def test_deletions_meanwhile_hide_nothing(self, deleted: int) -> None:
        shelf = Shelf(40)

        def act(shelf: Shelf) -> None:
            if shelf.calls == 2:
                del shelf.ids[:deleted]

        shelf.before_call = act
        found = [each.id async for each in shelf.client.iterate_campaigns(page_size=10)]
        assert set(shelf.ids) <= set(found)
        assert len(found) == len(set(found))

    async def test_new_reports_in_front_do_no_harm(self) -> None:
        shelf = Shelf(25, key="reports")

        def act(shelf: Shelf) -> None:
            if shelf.calls == 2:
                shelf.ids.insert(0, "new")

        shelf.before_call = act
        found = [each.id async for each in shelf.client.iterate_reports(page_size=10)]
        assert set(shelf.ids) - {"new"} <= set(found)
        assert len(found) == len(set(found))

    async def test_a_page_of_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="page_size"):
            await anext(Shelf(3).client.iterate_campaigns(page_size=1))


CALLS: dict[str, Callable[[MailchimpClient], Awaitable[object]]] = {
    "campaigns": lambda c: c.campaigns_page(
        status="sent",
        since_create_time=NOW,
        before_create_time=NOW,
        since_send_time=NOW,
        list_id="l1",
    ),
    "campaign": lambda c: c.campaign("c1"),
    "search": lambda c: c.search_campaigns("x"),
    "reports": lambda c: c.reports_page(
        since_send_time=NOW, before_send_time=NOW + timedelta(days=1)
    ),
    "report": lambda c: c.report("c1"),
}


@pytest.mark.skipif(
    not SPEC.exists(),
    reason="Mailchimp's published OpenAPI description is not beside this checkout",
)
class TestContract:
    @pytest.mark.parametrize("name", CALLS)
    async def test_the_description_knows_the_request(self, name: str) -> None:
        spec: dict[str, Any] = orjson.loads(SPEC.read_bytes())
        mc = Mailchimp(ok({"id": "c1"}))
        await CALLS[name](mc.client)
        described = operation(spec, mc.last)
        known = {
            each["name"]: each.get("schema", {})
            for each in described["parameters"]
            if each["in"] == "query"
        }
        for key, value in mc.last.url.params.items():
            kind = known[key].get("type")
            given: object = value.split(",") if kind == "array" else value
            given = int(value) if kind == "integer" else given
            jsonschema.Draft4Validator(known[key]).validate(given)
