"""What a form's optional values do: told at the post where that can be known, left out otherwise."""

# ruff: noqa: F811 - fixtures that are imported by their names

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from mcsync.cli.checks.tenants import Asked
from mcsync.cli.doctor import examine
from mcsync.core.resources import Resources
from tests.features.connection.bench import Caller
from tests.features.subscribers.test_forms import (  # noqa: F401 - fixtures
    form,
    known_audiences,
    more_settings,
    requests,
    work,
)
from tests.features.subscribers.test_subscribers import ADA, ok, refused, suppress, who
from tests.support.logs import captured_logs
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SandboxControl

FIELDS = [
    {"tag": "BDAY", "name": "Birthday", "type": "birthday"},
    {"tag": "CALL", "name": "Phone", "type": "phone"},
    {"tag": "SIZE", "name": "Size", "type": "dropdown", "choices": ["Small", "Large"]},
    {"tag": "SINCE", "name": "Since", "type": "date"},
    {"tag": "SITE", "name": "Site", "type": "url"},
    {"tag": "COUNT", "name": "Count", "type": "number"},
    {"tag": "HOME", "name": "Home", "type": "address"},
]


@pytest.fixture
async def fields(connected: Caller, form: Caller) -> None:
    """The audience has fields of many types, and the mirror knows of them."""
    answer = await connected.mutate(
        "audiences.createMergeFields", audienceId=ALL_STAFF, fields=FIELDS
    )
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def unread(fields: None, onlooker: asyncpg.Connection) -> None:
    """The mirror does not know them, as before anybody looked."""
    await onlooker.execute("update audiences set merge_fields = '[]', merge_fields_at = null")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_logs() as stream:
        yield stream


async def merge_fields(mailchimp: SandboxControl, email: str = ADA) -> dict[str, Any]:
    member = await mailchimp.member(ALL_STAFF, email)
    assert member is not None
    assert member["status"] == "pending"
    return member["mergeFields"]


@pytest.mark.usefixtures("fields")
class TestAtThePost:
    @pytest.mark.parametrize(
        ("given", "code"),
        [
            ({"BDAY": "31/12"}, "not_a_birthday"),
            ({"BDAY": "02/30"}, "not_a_birthday"),
            ({"SIZE": "Medium"}, "unknown_choice"),
            ({"SINCE": "2026-02-30"}, "not_a_date"),
            ({"SITE": "example"}, "not_a_url"),
            ({"COUNT": "many"}, "not_a_number"),
            ({"HOME": {"addr1": "Rua 1"}}, "incomplete_address"),
            ({"HOME": "Rua 1, Porto"}, "incomplete_address"),
            ({"FNAME": "a" * 300}, "too_long"),
            ({"fname": "Ada", "bday": "31/12"}, "not_a_birthday"),
        ],
    )
    async def test_a_value_that_the_field_does_not_take_is_told_whoever_it_is(
        self, form: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection,
        given: dict[str, Any], code: str,
    ) -> None:  # fmt: skip
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        answers = set()
        for email in (ADA, "stranger@people.example"):
            body = await refused(
                form, "subscribe", 400, "invalid_merge_fields", **who(email, mergeFields=given)
            )
            answers.add((str(body["errors"]), body["detail"]))
            assert [one["code"] for one in body["errors"]] == [code]
        assert len(answers) == 1
        assert await requests(onlooker) == []

    async def test_a_value_is_sent_as_mailchimp_spells_it(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        """What a date field of HTML and a choice in another case give."""
        given = {"bday": "1815-12-10", "Size": " LARGE ", "since": "2026-02-28", "COUNT": 3}
        await ok(form, "subscribe", **who(mergeFields=given))
        await work(resources, organisation, onlooker)
        stored = await merge_fields(mailchimp)
        assert (stored["BDAY"], stored["SIZE"], stored["COUNT"]) == ("12/10", "Large", 3)
        assert await requests(onlooker) == [("asked", None)]

    async def test_a_choice_that_is_new_at_mailchimp_is_taken(
        self, form: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        """An old mirror is read once more before it refuses anybody; wrong posts do not repeat that."""
        await onlooker.execute(
            """update audiences set merge_fields_at = now() - interval '1 hour', merge_fields =
               replace(merge_fields::text, 'Large', 'Huge')::jsonb"""
        )
        seq = await mailchimp.seq()
        await ok(form, "subscribe", **who(mergeFields={"SIZE": "Large"}))
        assert len(await mailchimp.calls(since=seq)) > 0
        await onlooker.execute("update audiences set merge_fields_at = now() - interval '1 hour'")
        seq = await mailchimp.seq()
        await refused(
            form, "subscribe", 400, "invalid_merge_fields", **who(mergeFields={"SIZE": "None"})
        )
        assert await mailchimp.calls(since=seq) == []


@pytest.mark.usefixtures("unread")
class TestWhatOnlyMailchimpRefuses:
    @pytest.mark.parametrize(
        "given", [{"BDAY": "31/12"}, {"SIZE": "Medium"}, {"HOME": {"addr1": "1"}}]
    )
    async def test_the_person_is_asked_without_it(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection, viewer: Caller, given: dict[str, Any],
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who(mergeFields=given | {"FNAME": "Ada"}, language="de"))
        await work(resources, organisation, onlooker)
        stored = await merge_fields(mailchimp)
        assert not stored["FNAME"]
        assert await requests(onlooker) == [("asked", "values_refused")]
        listed = (await viewer.query("subscribers.listRequests")).json()["items"]
        assert [(one["status"], one["code"]) for one in listed] == [("asked", "values_refused")]
        # what Mailchimp has was read on the way, so the next such post is told at once
        await refused(form, "subscribe", 400, "invalid_merge_fields",
                      **who("bo@unce.example", mergeFields=given))  # fmt: skip

    async def test_what_the_audience_requires_stays(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection, connected: Caller,
    ) -> None:  # fmt: skip
        await connected.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF,
            fields=[{"tag": "CITY", "name": "City", "type": "text", "required": True}],
        )  # fmt: skip
        await onlooker.execute("update audiences set merge_fields = '[]', merge_fields_at = null")
        await ok(form, "subscribe", **who(mergeFields={"CITY": "Porto", "BDAY": "31/12"}))
        await ok(form, "subscribe", **who("bo@unce.example", mergeFields={"BDAY": "31/12"}))
        await work(resources, organisation, onlooker)
        assert (await merge_fields(mailchimp))["CITY"] == "Porto"
        assert await requests(onlooker) == [
            ("asked", "values_refused"), ("refused", "required_fields_missing"),
        ]  # fmt: skip

    async def test_a_refusal_that_was_not_heard_loses_nothing(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who(mergeFields={"BDAY": "31/12"}))
        await mailchimp.fault("504_after", method="POST", path="/members", times=1)
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("queued", None)]
        await onlooker.execute("update subscription_requests set next_attempt_at = now()")
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("asked", "values_refused")]
        assert await onlooker.fetchval("select email from subscription_requests") is None


