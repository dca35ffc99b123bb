"""Reading the posts of webhooks, honest and hostile ones."""

import contextlib
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsync.mailchimp import (
    MAX_WEBHOOK_BYTES,
    CampaignEvent,
    CleanedEvent,
    MalformedWebhook,
    ProfileEvent,
    SubscribeEvent,
    UnsubscribeEvent,
    UpemailEvent,
    WebhookEvent,
    parse_webhook,
)
from mcsync.mailchimp.webhooks import split_interests

FIRED = "2009-03-26 21:35:57"
AT = datetime(2009, 3, 26, 21, 35, 57, tzinfo=UTC)
MEMBER = {
    "data[id]": "8a25ff1d98",
    "data[list_id]": "a6b5da1054",
    "data[email]": "api@mailchimp.com",
    "data[email_type]": "html",
    "data[merges][EMAIL]": "api@mailchimp.com",
    "data[merges][FNAME]": "Mail & Chimp",
    "data[merges][INTERESTS]": "Group1,Group2",
    "data[merges][GROUPINGS][0][id]": "1",
    "data[merges][GROUPINGS][0][name]": "First",
    "data[ip_opt]": "10.20.10.30",
    "data[ip_signup]": "10.20.10.31",
}


def post(kind: str, fields: dict[str, str], fired_at: str = FIRED) -> bytes:
    return urlencode({"type": kind, "fired_at": fired_at, **fields}).encode()


class TestTypes:
    def test_subscribe(self) -> None:
        event = parse_webhook(post("subscribe", MEMBER))
        assert event == SubscribeEvent(
            type="subscribe",
            fired_at=AT,
            list_id="a6b5da1054",
            email="api@mailchimp.com",
            id="8a25ff1d98",
            email_type="html",
            ip_opt="10.20.10.30",
            ip_signup="10.20.10.31",
            merges={
                "EMAIL": "api@mailchimp.com",
                "FNAME": "Mail & Chimp",
                "INTERESTS": "Group1,Group2",
                "GROUPINGS": {"0": {"id": "1", "name": "First"}},
            },
        )

    def test_unsubscribe(self) -> None:
        more = {"data[action]": "unsub", "data[reason]": "abuse", "data[campaign_id]": "4fjk2ma9xd"}
        event = parse_webhook(post("unsubscribe", MEMBER | more))
        assert isinstance(event, UnsubscribeEvent)
        assert (event.action, event.reason, event.campaign_id) == ("unsub", "abuse", "4fjk2ma9xd")

    def test_an_unsubscribe_may_lack_action_and_reason(self) -> None:
        event = parse_webhook(post("unsubscribe", MEMBER))
        assert isinstance(event, UnsubscribeEvent)
        assert (event.action, event.reason, event.email) == ("", "", "api@mailchimp.com")

    def test_profile(self) -> None:
        event = parse_webhook(post("profile", MEMBER))
        assert isinstance(event, ProfileEvent)
        assert event.merges["FNAME"] == "Mail & Chimp"

    def test_cleaned(self) -> None:
        fields = {
            "data[list_id]": "a6b5da1054",
            "data[campaign_id]": "4fjk2ma9xd",
            "data[reason]": "hard",
            "data[email]": "api+1@mailchimp.com",
        }
        assert parse_webhook(post("cleaned", fields)) == CleanedEvent(
            type="cleaned",
            fired_at=AT,
            list_id="a6b5da1054",
            email="api+1@mailchimp.com",
            reason="hard",
            campaign_id="4fjk2ma9xd",
        )

    def test_upemail(self) -> None:
        fields = {
            "data[list_id]": "a6b5da1054",
            "data[new_id]": "51da8c3259",
            "data[new_email]": "new@mailchimp.com",
            "data[old_email]": "old@mailchimp.com",
        }
        event = parse_webhook(post("upemail", fields))
        assert isinstance(event, UpemailEvent)
        assert (event.old_email, event.new_email) == ("old@mailchimp.com", "new@mailchimp.com")
        assert event.identity[2:] == (
            *("a6b5da1054", "51da8c3259"),
            *("old@mailchimp.com", "new@mailchimp.com"),
        )

    def test_campaign(self) -> None:
        fields = {
            "data[id]": "5aa2102003",
            "data[subject]": "Test",
            "data[status]": "sent",
            "data[reason]": "",
            "data[list_id]": "a6b5da1054",
        }
        event = parse_webhook(post("campaign", fields))
        assert isinstance(event, CampaignEvent)
        assert (event.id, event.status) == ("5aa2102003", "sent")

    def test_an_unknown_type_is_let_through(self) -> None:
        event = parse_webhook(post("sms_subscribe", {"data[list_id]": "a6b5da1054"}))
        assert event == WebhookEvent(type="sms_subscribe", fired_at=AT, list_id="a6b5da1054")

    def test_unknown_fields_are_let_through(self) -> None:
        more = {"data[web_id]": "3375995", "data[merges][X][]": "1", "extra": "y"}
        assert parse_webhook(post("subscribe", MEMBER | more)).list_id == "a6b5da1054"


