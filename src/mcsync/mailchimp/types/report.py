"""What became of a campaign that was sent (MC 12). All rates are fractions 0-1."""

from pydantic import ConfigDict, Field

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text, Timestamp


class Opens(MailchimpModel):
    """Opens; the `proxy_excluded` ones leave out what Apple's Mail Privacy Protection fetched.

    Those are None where Mailchimp does not tell.
    """

    model_config = ConfigDict(populate_by_name=True)

    total: int = Field(default=0, alias="opens_total")
    unique: int = Field(default=0, alias="unique_opens")
    rate: float = Field(default=0.0, alias="open_rate")
    last_open: Timestamp = None
    proxy_excluded_opens: int | None = None
    proxy_excluded_unique_opens: int | None = None
    proxy_excluded_open_rate: float | None = None


class Clicks(MailchimpModel):
    """Clicks. `unique_subscribers` counts people, `unique` counts people per link."""

    model_config = ConfigDict(populate_by_name=True)

    total: int = Field(default=0, alias="clicks_total")
    unique: int = Field(default=0, alias="unique_clicks")
    unique_subscribers: int = Field(default=0, alias="unique_subscriber_clicks")
    rate: float = Field(default=0.0, alias="click_rate")
    last_click: Timestamp = None


class Bounces(MailchimpModel):
    """Bounces by kind."""

    model_config = ConfigDict(populate_by_name=True)

    hard: int = Field(default=0, alias="hard_bounces")
    soft: int = Field(default=0, alias="soft_bounces")
    syntax: int = Field(default=0, alias="syntax_errors")


class Report(MailchimpModel):
    """The report of one campaign. `id` is the campaign's."""

    id: Ident
    campaign_title: Text = ""
    type: Text = ""
    list_id: Text = ""
    list_name: Text = ""
    subject_line: Text = ""
    emails_sent: int = 0
    abuse_reports: int = 0
    unsubscribed: int = 0
    send_time: Timestamp = None
    opens: Opens = Opens()
    clicks: Clicks = Clicks()
    bounces: Bounces = Bounces()


class ReportsPage(MailchimpModel):
    """One page of reports; `total_items` counts all that match, not this page."""

    reports: Rows[Report] = UNTOLD
    total_items: int = 0
