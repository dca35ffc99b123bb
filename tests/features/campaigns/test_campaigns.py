"""The procedures of tracked campaigns, against PostgreSQL and the sandbox."""

from __future__ import annotations

from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import asyncpg
import pytest

from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl

OTHER_KEY = "ccccddddeeeeffff0000111122223333-us4"
HOUR = 3600


@pytest.fixture
async def people(mailchimp: SandboxControl) -> None:
    """Somebody to send to."""
    await mailchimp.seed(ALL_STAFF, 400)


async def tracked(caller: Caller, campaign_id: str) -> dict[str, Any]:
    answer = await caller.mutate("campaigns.trackCampaign", campaignId=campaign_id)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def points(caller: Caller, tracking_id: str) -> list[dict[str, Any]]:
    answer = await caller.query("campaigns.history", id=tracking_id)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


class TestTrackCampaign:
    async def test_anonymous_and_viewers_may_not(self, anyone: Caller, viewer: Caller) -> None:
        for caller, status in ((anyone, 401), (viewer, 403)):
            answer = await caller.mutate("campaigns.trackCampaign", campaignId="42694e9e57")
            assert answer.status_code == status

    async def test_without_a_connection_it_is_a_conflict(self, editor: Caller) -> None:
        answer = await editor.mutate("campaigns.trackCampaign", campaignId="42694e9e57")
        assert answer.json()["code"] == "not_connected"

    async def test_a_sent_campaign_comes_with_its_figures_and_a_point(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, people: None,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaign(
            ALL_STAFF, status="sent", title="November news", subject="What moved",
            ago_seconds=3 * HOUR,
        )  # fmt: skip
        body = await tracked(editor, made["id"])
        figures = (await mailchimp.campaigns())[0]["figures"]
        assert body["campaignId"] == made["id"]
        assert (body["title"], body["subject"]) == ("November news", "What moved")
        assert (body["status"], body["type"]) == ("sent", "regular")
        assert body["audienceId"] == ALL_STAFF
        assert body["sendTime"].endswith("Z")
        assert body["emailsSent"] == figures["emails_sent"] == 400
        assert body["uniqueOpens"] == figures["unique_opens"] > 0
        assert body["opens"] == figures["opens"]
        assert body["proxyExcludedUniqueOpens"] == figures["proxy_excluded_unique_opens"]
        assert body["clicks"] == figures["clicks"]
        assert body["subscriberClicks"] == figures["subscriber_clicks"]
        assert body["hardBounces"] == figures["hard_bounces"]
        assert body["unsubscribed"] == figures["unsubscribed"]
        assert body["abuseReports"] == figures["abuse_reports"]
        assert 0 < body["proxyExcludedOpenRate"] < body["openRate"] < 1
        assert (body["trackedBy"], body["settled"], body["goneAt"]) == ("manual", False, None)
        (point,) = await points(editor, body["id"])
        assert {name: point[name] for name in point if name != "at"} == {
            name: body[name] for name in point if name != "at"
        }
        assert await audit_actions(onlooker, organisation) == [
            "connection.connect", "campaigns.track",
        ]  # fmt: skip

    async def test_a_draft_has_no_report_and_no_point(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF, title="Draft")
        seq = await mailchimp.seq()
        body = await tracked(connected, made["id"])
        assert (body["status"], body["emailsSent"], body["openRate"]) == ("draft", 0, 0)
        assert body["proxyExcludedOpens"] is None
        assert await points(connected, body["id"]) == []
        calls = [call["path"] for call in await mailchimp.calls(since=seq)]
        assert len(calls) == 1

    async def test_an_unknown_id_and_one_of_a_foreign_account_are_told(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        account = await mailchimp.open_account(OTHER_KEY, lists=["Theirs"])
        foreign = await mailchimp.make_campaign(account["lists"][0]["id"])
        for wrong in (foreign["id"], "0123456789"):
            answer = await connected.mutate("campaigns.trackCampaign", campaignId=wrong)
            assert answer.status_code == 404
            assert answer.json()["code"] == "campaign_not_found"
            assert answer.json()["errors"][0]["pointer"] == "/campaignId"
            assert wrong not in answer.text

    async def test_a_second_import_is_refused_and_names_the_first(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF)
        first = await tracked(connected, made["id"])
        answer = await connected.mutate("campaigns.trackCampaign", campaignId=made["id"])
        assert answer.status_code == 409
        assert answer.json()["code"] == "already_tracked"
        assert answer.json()["trackedId"] == first["id"]

    async def test_one_of_an_account_connected_before_is_told_apart(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF)
        body = await tracked(connected, made["id"])
        await mailchimp.open_account(OTHER_KEY, lists=["Theirs"])
        await connected.mutate("connection.disconnect")
        await connected.mutate("connection.connect", apiKey=OTHER_KEY)
        for procedure, given in (
            ("campaigns.trackCampaign", {"campaignId": made["id"]}),
            ("campaigns.refreshStats", {"id": body["id"]}),
        ):
            answer = await connected.mutate(procedure, **given)
            assert answer.status_code == 409
            assert answer.json()["code"] == "campaign_of_another_account"
        assert (await connected.query("campaigns.get", id=body["id"])).json() == body

    async def test_statuses_are_told_in_our_words(
        self, connected: Caller, mailchimp: SandboxControl, people: None
    ) -> None:
        words = {
            "save": "draft", "schedule": "scheduled", "sending": "sending", "sent": "sent",
            "paused": "paused", "canceled": "cancelled", "canceling": "cancelled",
            "archived": "sent",
        }  # fmt: skip
        for theirs, ours in words.items():
            made = await mailchimp.make_campaign(ALL_STAFF, status=theirs)
            assert (await tracked(connected, made["id"]))["status"] == ours, theirs


class TestListAndGet:
    async def test_pages_and_filters(
        self, connected: Caller, viewer: Caller, mailchimp: SandboxControl, people: None
    ) -> None:
        drafts = await mailchimp.make_campaigns(ALL_STAFF, count=3, title="Draft")
        sent = await mailchimp.make_campaign(SUPPLIERS, title="50% off")
        for made in (*drafts, sent):
            await tracked(connected, made["id"])
        first = (await viewer.query("campaigns.list", limit=3)).json()
        rest = (await viewer.query("campaigns.list", limit=3, cursor=first["nextCursor"])).json()
        assert [one["title"] for one in first["items"] + rest["items"]] == [
            "50% off", "Draft 3", "Draft 2", "Draft",
        ]  # fmt: skip
        assert rest["nextCursor"] is None

        async def titles(**given: Any) -> list[str]:
            answer = await viewer.query("campaigns.list", **given)
            assert answer.status_code == 200, answer.text
            return [one["title"] for one in answer.json()["items"]]

        assert await titles(audienceId=SUPPLIERS) == ["50% off"]
        assert await titles(search="0% O") == ["50% off"]
        assert await titles(search="%") == ["50% off"]
        assert await titles(status="sent") == []
        assert len(await titles(status="draft")) == 4

    async def test_another_organisation_sees_nothing(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF)
        body = await tracked(connected, made["id"])
        assert (await stranger.query("campaigns.list")).json()["items"] == []
        for query in ("get", "history"):
            answer = await stranger.query(f"campaigns.{query}", id=body["id"])
            assert answer.status_code == 404
            assert answer.json()["code"] == "campaign_not_found"
        for mutation in ("refreshStats", "untrack"):
            answer = await stranger.mutate(f"campaigns.{mutation}", id=body["id"])
            assert answer.status_code == 404


class TestRefreshStats:
    async def test_a_point_is_added_only_where_something_changed(
        self, connected: Caller, mailchimp: SandboxControl, people: None
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=HOUR)
        body = await tracked(connected, made["id"])
        await connected.mutate("campaigns.refreshStats", id=body["id"])
        assert len(await points(connected, body["id"])) == 1
        await mailchimp.advance_clock(4 * HOUR)
        again = (await connected.mutate("campaigns.refreshStats", id=body["id"])).json()
        assert again["uniqueOpens"] > body["uniqueOpens"]
        first, second = await points(connected, body["id"])
        assert first["uniqueOpens"] == body["uniqueOpens"]
        assert second["uniqueOpens"] == again["uniqueOpens"]
        assert first["at"] < second["at"] == again["refreshedAt"]

    async def test_a_deleted_campaign_is_marked_and_keeps_its_figures(
        self, connected: Caller, mailchimp: SandboxControl, people: None,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=HOUR)
        body = await tracked(connected, made["id"])
        await mailchimp.campaign_act(made["id"], "delete")
        answer = await connected.mutate("campaigns.refreshStats", id=body["id"])
        assert answer.status_code == 200
        assert answer.json()["goneAt"] is not None
        assert answer.json()["uniqueOpens"] == body["uniqueOpens"]
        assert (await audit_actions(onlooker, organisation))[-1] == "campaigns.refresh"

    async def test_one_that_settled_can_be_refreshed_by_hand(
        self, connected: Caller, mailchimp: SandboxControl, people: None
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=40 * 24 * HOUR)
        body = await tracked(connected, made["id"])
        assert body["settled"] is True
        answer = await connected.mutate("campaigns.refreshStats", id=body["id"])
        assert answer.json()["settled"] is True

    async def test_a_refused_key_is_told(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF)
        body = await tracked(connected, made["id"])
        (account,) = await mailchimp.state()
        await mailchimp.revoke(account["apiKey"])
        answer = await connected.mutate("campaigns.refreshStats", id=body["id"])
        assert (answer.status_code, answer.json()["code"]) == (502, "mailchimp_key_refused")
        assert (await connected.query("connection.get")).json()["status"] == "needs_attention"


class TestUntrack:
    async def test_it_is_gone_from_the_lists_and_comes_back_with_its_history(
        self, connected: Caller, mailchimp: SandboxControl, people: None,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        made = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=HOUR)
        body = await tracked(connected, made["id"])
        answer = await connected.mutate("campaigns.untrack", id=body["id"])
        assert answer.json() == body
        assert (await connected.query("campaigns.list")).json()["items"] == []
        assert (await connected.mutate("campaigns.untrack", id=body["id"])).status_code == 404
        again = await tracked(connected, made["id"])
        assert again["id"] == body["id"]
        assert (await points(connected, body["id"]))[0]["uniqueOpens"] == body["uniqueOpens"]
        assert (await audit_actions(onlooker, organisation))[1:] == [
            "campaigns.track", "campaigns.untrack", "campaigns.track",
        ]  # fmt: skip


class TestListAvailable:
    async def test_not_tracked_ones_come_first(
        self, connected: Caller, viewer: Caller, mailchimp: SandboxControl
    ) -> None:
        made = await mailchimp.make_campaigns(ALL_STAFF, count=5, title="News")
        ours = await tracked(connected, made[4]["id"])
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(9):
            given = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            answer = await viewer.query("campaigns.listAvailable", **given)
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            cursor = answer.json()["nextCursor"]
            if cursor is None:
                break
        assert [one["title"] for one in found] == [
            "News 4", "News 3", "News 2", "News", "News 5",
        ]  # fmt: skip
        assert [one["trackedId"] for one in found] == [None, None, None, None, ours["id"]]

    async def test_titles_are_searched_whatever_the_case(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.make_campaigns(ALL_STAFF, count=3, title="Summer")
        wanted = await mailchimp.make_campaign(ALL_STAFF, title="WINTER news", subject="Summer")
        answer = (await connected.query("campaigns.listAvailable", search="winter")).json()
        assert [one["campaignId"] for one in answer["items"]] == [wanted["id"]]
        rest = await connected.query(
            "campaigns.listAvailable", search="winter", cursor=answer["nextCursor"]
        )
        assert rest.json() == {"items": [], "nextCursor": None}


class TestHistory:
    async def test_a_plot_comes_on_request(
        self, connected: Caller, mailchimp: SandboxControl, people: None
    ) -> None:
        made = await mailchimp.make_campaign(
            ALL_STAFF, status="sent", ago_seconds=HOUR, title="<b>Sales & more</b>"
        )
        body = await tracked(connected, made["id"])
        await mailchimp.advance_clock(4 * HOUR)
        await connected.mutate("campaigns.refreshStats", id=body["id"])
        for accept, kind in (
            ("image/svg+xml", "image/svg+xml"),
            ("text/html, image/svg+xml;q=0.9, application/json;q=0.5", "image/svg+xml"),
            ("application/json, image/svg+xml", "application/json"),
            ("*/*", "application/json"),
            ("image/svg+xml;q=0", "application/json"),
        ):
            answer = await connected.http.get(
                "/mailchimp/campaigns/history", params={"id": body["id"]},
                headers={"Accept": accept},
            )  # fmt: skip
            assert answer.headers["content-type"].partition(";")[0] == kind, accept
            if kind == "image/svg+xml":
                root = ET.fromstring(answer.text)
                assert "Sales & more" in "".join(root.itertext())
                assert len(root.findall("{*}polyline")) == 2

    async def test_pages(self, connected: Caller, mailchimp: SandboxControl, people: None) -> None:
        made = await mailchimp.make_campaign(ALL_STAFF, status="sent", ago_seconds=HOUR)
        body = await tracked(connected, made["id"])
        for _ in range(2):
            await mailchimp.advance_clock(2 * HOUR)
            await connected.mutate("campaigns.refreshStats", id=body["id"])
        first = (await connected.query("campaigns.history", id=body["id"], limit=2)).json()
        rest = await connected.query(
            "campaigns.history", id=body["id"], limit=2, cursor=first["nextCursor"]
        )
        opens = [one["uniqueOpens"] for one in first["items"] + rest.json()["items"]]
        assert len(opens) == 3
        assert opens == sorted(opens)

    async def test_of_an_unknown_campaign_there_is_none(self, connected: Caller) -> None:
        answer = await connected.query("campaigns.history", id=str(uuid4()))
        assert answer.status_code == 404


class TestAutoTracking:
    async def test_it_is_a_switch_of_the_connection(
        self, connected: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        on = (await connected.mutate("campaigns.setAutoTracking", enabled=True)).json()
        assert on["enabled"] is True
        assert on["since"].endswith("Z")
        assert (await connected.mutate("campaigns.setAutoTracking", enabled=True)).json() == on
        assert (await connected.query("connection.get")).json()["trackNewCampaigns"] is True
        off = (await connected.mutate("campaigns.setAutoTracking", enabled=False)).json()
        assert off == {"enabled": False, "since": None}
        actions = await audit_actions(onlooker, organisation)
        assert actions[1:] == ["campaigns.set_auto_tracking"] * 3