class TestLeniency:
    def test_the_address_may_be_among_the_merges_only(self) -> None:
        fields = {name: value for name, value in MEMBER.items() if name != "data[email]"}
        event = parse_webhook(post("profile", fields))
        assert isinstance(event, ProfileEvent)
        assert event.email == "api@mailchimp.com"

    @pytest.mark.parametrize("fired_at", ["", "yesterday", "2009-13-26 21:35:57"])
    def test_a_time_nobody_can_read_is_none(self, fired_at: str) -> None:
        assert parse_webhook(post("profile", MEMBER, fired_at)).fired_at is None

    def test_letters_outside_ascii(self) -> None:
        event = parse_webhook(post("profile", MEMBER | {"data[merges][FNAME]": "Zoë"}))
        assert isinstance(event, ProfileEvent)
        assert event.merges["FNAME"] == "Zoë"

    def test_brackets_need_not_be_encoded(self) -> None:
        raw = b"type=cleaned&data[list_id]=a&data[email]=a@x.org"
        assert isinstance(parse_webhook(raw), CleanedEvent)


class TestAsRecorded:
    """What real posts of 2016 and 2017 looked like (MC 21)."""

    def test_an_unsubscribe_may_lack_action_and_audience(self) -> None:
        event = parse_webhook(post("unsubscribe", without("data[list_id]")))
        assert isinstance(event, UnsubscribeEvent)
        assert (event.list_id, event.action, event.email) == ("", "", "api@mailchimp.com")

    @pytest.mark.parametrize("kind", ["subscribe", "profile", "cleaned", "campaign"])
    def test_so_may_every_other(self, kind: str) -> None:
        assert parse_webhook(post(kind, without("data[list_id]"))).list_id == ""

    def test_a_profile_may_lack_ip_opt_and_a_grouping_its_unique_id(self) -> None:
        event = parse_webhook(post("profile", without("data[ip_opt]")))
        assert isinstance(event, ProfileEvent)
        assert (event.ip_opt, event.ip_signup) == ("", "10.20.10.31")
        assert event.merges["GROUPINGS"] == {"0": {"id": "1", "name": "First"}}

    def test_a_campaign_that_was_sent_has_an_empty_reason(self) -> None:
        fields = {"data[id]": "5aa2102003", "data[status]": "sent", "data[reason]": ""}
        event = parse_webhook(post("campaign", fields))
        assert isinstance(event, CampaignEvent)
        assert (event.status, event.reason) == ("sent", "")

    @pytest.mark.parametrize(
        ("listed", "names"),
        [
            ("Group1, Group2", ("Group1", "Group2")),
            ("Group1,Group2", ("Group1", "Group2")),
            ("Food\\, wine, Cars", ("Food, wine", "Cars")),
            ("a\\b, c\\\\, d\\", ("a\\b", "c\\", "d\\")),
            ("", ()),
            (" , ", ()),
        ],
    )
    def test_interests_are_split_by_comma_and_blank(
        self, listed: str, names: tuple[str, ...]
    ) -> None:
        event = parse_webhook(post("profile", MEMBER | {"data[merges][INTERESTS]": listed}))
        assert isinstance(event, ProfileEvent)
        assert event.interests == names

    @given(
        st.lists(st.text("ab,\\ ", min_size=1).filter(lambda t: t == t.strip() != ""), max_size=5)
    )
    def test_every_name_survives_the_way(self, names: list[str]) -> None:
        listed = ", ".join(n.replace("\\", "\\\\").replace(",", "\\,") for n in names)
        assert split_interests(listed) == tuple(names)


