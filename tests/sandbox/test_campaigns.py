"""Campaigns and their reports: what the API shows, and how figures grow by the clock (MC 11, 12)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.sandbox.driver import Audience, problem
from tests.support.sandbox import SUPPLIERS

OTHER_KEY = "0123456789abcdef0123456789abcdef-us6"
HOUR = 3600


async def sent(staff: Audience, *, people: int = 400, **settings: Any) -> str:
    """The id of a campaign that was sent to so many people."""
    await staff.control.seed(staff.id, people)
    made = await staff.control.make_campaign(staff.id, status="sent", **settings)
    return made["id"]


async def get(staff: Audience, path: str, **params: Any) -> dict[str, Any]:
    answer = await staff.api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestShowing:
    async def test_a_draft_has_no_summary_and_no_send_time(self, staff: Audience) -> None:
        made = await staff.control.make_campaign(staff.id, title="January", subject="News")
        found = await get(staff, f"/campaigns/{made['id']}")
        assert (found["status"], found["send_time"], found["emails_sent"]) == ("save", "", 0)
        assert "report_summary" not in found
        assert found["settings"]["title"] == "January"
        assert found["recipients"]["list_id"] == staff.id

    async def test_a_sent_one_is_summed_up_alike_everywhere(self, staff: Audience) -> None:
        ident = await sent(staff, ago_seconds=3 * HOUR)
        single = await get(staff, f"/campaigns/{ident}")
        [listed] = (await get(staff, "/campaigns"))["campaigns"]
        report = await get(staff, f"/reports/{ident}")
        [among] = (await get(staff, "/reports"))["reports"]
        assert single == listed
        assert report == among
        summary = single["report_summary"]
        assert summary["unique_opens"] == report["opens"]["unique_opens"] > 0
        assert summary["open_rate"] == report["opens"]["open_rate"]
        assert summary["subscriber_clicks"] == report["clicks"]["unique_subscriber_clicks"]
        assert 0 < summary["open_rate"] < 1
        assert report["emails_sent"] == single["emails_sent"] == 400
        assert len(report["timeseries"]) == 3

    @pytest.mark.parametrize("path", ["/campaigns/{}", "/reports/{}"])
    async def test_another_accounts_campaign_is_unknown(self, staff: Audience, path: str) -> None:
        ident = await sent(staff, people=3)
        await staff.control.open_account(OTHER_KEY)
        answer = await staff.api.get(path.format(ident), auth=("x", OTHER_KEY))
        assert problem(answer) == (404, "Resource Not Found")
        assert (await staff.api.get("/campaigns", auth=("x", OTHER_KEY))).json()["campaigns"] == []

    async def test_a_draft_has_no_report(self, staff: Audience) -> None:
        made = await staff.control.make_campaign(staff.id)
        answer = await staff.api.get(f"/reports/{made['id']}")
        assert problem(answer) == (404, "Resource Not Found")
        assert (await get(staff, "/reports"))["total_items"] == 0

    async def test_opens_without_proxies_can_be_missing(self, staff: Audience) -> None:
        ident = await sent(staff, ago_seconds=HOUR)
        opens = (await get(staff, f"/reports/{ident}"))["opens"]
        assert opens["proxy_excluded_opens"] < opens["opens_total"]
        await staff.control.configure(campaigns={"proxyExcluded": False})
        assert "proxy_excluded_opens" not in (await get(staff, f"/reports/{ident}"))["opens"]


class TestListing:
    async def test_filters_order_and_pages(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 3)
        for number, hours in enumerate((9, 6, 3)):
            await staff.control.make_campaign(
                staff.id, title=f"C{number}", status="sent", ago_seconds=hours * HOUR
            )
        await staff.control.make_campaign(SUPPLIERS, title="Draft")

        async def titles(**params: Any) -> list[str]:
            body = await get(staff, "/campaigns", **params)
            return [each["settings"]["title"] for each in body["campaigns"]]

        assert await titles(sort_field="create_time") == ["C0", "C1", "C2", "Draft"]
        assert await titles(sort_field="send_time", sort_dir="DESC", status="sent") == [
            "C2",
            "C1",
            "C0",
        ]
        assert await titles(list_id=SUPPLIERS) == ["Draft"]
        assert await titles(count=2, offset=1) == ["C1", "C2"]
        [second] = (await get(staff, "/campaigns", count=1, offset=1))["campaigns"]
        assert await titles(since_create_time=second["create_time"]) == ["C2", "Draft"]
        assert await titles(before_send_time=second["send_time"]) == ["C0"]
        assert (await get(staff, "/campaigns", count=1))["total_items"] == 4
        picked = await get(staff, "/campaigns", fields="campaigns.id,total_items", count=1)
        assert list(picked["campaigns"][0]) == ["id"]

    async def test_nonsense_is_refused(self, staff: Audience) -> None:
        for params in ({"status": "lost"}, {"type": "poem"}, {"sort_field": "mood"}):
            answer = await staff.api.get("/campaigns", params=params)
            assert problem(answer) == (400, "Bad Request")

    async def test_a_search_looks_at_title_and_subject(self, staff: Audience) -> None:
        await staff.control.make_campaign(staff.id, title="January letter", subject="Snow")
        await staff.control.make_campaign(staff.id, title="July letter", subject="Sun")
        for query, wanted in (("letter", 2), ("LETTER snow", 1), ("rain", 0)):
            found = await get(staff, "/search-campaigns", query=query)
            assert found["total_items"] == len(found["results"]) == wanted
        assert problem(await staff.api.get("/search-campaigns"))[0] == 400

    async def test_the_log_counts_the_calls(self, staff: Audience) -> None:
        await staff.control.make_campaigns(staff.id, count=250)
        since = await staff.control.seq()
        for offset in (0, 100, 200):
            await get(staff, "/campaigns", count=100, offset=offset)
        calls = await staff.control.calls(since=since)
        assert [call["path"] for call in calls] == ["/campaigns"] * 3


class TestClock:
    async def test_figures_grow_and_come_to_an_end(self, staff: Audience) -> None:
        ident = await sent(staff, ago_seconds=120)
        seen: list[dict[str, Any]] = []
        for hours in (0, 1, 5, 24, 24 * 30, 24 * 30):
            await staff.control.advance_clock(hours * HOUR)
            seen.append(await get(staff, f"/reports/{ident}"))
        counts = [report["opens"]["opens_total"] for report in seen]
        assert counts == sorted(counts)
        assert counts[0] < counts[1] < counts[2] < counts[3]
        assert counts[4] == counts[5]
        clicks = [report["clicks"]["clicks_total"] for report in seen]
        assert clicks == sorted(clicks)
        last = seen[-1]
        assert last["opens"]["unique_opens"] <= last["opens"]["opens_total"]
        assert last["opens"]["unique_opens"] <= last["emails_sent"]
        assert seen[4]["opens"]["last_open"] == last["opens"]["last_open"] > last["send_time"]

    async def test_the_same_moment_shows_the_same(self, staff: Audience) -> None:
        ident = await sent(staff, ago_seconds=24 * 300 * HOUR)
        assert await get(staff, f"/reports/{ident}") == await get(staff, f"/reports/{ident}")

    async def test_sending_takes_its_time(self, staff: Audience) -> None:
        await staff.control.configure(campaigns={"sendingSeconds": 1000})
        await staff.control.seed(staff.id, 100)
        made = await staff.control.make_campaign(staff.id)
        path = f"/campaigns/{made['id']}"
        assert (await staff.api.post(f"{path}/actions/send")).status_code == 204
        assert (await get(staff, path))["status"] == "sending"
        await staff.control.advance_clock(500)
        half = await get(staff, path)
        assert 45 <= half["emails_sent"] <= 60
        assert problem(await staff.api.delete(path)) == (405, "Method Not Allowed")
        await staff.control.advance_clock(600)
        done = await get(staff, path)
        assert (done["status"], done["emails_sent"]) == ("sent", 100)

    async def test_a_scheduled_one_goes_when_it_is_due(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 5)
        made = await staff.control.make_campaign(staff.id, status="schedule", in_seconds=7200)
        path = f"/campaigns/{made['id']}"
        before = await get(staff, path)
        assert (before["status"], before["send_time"] > "") == ("schedule", True)
        await staff.control.advance_clock(7300)
        after = await get(staff, path)
        assert (after["status"], after["send_time"]) == ("sent", before["send_time"])


class TestActs:
    async def test_a_draft_is_made_changed_and_deleted(self, staff: Audience) -> None:
        body = {"type": "regular", "recipients": {"list_id": staff.id}, "settings": {"title": "A"}}
        made = await staff.api.post("/campaigns", json=body)
        assert made.status_code == 200
        path = f"/campaigns/{made.json()['id']}"
        settings = {"subject_line": "B", "from_name": "Us", "reply_to": "us@corp.test"}
        changed = await staff.api.patch(path, json={"settings": settings})
        assert changed.json()["settings"]["subject_line"] == "B"
        assert problem(await staff.api.post(f"{path}/actions/send")) == (400, "Bad Request")
        assert (await staff.api.delete(path)).status_code == 204
        assert (await staff.api.get(path)).status_code == 404
        assert problem(await staff.api.post("/campaigns", json={"type": "poem"}))[0] == 400

    async def test_the_owner_acts_in_the_pages(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 5)
        made = await staff.control.make_campaign(staff.id)
        for act, status in (("send", "sending"), ("pause", "paused"), ("finish", "sent")):
            found = await staff.control.campaign_act(made["id"], act)  # type: ignore[arg-type]
            assert found is not None
            assert found["status"] == status
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            await staff.control.campaign_act(made["id"], "cancel")
        assert await staff.control.campaign_act(made["id"], "delete") is None
        assert (await staff.api.get(f"/campaigns/{made['id']}")).status_code == 404

    async def test_a_cancelled_one_keeps_what_it_sent(self, staff: Audience) -> None:
        await staff.control.configure(campaigns={"sendingSeconds": 1000})
        await staff.control.seed(staff.id, 100)
        made = await staff.control.make_campaign(staff.id, status="sending", ago_seconds=500)
        path = f"/campaigns/{made['id']}"
        assert (await staff.api.post(f"{path}/actions/cancel-send")).status_code == 204
        assert (await get(staff, path))["status"] == "canceling"
        await staff.control.advance_clock(2000)
        found = await get(staff, path)
        assert found["status"] == "canceled"
        assert 45 <= found["emails_sent"] <= 60

    async def test_a_schedule_is_on_a_quarter_hour(self, staff: Audience) -> None:
        made = await staff.control.make_campaign(staff.id)
        path = f"/campaigns/{made['id']}/actions/schedule"
        for moment, status in (
            ("2199-01-01T10:07:00Z", 400),
            ("2001-01-01T10:15:00Z", 400),
            ("2199-01-01T10:15:00Z", 204),
            ("2199-01-01T10:30:00Z", 400),
        ):
            answer = await staff.api.post(path, json={"schedule_time": moment})
            assert answer.status_code == status
        unscheduled = await staff.api.post(f"/campaigns/{made['id']}/actions/unschedule")
        assert unscheduled.status_code == 204

    async def test_a_campaign_outlives_its_list(self, staff: Audience) -> None:
        ident = await sent(staff, people=10)
        await staff.control.delete_list(staff.id)
        found = await get(staff, f"/campaigns/{ident}")
        assert found["recipients"]["list_is_active"] is False
        assert found["emails_sent"] == 10
