"""Audiences, which Mailchimp's API calls lists (MC 3.1)."""

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text, Timestamp


class AudienceStats(MailchimpModel):
    """Counters of an audience; Mailchimp may serve them five minutes old (MC 3.1)."""

    member_count: int = 0
    total_contacts: int | None = None
    unsubscribe_count: int = 0
    cleaned_count: int = 0
    merge_field_count: int = 0


class Audience(MailchimpModel):
    """One audience. `stats.member_count` counts subscribed members only."""

    id: Ident
    web_id: int | None = None
    name: Text = ""
    double_optin: bool = False
    marketing_permissions: bool = False
    date_created: Timestamp = None
    visibility: Text = ""
    stats: AudienceStats = AudienceStats()


class AudiencesPage(MailchimpModel):
    """One page of `GET /lists`."""

    lists: Rows[Audience] = UNTOLD
    total_items: int = 0