class TestIdentity:
    def test_a_repetition_has_the_same(self) -> None:
        first, again = (parse_webhook(post("profile", MEMBER)) for _ in range(2))
        assert first.identity == again.identity

    @pytest.mark.parametrize(
        ("kind", "fields", "fired_at"),
        [
            ("subscribe", MEMBER, FIRED),
            ("profile", MEMBER | {"data[list_id]": "other"}, FIRED),
            ("profile", MEMBER | {"data[email]": "b@x.org"}, FIRED),
            ("profile", MEMBER | {"data[id]": "0000000000"}, FIRED),
            ("profile", MEMBER, "2009-03-26 21:35:58"),
        ],
    )
    def test_another_event_has_another(
        self, kind: str, fields: dict[str, str], fired_at: str
    ) -> None:
        one = parse_webhook(post("profile", MEMBER))
        assert one.identity != parse_webhook(post(kind, fields, fired_at)).identity

    def test_the_text_of_an_event_shows_nobody(self) -> None:
        text = repr(parse_webhook(post("unsubscribe", MEMBER)))
        assert "mailchimp.com" not in text
        assert "Chimp" not in text
        assert "10.20" not in text


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in MEMBER.items() if name not in names}


class TestMalformed:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"hello",
            b"\xff\xfe",
            b'{"type": "subscribe"}',
            b"data[list_id]=a",
            b"type=subscribe&data=text",
            b"type=%ff&data[list_id]=a",
            b"type=subscribe&data[list_id]=a%00&data[email]=a@x.org",
            b"type[]=subscribe&data[list_id]=a&data[email]=a@x.org",
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org&data[email][x]=1",
            b"type=cleaned&data[list_id]=a&data[email][x]=1&data[email]=a@x.org",
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org&data[merges=1",
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org&" + b"x[a]" * 200 + b"=1",
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org&x" + b"[a]" * 50 + b"=1",
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org" + b"&x=1" * 1000,
            b"type=cleaned&data[list_id]=a&data[email]=" + b"a" * 320 + b"@x.org",
            b"type=" + b"x" * 65,
            b"type=cleaned&data[list_id]=a&data[email]=a@x.org&x=" + b"x" * MAX_WEBHOOK_BYTES,
            post("subscribe", without("data[list_id]") | {"data[list_id][x]": "a6b5da1054"}),
            post("subscribe", without("data[email]", "data[merges][EMAIL]")),
            post("upemail", {"data[list_id]": "a", "data[new_email]": "a@x.org"}),
            post("cleaned", {"data[list_id]": "a", "data[email]": "nobody"}),
        ],
    )
    def test_it_is_refused(self, raw: bytes) -> None:
        with pytest.raises(MalformedWebhook) as raised:
            parse_webhook(raw)
        assert "x.org" not in str(raised.value)
        assert raised.value.__cause__ is None

    @given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
    def test_nothing_else_is_ever_raised(self, raw: bytes) -> None:
        for body in (raw, b"type=profile&data[list_id]=a&" + raw):
            with contextlib.suppress(MalformedWebhook):
                assert isinstance(parse_webhook(body), WebhookEvent)
