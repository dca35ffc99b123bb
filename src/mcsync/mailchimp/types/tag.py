"""Tags, which are static segments: a tag's id is its segment's id (MC 4.7, 7)."""

from mcsync.mailchimp.types.base import UNTOLD, MailchimpModel, Rows, Text


class Tag(MailchimpModel):
    """A tag. Names compare case-insensitively and keep their first spelling (MC 4.7)."""

    id: int
    name: Text = ""


class TagsPage(MailchimpModel):
    """Answer of tag-search."""

    tags: Rows[Tag] = UNTOLD
    total_items: int = 0


class ChangedMember(MailchimpModel):
    """A member that got or lost a tag."""

    id: Text = ""
    email_address: Text = ""
    contact_id: Text = ""
    status: Text = ""


class SegmentError(MailchimpModel):
    """Addresses that a tag change did not apply to, and why."""

    email_addresses: tuple[str, ...] = ()
    error: Text = ""


class SegmentMembersResult(MailchimpModel):
    """Answer of a tag change; addresses that are no members are ignored or listed in errors."""

    members_added: tuple[ChangedMember, ...] = ()
    members_removed: tuple[ChangedMember, ...] = ()
    errors: tuple[SegmentError, ...] = ()
    total_added: int = 0
    total_removed: int = 0
    error_count: int = 0
