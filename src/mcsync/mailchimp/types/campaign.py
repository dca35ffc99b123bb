"""Campaigns (MC 11)."""

from pydantic import AliasChoices, AliasPath, ConfigDict, Field

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text, Timestamp


class CampaignSummary(MailchimpModel):
    """Opens and clicks as a list of campaigns shows them. Rates are fractions 0-1 (MC 12)."""

    opens: int = 0
    unique_opens: int = 0
    open_rate: float = 0.0
    clicks: int = 0
    subscriber_clicks: int = 0
    click_rate: float = 0.0


class Campaign(MailchimpModel):
    """One campaign, flattened: `title`, `subject` and the audience lie deeper in the answer.

    `status` is Mailchimp's own word: save, paused, schedule, sending, sent, canceled,
    canceling, archived. `send_time` is when it was or is going to be sent. Of a campaign
    that tests several subjects, `subject` is the first. `report_summary` is None until there
    is something to report.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: Ident
    web_id: int | None = None
    type: Text = ""
    status: Text = ""
    title: Text = Field(
        default="", validation_alias=AliasChoices("title", AliasPath("settings", "title"))
    )
    subject: Text = Field(
        default="",
        validation_alias=AliasChoices(
            "subject",
            AliasPath("settings", "subject_line"),
            AliasPath("variate_settings", "subject_lines", 0),
        ),
    )
    list_id: Text = Field(
        default="", validation_alias=AliasChoices("list_id", AliasPath("recipients", "list_id"))
    )
    create_time: Timestamp = None
    send_time: Timestamp = None
    emails_sent: int = 0
    report_summary: CampaignSummary | None = None


class CampaignsPage(MailchimpModel):
    """One page of campaigns; `total_items` counts all that match, not this page."""

    campaigns: Rows[Campaign] = UNTOLD
    total_items: int = 0


class FoundCampaign(MailchimpModel):
    """One hit of a search."""

    campaign: Campaign
    snippet: Text = ""


class FoundCampaigns(MailchimpModel):
    """Answer of `GET /search-campaigns`; it has no pages."""

    results: Rows[FoundCampaign] = UNTOLD
    total_items: int = 0
