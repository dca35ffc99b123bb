"""The account behind an API key (MC 1.1)."""

from mcsync.mailchimp.types.base import Ident, MailchimpModel, Text, Timestamp


class Account(MailchimpModel):
    """Answer of `GET /`. Bind a stored connection to `account_id` to notice a swapped key."""

    account_id: Ident
    account_name: Text = ""
    login_id: Text = ""
    email: Text = ""
    username: Text = ""
    role: Text = ""
    pricing_plan_type: Text = ""
    account_timezone: Text = ""
    member_since: Timestamp = None
    last_login: Timestamp = None
    total_subscribers: int = 0
