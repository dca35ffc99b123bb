"""Members: contacts in an audience (MC 4.2)."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text, Timestamp
from mcsync.mailchimp.types.tag import Tag


class MemberStatus(StrEnum):
    """The states of a member (MC 4.4). Models keep plain text, for states yet to come."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    CLEANED = "cleaned"
    PENDING = "pending"
    TRANSACTIONAL = "transactional"
    ARCHIVED = "archived"


ADMIN_REASONS: Final = ("n/a (unsubscribed by admin)", "n/a (unsubscribed by an admin)")
"""The reasons, in lower case, that an unsubscribe by staff or by a program gets (MC 21). No other text is one."""


def is_admin_reason(reason: str) -> bool:
    """Whether an `unsubscribe_reason` is staff's or a program's, whatever its case and blanks."""
    return " ".join(reason.lower().split()) in ADMIN_REASONS


class MarketingPermission(MailchimpModel):
    """One consent text of an audience with GDPR fields (MC 16)."""

    marketing_permission_id: Ident
    text: Text = ""
    enabled: bool = False


class Member(MailchimpModel):
    """A member as single calls and lists show it.

    Everything has a default, since some fields only may be asked for. In a list of members, one without
    address or status is left out as unreadable: neither is ever made up.
    """

    id: Text = ""
    email_address: Text = ""
    contact_id: Text = ""
    unique_email_id: Text = ""
    web_id: int | None = None
    full_name: Text = ""
    status: Text = ""
    unsubscribe_reason: Text = ""
    email_type: Text = ""
    source: Text = ""
    language: Text = ""
    vip: bool = False
    ip_signup: Text = ""
    ip_opt: Text = ""
    timestamp_signup: Timestamp = None
    timestamp_opt: Timestamp = None
    last_changed: Timestamp = None
    merge_fields: dict[str, object] = Field(default_factory=dict)
    interests: dict[str, bool] = Field(default_factory=dict)
    marketing_permissions: tuple[MarketingPermission, ...] = ()
    tags_count: int = 0
    tags: tuple[Tag, ...] = ()
    list_id: Text = ""

    @property
    def identified(self) -> bool:
        """Whether it says who it is and whether they may be mailed; nothing follows from one that does not."""
        return bool(self.email_address and self.status)


class MembersPage(MailchimpModel):
    """One page of members; `total_items` counts all that match, None where that was not told."""

    members: Rows[Member] = UNTOLD
    total_items: int | None = None


class MemberPermissions(MailchimpModel):
    """The consent texts that one member shows, and nothing else of it."""

    marketing_permissions: tuple[MarketingPermission, ...] = ()


class PermissionsPage(MailchimpModel):
    """One page of members of whom only the consent texts were asked for."""

    members: Rows[MemberPermissions] = UNTOLD