class TestLanguage:
    async def test_an_unknown_one_is_left_out_and_noted(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await ok(form, "subscribe", **who(language="de-AT"))
        await ok(form, "subscribe", **who("bo@unce.example", language="Klingon"))
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("asked", None), ("asked", "language_unknown")]
        known = [await mailchimp.member(ALL_STAFF, one) for one in (ADA, "bo@unce.example")]
        assert [one["language"] for one in known if one] == ["de", ""]


class TestListRequests:
    async def test_needs_the_right_to_read(self, anyone: Caller, form: Caller) -> None:
        assert (await anyone.query("subscribers.listRequests")).status_code == 401
        assert (await form.query("subscribers.listRequests")).status_code == 403

    async def test_another_organisation_sees_nothing(
        self,
        form: Caller,
        stranger: Caller,
    ) -> None:
        await ok(form, "subscribe", **who())
        assert (await stranger.query("subscribers.listRequests")).json() == {
            "items": [], "nextCursor": None, "counts": {},
        }  # fmt: skip

    async def test_what_ended_refused_is_logged_counted_and_listed_without_its_address(
        self, form: Caller, viewer: Caller, connected: Caller, resources: Resources,
        organisation: Org, mailchimp: SandboxControl, onlooker: asyncpg.Connection, log: io.StringIO,
    ) -> None:  # fmt: skip
        gone = "bounced@people.example"
        await mailchimp.person(ALL_STAFF, gone, "subscribe_form")
        await mailchimp.person(ALL_STAFF, gone, "bounce")
        await suppress(resources, organisation, "erased@people.example")
        for email in (gone, "erased@people.example", ADA):
            await ok(form, "subscribe", **who(email, source="footer"))
        waiting = (await viewer.query("subscribers.listRequests", status="queued")).json()
        assert [one["email"] for one in waiting["items"]] == [ADA, "erased@people.example", gone]
        await work(resources, organisation, onlooker)
        listed = (await viewer.query("subscribers.listRequests")).json()
        assert [(one["status"], one["code"], one["email"]) for one in listed["items"]] == [
            ("asked", None, None), ("dropped", "suppressed", None), ("refused", "cleaned", None),
        ]  # fmt: skip
        assert listed["counts"] == {"asked": 1, "dropped": 1, "refused": 1}
        assert all(one["message"].endswith(".") for one in listed["items"])
        assert {one["via"] for one in listed["items"]} == {"form"}
        refused_ones = (await viewer.query("subscribers.listRequests", status="refused")).json()
        assert [one["code"] for one in refused_ones["items"]] == ["cleaned"]
        assert log.getvalue().count("form_post_not_taken") == 2
        assert gone not in log.getvalue()
        told = await examine(resources.settings, Asked(offline=True))
        (found,) = [one for one in told if one.check.startswith("forms of ")]
        assert found.detail.startswith("2 of 3 requests")

    async def test_comes_in_pages_newest_first(
        self,
        form: Caller,
        viewer: Caller,
        onlooker: asyncpg.Connection,
    ) -> None:
        for number in range(5):
            await ok(form, "subscribe", **who(f"p{number}@people.example"))
        # two at the same moment, and one older than is counted
        now = datetime.now(UTC)
        for number, at in enumerate((now, now, now - timedelta(days=31))):
            await onlooker.execute(
                "update subscription_requests set requested_at = $1 where email = $2",
                at, f"p{number}@people.example",
            )  # fmt: skip
        seen: list[str] = []
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = (await viewer.query("subscribers.listRequests", limit=2, **more)).json()
            seen += [one["email"] for one in page["items"]]
            assert page["counts"] == {"queued": 4}
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert len(seen) == 5
        assert len(set(seen)) == 5
        assert seen[-1] == "p2@people.example"
        elsewhere = await viewer.query("subscribers.listRequests", audienceId="0000000000")
        assert elsewhere.json()["items"] == []
        bad = await viewer.query("subscribers.listRequests", cursor="x")
        assert (bad.status_code, bad.json()["code"]) == (400, "invalid_cursor")

    async def test_shows_what_operators_asked_for(self, connected: Caller, viewer: Caller) -> None:
        await ok(connected, "subscribe", **who())
        listed = (await viewer.query("subscribers.listRequests")).json()["items"]
        assert [(one["via"], one["status"], one["email"]) for one in listed] == [
            ("api", "asked", None)
        ]
