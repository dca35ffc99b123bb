"""The objects of the Marketing API as JSON (MC 3.1, 4.2, 5, 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .clock import iso
from .model import NO_EXTRAS, Extras, MergeField, Segment, digest, unique_email_id
from .states import (
    ARCHIVED,
    CLEANED,
    NOT_ARCHIVED,
    PENDING,
    STATUSES,
    SUBSCRIBED,
    TRANSACTIONAL,
    UNSUBSCRIBED,
)

if TYPE_CHECKING:
    from .audience import Audience
    from .config import SandboxConfig
    from .model import Member
    from .world import Account

Json = dict[str, Any]

_SCHEMA = "https://us1.api.mailchimp.com/schema/3.0/Definitions"
_TAGS_SHOWN = 50


def links(*entries: tuple[str, str, str]) -> list[Json]:
    """`_links`: rel, href and method, with the schema of the target (MC 2)."""
    return [
        {
            "rel": rel,
            "href": f"https://us1.api.mailchimp.com/3.0{path}",
            "method": method,
            "targetSchema": f"{_SCHEMA}/{rel}.json",
        }
        for rel, path, method in entries
    ]


# Rendered ahead: building the links of each member would be half of the cost of a page.
_SELF_LINK = orjson.dumps(links(("self", "%s", "GET"))).decode()
_MEMBER_LINKS = orjson.dumps(links(("self", "%s", "GET"), ("delete", "%s", "DELETE"))).decode()


class MemberView:
    """Renders members of one audience; made once per answer, so that what is common is looked up once."""

    __slots__ = (
        "_audience",
        "_columns",
        "_links",
        "_nulls",
        "_of_segment",
        "_reduced",
        "_tag_lists",
        "_tags",
        "_width",
    )

    def __init__(
        self,
        audience: Audience,
        *,
        reduced: bool = False,
        of_segment: bool = False,
        with_links: bool = True,
        nulls: bool = False,
    ) -> None:
        """`reduced`: as the bulk call shows members; `of_segment`: as segments do, which is less (MC 21).

        `nulls`: members without any value show `merge_fields` and `interests` as null (MC 21).
        """
        self._audience = audience
        self._reduced = reduced or of_segment
        self._of_segment = of_segment
        self._links = with_links
        self._nulls = nulls
        self._tags = [field.tag for field in audience.fields]
        self._columns = [field.column for field in audience.fields]
        self._width = audience.columns
        self._tag_lists: dict[tuple[Segment, ...], list[Json]] = {}

    def merge_fields(self, member: Member) -> Json:
        """Every tag of the list except EMAIL; unset ones "" (MC 4.2)."""
        values = member.merge
        if len(values) < self._width:
            values += ("",) * (self._width - len(values))
        return {tag: values[column] for tag, column in zip(self._tags, self._columns, strict=True)}

    def __call__(self, member: Member) -> Json:
        """The member; the bulk endpoint's form is reduced (MC 3.3)."""
        audience = self._audience
        lower = audience.lower(member.email)
        ident = digest(lower).hex()
        merge = self.merge_fields(member)
        extras = member.extras
        body: Json = {
            "id": ident,
            "email_address": member.email,
            "unique_email_id": unique_email_id(ident),
            "contact_id": audience.contact_id(member),
            "email_type": extras.email_type,
            "status": STATUSES[member.status],
            "merge_fields": merge,
            "stats": _NO_STATS,
            "ip_signup": extras.ip_signup,
            "timestamp_signup": iso(member.timestamp_signup),
            "ip_opt": member.ip_opt,
            "timestamp_opt": iso(member.timestamp_opt),
            "member_rating": 2,
            "last_changed": iso(member.last_changed),
            "language": extras.language,
            "vip": extras.vip,
            "email_client": "",
            "location": _NOWHERE if extras is NO_EXTRAS else _location(extras),
            "tags_count": len(member.tags),
            "tags": self._tag_list(member.tags),
            "list_id": audience.id,
        }
        if extras.interests:
            body["interests"] = extras.interests
        if self._of_segment:
            for name in _NOT_OF_SEGMENT:
                del body[name]
        if self._nulls and not any(value != "" for value in merge.values()):
            body["merge_fields"] = body["interests"] = None
        if not self._reduced:
            body |= {
                "full_name": f"{merge.get('FNAME', '')} {merge.get('LNAME', '')}".strip(),
                "web_id": audience.web_id * 10_000_000 + member.serial,
                "consents_to_one_to_one_messaging": True,
                "sms_phone_number": "",
                "sms_subscription_status": "nonsubscribed",
                "sms_subscription_last_updated": "",
                "source": member.source,
            }
            if audience.permissions:
                body["marketing_permissions"] = _permissions(audience, extras)
            if member.status == UNSUBSCRIBED:
                body["unsubscribe_reason"] = member.reason
        if self._links:
            path = f"/lists/{audience.id}/members/{ident}"
            text = _SELF_LINK % path if self._reduced else _MEMBER_LINKS % (path, path)
            body["_links"] = orjson.Fragment(text)
        return body

    def _tag_list(self, tags: tuple[Segment, ...]) -> list[Json]:
        """At most 50 are shown (MC 4.2). Most members of a page carry the same tags."""
        shown = self._tag_lists.get(tags)
        if shown is None:
            # In no order of adding (MC 21).
            ordered = sorted(tags, key=lambda tag: tag.name.lower())
            shown = [{"id": tag.id, "name": tag.name} for tag in ordered[:_TAGS_SHOWN]]
            self._tag_lists[tags] = shown
        return shown


