"""Which posts a change of a member makes, and their fields with bracketed names (MC 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model import digest, unique_email_id
from .render import MemberView
from .states import ABUSE_REASON

if TYPE_CHECKING:
    from .audience import Audience
    from .config import WebhookRules
    from .model import Member

Fields = list[tuple[str, str]]
Post = tuple[str, str, Fields]
"""Event, the address it is about, and the fields after `type` and `fired_at`."""


def posts_of(
    audience: Audience,
    member: Member,
    states: tuple[str, str],
    kind: str,
    old_email: str,
    rules: WebhookRules,
) -> list[Post]:
    """The posts for one entry of the history; none for tags, pending members and lapses."""
    before, after = states
    email = member.email
    if kind == "email":
        return [
            ("upemail", email, _upemail(audience, old_email, email)),
            ("profile", email, _member(audience, member)),
        ]
    if kind == "archived" or (after == "deleted" and rules.permanent_delete_fires):
        return [("unsubscribe", email, _left(audience, member, "delete", rules))]
    if kind == "profile" or (kind == "status" and before == after):
        return [("profile", email, _member(audience, member))]
    if kind not in ("created", "status") or before == after:
        return []
    if after == "subscribed":
        return [("subscribe", email, _member(audience, member))]
    if after == "unsubscribed" and before != "absent":
        return [("unsubscribe", email, _left(audience, member, "unsub", rules))]
    return [("cleaned", email, _cleaned(audience, email))] if after == "cleaned" else []


def _member(audience: Audience, member: Member) -> Fields:
    ident = digest(audience.lower(member.email)).hex()
    extras = member.extras
    fields: Fields = [
        ("data[id]", unique_email_id(ident)),
        ("data[list_id]", audience.id),
        ("data[email]", member.email),
        ("data[email_type]", extras.email_type),
        ("data[ip_opt]", member.ip_opt),
        ("data[ip_signup]", extras.ip_signup),
        ("data[web_id]", str(audience.web_id * 10_000_000 + member.serial)),
        ("data[merges][EMAIL]", member.email),
    ]
    for tag, value in MemberView(audience).merge_fields(member).items():
        fields += _merge(f"data[merges][{tag}]", value)
    chosen = [name.replace(",", "\\,") for name, on in extras.interests.items() if on]
    return [*fields, ("data[merges][INTERESTS]", ",".join(chosen))]


def _merge(name: str, value: Any) -> Fields:
    """An address is a group of fields, everything else a text."""
    if isinstance(value, dict):
        return [(f"{name}[{part}]", str(each)) for part, each in value.items()]
    return [(name, str(value))]


def _left(audience: Audience, member: Member, action: str, rules: WebhookRules) -> Fields:
    reason = "abuse" if action == "unsub" and member.reason == ABUSE_REASON else "manual"
    head = [] if rules.action_missing else [("data[action]", action)]
    return [*head, ("data[reason]", reason), *_member(audience, member)]


def _upemail(audience: Audience, old: str, new: str) -> Fields:
    return [
        ("data[list_id]", audience.id),
        ("data[new_id]", unique_email_id(digest(audience.lower(new)).hex())),
        ("data[new_email]", new),
        ("data[old_email]", old),
    ]


def _cleaned(audience: Audience, email: str) -> Fields:
    return [
        ("data[list_id]", audience.id),
        ("data[campaign_id]", ""),
        ("data[reason]", "hard"),
        ("data[email]", email),
    ]
