"""A member as the sandbox really holds it, for assertions."""

from __future__ import annotations

from typing import Any

from ..audience import Audience
from ..clock import iso
from ..model import Member, digest
from ..render import MemberView
from ..states import ARCHIVED, STATUSES


def internal(audience: Audience, member: Member) -> dict[str, Any]:
    """Everything, also what the API never shows: who unsubscribed, the status before archiving, mails sent."""
    lower = audience.lower(member.email)
    return {
        "id": digest(lower).hex(),
        "contactId": audience.contact_id(member),
        "email": lower,
        "emailAddress": member.email,
        "status": STATUSES[member.status],
        "formerStatus": STATUSES[member.former] if member.status == ARCHIVED else None,
        "unsubscribedBy": member.unsubscribed_by.value or None,
        "unsubscribeReason": member.reason or None,
        "mergeFields": MemberView(audience).merge_fields(member),
        "tags": [tag.name for tag in member.tags],
        "source": member.source,
        "timestampSignup": iso(member.timestamp_signup),
        "timestampOpt": iso(member.timestamp_opt),
        "lastChanged": iso(member.last_changed),
        "ipSignup": member.extras.ip_signup,
        "ipOpt": member.ip_opt,
        "marketingPermissions": dict(member.extras.marketing_permissions),
        "confirmationMails": member.extras.mails,
        "language": member.extras.language,
        "vip": member.extras.vip,
    }