_NOT_OF_SEGMENT = ("contact_id", "tags", "tags_count")
"""What members of a segment lack beside that which the bulk call leaves out (MC 21)."""

_NO_STATS = {"avg_open_rate": 0, "avg_click_rate": 0}


def _permissions(audience: Audience, extras: Extras) -> list[Json]:
    """Every permission that the list asks for, off until it was given (MC 16)."""
    given = extras.marketing_permissions
    return [
        {"marketing_permission_id": ident, "text": text, "enabled": given.get(ident, False)}
        for ident, text in audience.permissions.items()
    ]


def _location(extras: Extras) -> Json:
    return {
        "latitude": extras.latitude,
        "longitude": extras.longitude,
        "gmtoff": 0,
        "dstoff": 0,
        "country_code": "",
        "timezone": "",
        "region": "",
    }


_NOWHERE = _location(NO_EXTRAS)
"""Shared by all answers: nothing changes a body once it is built."""


def render_list(audience: Audience, *, total_contacts: bool) -> Json:
    """One audience; `member_count` counts subscribed only (MC 3.1). Never late here, unlike Mailchimp's."""
    settings = audience.settings
    stats: Json = {
        "member_count": audience.counts[SUBSCRIBED],
        "unsubscribe_count": audience.counts[UNSUBSCRIBED],
        "cleaned_count": audience.counts[CLEANED],
        "member_count_since_send": audience.counts[SUBSCRIBED],
        "unsubscribe_count_since_send": audience.counts[UNSUBSCRIBED],
        "cleaned_count_since_send": audience.counts[CLEANED],
        "campaign_count": 0,
        "campaign_last_sent": "",
        "merge_field_count": len(audience.fields),
        "avg_sub_rate": 0,
        "avg_unsub_rate": 0,
        "target_sub_rate": 0,
        "open_rate": 0,
        "click_rate": 0,
        "last_sub_date": iso(audience.last_sub),
        "last_unsub_date": iso(audience.last_unsub),
    }
    if total_contacts:
        stats["total_contacts"] = audience.count(NOT_ARCHIVED) + audience.counts[ARCHIVED]
    path = f"/lists/{audience.id}"
    return {
        "id": audience.id,
        "web_id": audience.web_id,
        "name": audience.name,
        "contact": _contact() | settings.get("contact", {}),
        "permission_reminder": settings.get(
            "permission_reminder", "You are on this list for work."
        ),
        "use_archive_bar": settings.get("use_archive_bar", True),
        "campaign_defaults": _campaign_defaults() | settings.get("campaign_defaults", {}),
        "notify_on_subscribe": settings.get("notify_on_subscribe", ""),
        "notify_on_unsubscribe": settings.get("notify_on_unsubscribe", ""),
        "date_created": iso(audience.created),
        "list_rating": 0,
        "email_type_option": settings.get("email_type_option", False),
        "subscribe_url_short": f"https://eepurl.com/{audience.id}",
        "subscribe_url_long": f"https://sandbox.us1.list-manage.com/subscribe?id={audience.id}",
        "beamer_address": f"us1-{audience.id}@inbound.mailchimp.com",
        "visibility": "prv",
        "double_optin": audience.double_optin,
        "has_welcome": False,
        "marketing_permissions": bool(audience.permissions),
        "modules": [],
        "stats": stats,
        "_links": links(("self", path, "GET"), ("members", f"{path}/members", "GET")),
    }


