"""Signatures and events of the Transactional API (MC 17.4)."""

import orjson
import pytest

from mcsync.mailchimp.transactional import (
    MessageEvent,
    SyncEvent,
    UnreadableEventsError,
    mandrill_signature,
    parse_events,
    verify_mandrill_signature,
)

URL = "https://example.com/hook"
PARAMS = {"mandrill_events": '[{"event":"send"}]'}
SIGNED = "R5dbHumZEeR2aQpyoT90DD4hIds="
BOUNCE = {
    "ts": 1767225600,
    "event": "hard_bounce",
    "_id": "m1",
    "msg": {
        "_id": "m1",
        "ts": 1767225500,
        "email": "a@x.org",
        "state": "bounced",
        "metadata": {"mcsync_id": "abc"},
        "tags": ["t"],
        "smtp_events": [{"ts": 1767225599, "type": "bounced", "diag": "550 a@x.org"}],
        "opens": [],
    },
}


class TestSignature:
    def test_the_published_vector(self) -> None:
        assert mandrill_signature("key", URL, PARAMS) == SIGNED
        assert verify_mandrill_signature("key", URL, PARAMS, SIGNED)

    def test_parameters_are_sorted_by_name(self) -> None:
        one = mandrill_signature("key", URL, {"b": "2", "a": "1"})
        assert one == mandrill_signature("key", URL, {"a": "1", "b": "2"})
        assert one == mandrill_signature("key", URL + "a1b2", {})

    @pytest.mark.parametrize(
        ("key", "url", "params", "header"),
        [
            ("key", URL + "/", PARAMS, SIGNED),
            ("other", URL, PARAMS, SIGNED),
            ("key", URL, {"mandrill_events": "[]"}, SIGNED),
            ("key", URL, PARAMS, ""),
            ("key", URL, PARAMS, None),
            ("key", URL, PARAMS, "\u00fc"),
            ("", URL, PARAMS, mandrill_signature("", URL, PARAMS)),
        ],
    )
    def test_anything_else_is_not_genuine(
        self, key: str, url: str, params: dict[str, str], header: str | None
    ) -> None:
        assert not verify_mandrill_signature(key, url, params, header)


class TestEvents:
    def test_a_message_event(self) -> None:
        [event] = parse_events(orjson.dumps([BOUNCE])).events
        assert isinstance(event, MessageEvent)
        assert (event.event, event.id, event.msg.state) == ("hard_bounce", "m1", "bounced")
        assert event.msg.metadata == {"mcsync_id": "abc"}
        assert event.msg.smtp_events[0].type == "bounced"
        assert "a@x.org" not in repr(event)

    def test_a_sync_event(self) -> None:
        entry = {"type": "blacklist", "action": "add", "reject": {"email": "a@x.org"}, "ts": 1}
        [event] = parse_events(orjson.dumps([entry])).events
        assert isinstance(event, SyncEvent)
        assert event.reject is not None
        assert (event.action, event.reject.email) == ("add", "a@x.org")

    def test_unknown_kinds_are_kept_and_unreadable_ones_counted(self) -> None:
        entries = [{"event": "teleport"}, {"event": 7}, "nonsense", {}, {"event": "send", "msg": 1}]
        found = parse_events(orjson.dumps(entries).decode())
        kinds = [each.event for each in found.events if isinstance(each, MessageEvent)]
        assert (kinds, found.unreadable) == (["teleport", "send"], 3)

    def test_the_first_delivery_is_empty(self) -> None:
        assert parse_events("[]").events == ()

    @pytest.mark.parametrize(
        "text", ["", "{}", "nonsense", "[" * 5000, orjson.dumps([{}] * 1001).decode()]
    )
    def test_what_is_no_list_of_events_is_refused(self, text: str) -> None:
        with pytest.raises(UnreadableEventsError):
            parse_events(text)

    def test_length_is_bounded(self) -> None:
        with pytest.raises(UnreadableEventsError, match="too long"):
            parse_events(b"[" + b" " * 100, max_bytes=50)