def _contact() -> Json:
    return {
        "company": "Sandbox Ltd",
        "address1": "1 High Street",
        "address2": "",
        "city": "London",
        "state": "",
        "zip": "EC1A 1AA",
        "country": "GB",
        "phone": "",
    }


def _campaign_defaults() -> Json:
    return {
        "from_name": "Sandbox",
        "from_email": "news@sandbox.test",
        "subject": "",
        "language": "en",
    }


def render_field(audience: Audience, field: MergeField) -> Json:
    path = f"/lists/{audience.id}/merge-fields/{field.merge_id}"
    return {
        "merge_id": field.merge_id,
        "tag": field.tag,
        "name": field.name,
        "type": field.type,
        "required": field.required,
        "default_value": field.default_value,
        "public": field.public,
        "display_order": field.display_order,
        "options": field.options,
        "help_text": field.help_text,
        "list_id": audience.id,
        "_links": links(("self", path, "GET")),
    }


def segment_statuses(config: SandboxConfig, flags: dict[str, bool]) -> tuple[int, ...]:
    """Who shows in a segment: active members, more by the include_* flags; never archived ones (MC 7)."""
    statuses = [SUBSCRIBED]
    if config.segment_lists_pending:
        statuses.append(PENDING)
    for name, status in (
        ("include_unsubscribed", UNSUBSCRIBED),
        ("include_cleaned", CLEANED),
        ("include_transactional", TRANSACTIONAL),
    ):
        if flags.get(name):
            statuses.append(status)
    return tuple(statuses)


def render_segment(audience: Audience, segment: Segment, statuses: tuple[int, ...]) -> Json:
    path = f"/lists/{audience.id}/segments/{segment.id}"
    body = {
        "id": segment.id,
        "name": segment.name,
        "member_count": segment.count(statuses),
        "type": "static" if segment.static else "saved",
        "created_at": iso(segment.created_at),
        "updated_at": iso(segment.updated_at),
        "list_id": audience.id,
        "_links": links(("self", path, "GET"), ("members", f"{path}/members", "GET")),
    }
    if not segment.static:
        body["options"] = segment.options  # A static one has none (MC 21).
    return body


def render_account(account: Account) -> Json:
    """GET / (MC 1.1)."""
    return {
        "account_id": account.id,
        "login_id": account.id[:8],
        "account_name": account.name,
        "email": "owner@sandbox.test",
        "first_name": "Sam",
        "last_name": "Sandbox",
        "username": "sandbox",
        "avatar_url": "",
        "role": "owner",
        "member_since": iso(account.created),
        "pricing_plan_type": "monthly",
        "first_payment": iso(account.created),
        "account_timezone": "Europe/London",
        "account_industry": "",
        "contact": {
            "company": account.name,
            "addr1": "1 High Street",
            "addr2": "",
            "city": "London",
            "state": "",
            "zip": "EC1A 1AA",
            "country": "GB",
        },
        "pro_enabled": False,
        "last_login": iso(account.created),
        "total_subscribers": sum(each.counts[SUBSCRIBED] for each in account.lists.values()),
        "industry_stats": {"open_rate": 0.2, "bounce_rate": 0.01, "click_rate": 0.02},
        "_links": links(("self", "/", "GET"), ("lists", "/lists", "GET")),
    }
