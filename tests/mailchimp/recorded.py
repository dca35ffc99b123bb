"""One answer of each kind, in the shapes that were recorded of Mailchimp (MC 3, 4, 5, 7, 9-12, 17)."""

from __future__ import annotations

from typing import Any

from mcsync.mailchimp.transactional import results, webhooks
from mcsync.mailchimp.types import (
    account,
    audience,
    batch,
    campaign,
    member,
    merge_field,
    report,
    tag,
    webhook,
)
from mcsync.mailchimp.types.base import MailchimpModel

AT = "2021-10-21T15:41:36+00:00"
TS = "2021-10-21 15:41:36"

TAG = {"id": 12, "name": "VIP"}
PERMISSION = {"marketing_permission_id": "1a2b3c4d5e", "text": "Email", "enabled": False}
MEMBER = {
    "id": "2b9150605ac374d671a306b5fcee60a0", "email_address": "ada@acme.example",
    "unique_email_id": "8a25ff1d98", "contact_id": "f" * 32, "full_name": "Ada Lovelace",
    "web_id": 452346, "email_type": "html", "status": "unsubscribed",
    "unsubscribe_reason": "N/A (Unsubscribed by admin)", "source": "API - Generic",
    "merge_fields": {"FNAME": "Ada", "AGE": 36, "ADDRESS": ""}, "interests": {"abc123abc1": True},
    "ip_signup": "", "timestamp_signup": "", "ip_opt": "192.0.2.1", "timestamp_opt": AT,
    "last_changed": AT, "language": "en", "vip": False, "marketing_permissions": [PERMISSION],
    "tags_count": 1, "tags": [TAG], "list_id": "a6b5da1054",
}  # fmt: skip
AUDIENCE: dict[str, Any] = {
    "id": "a6b5da1054", "web_id": 31, "name": "People", "double_optin": True,
    "marketing_permissions": True, "date_created": AT, "visibility": "pub",
    "stats": {"member_count": 5, "total_contacts": 9, "unsubscribe_count": 3, "cleaned_count": 1,
              "merge_field_count": 4},
}  # fmt: skip
BATCH_MEMBER = {
    name: MEMBER[name]
    for name in ("id", "email_address", "contact_id", "status", "last_changed", "timestamp_opt")
} | {"timestamp_signup": "", "tags": [TAG]}
ROW_ERROR = {
    "email_address": "bob@acme.example", "error": "was permanently deleted",
    "error_code": "ERROR_GENERIC", "field": "", "field_message": "",
}  # fmt: skip
BATCH_STATUS = {
    "id": "h8h0a2b3c4", "status": "finished", "total_operations": 5, "finished_operations": 5,
    "errored_operations": 1, "submitted_at": AT, "completed_at": AT,
    "response_body_url": "https://x.test/r",
}  # fmt: skip
SUMMARY = {
    "opens": 5, "unique_opens": 3, "open_rate": 0.5, "clicks": 2, "subscriber_clicks": 1,
    "click_rate": 0.25,
}  # fmt: skip
CAMPAIGN = {
    "id": "5aa2102003", "web_id": 9, "type": "regular", "status": "sent",
    "settings": {"title": "News", "subject_line": "Hello"},
    "variate_settings": {"subject_lines": ["A", "B"]}, "recipients": {"list_id": "a6b5da1054"},
    "create_time": AT, "send_time": AT, "emails_sent": 10, "report_summary": SUMMARY,
}  # fmt: skip
FIELD: dict[str, Any] = {
    "merge_id": 4, "tag": "COLOUR", "name": "Colour", "type": "dropdown", "required": False,
    "default_value": "", "public": True, "display_order": 2, "help_text": "",
    "options": {"default_country": 164, "phone_format": "none", "date_format": "MM/DD/YYYY",
                "choices": ["red", "green"], "size": 25},
}  # fmt: skip
OPENS = {
    "opens_total": 5, "unique_opens": 3, "open_rate": 0.5, "last_open": AT,
    "proxy_excluded_opens": 4, "proxy_excluded_unique_opens": 2, "proxy_excluded_open_rate": 0.4,
}  # fmt: skip
CLICKS = {
    "clicks_total": 5, "unique_clicks": 3, "unique_subscriber_clicks": 2, "click_rate": 0.1,
    "last_click": AT,
}  # fmt: skip
BOUNCES = {"hard_bounces": 1, "soft_bounces": 2, "syntax_errors": 0}
REPORT = {
    "id": "5aa2102003", "campaign_title": "News", "type": "regular", "list_id": "a6b5da1054",
    "list_name": "People", "subject_line": "Hello", "emails_sent": 10, "abuse_reports": 0,
    "unsubscribed": 1, "send_time": AT, "opens": OPENS, "clicks": CLICKS, "bounces": BOUNCES,
}  # fmt: skip
CHANGED = {name: MEMBER[name] for name in ("id", "email_address", "contact_id", "status")}
SEGMENT_ERROR = {"email_addresses": ["bob@acme.example"], "error": "not on the list"}
EVENTS = dict.fromkeys(
    ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign"), True
)
SOURCES = {"user": True, "admin": True, "api": False}
WEBHOOK = {
    "id": "57c1a3f2e8", "url": "https://x.test/h", "events": EVENTS, "sources": SOURCES,
    "list_id": "a6b5da1054", "signing_enabled": True, "signing_secret": "s",
}  # fmt: skip
OUTCOME = {
    "_id": "m1", "email": "ada@acme.example", "status": "rejected", "reject_reason": "unsub",
    "queued_reason": "attachments",
}  # fmt: skip
OPENING = {"ts": 1634830896, "url": "https://x.test"}
SMTP = {"ts": 1634830896, "type": "sent", "diag": "250 OK"}
INFO = {
    "_id": "m1", "ts": 1634830896, "state": "sent", "sender": "us@acme.example",
    "email": "ada@acme.example", "subject": "Hello", "template": "welcome", "tags": ["a"],
    "opens": 1, "clicks": 1, "opens_detail": [OPENING], "clicks_detail": [OPENING],
    "smtp_events": [SMTP], "metadata": {"u": "1"}, "subaccount": "s",
}  # fmt: skip
FILE = {"name": "a.txt", "type": "text/plain", "content": "YQ=="}
PERSON = {"email": "ada@acme.example", "name": "Ada"}
CONTENT = {
    "_id": "m1", "ts": 1634830896, "from_email": "us@acme.example", "from_name": "Us",
    "subject": "Hello", "to": PERSON, "tags": ["a"], "headers": {"X": "1"}, "text": "t",
    "html": "<p>", "attachments": [FILE],
}  # fmt: skip
SCHEDULED = {
    "_id": "m1", "created_at": TS, "send_at": TS, "from_email": "us@acme.example",
    "to": "ada@acme.example", "subject": "Hello",
}  # fmt: skip
REJECT = {
    "email": "ada@acme.example", "reason": "unsub", "detail": "d", "created_at": TS,
    "last_event_at": TS, "expires_at": TS, "expired": True, "subaccount": "s",
}  # fmt: skip
TEMPLATE = {
    "slug": "welcome", "name": "Welcome", "labels": ["a"], "subject": "Hello",
    "from_email": "us@acme.example", "from_name": "Us", "code": "<p>", "text": "t",
    "publish_name": "Welcome", "publish_subject": "Hello", "publish_from_email": "us@acme.example",
    "publish_from_name": "Us", "publish_code": "<p>", "publish_text": "t", "published_at": TS,
    "created_at": TS, "updated_at": TS, "is_broken_template": True,
}  # fmt: skip
HOOK = {
    "id": 7, "url": "https://x.test/h", "auth_key": "k", "description": "d", "events": ["send"],
    "created_at": TS, "last_sent_at": TS, "batches_sent": 1, "events_sent": 2, "last_error": "e",
}  # fmt: skip
USER = {
    "username": "us", "public_id": "p", "reputation": 50, "hourly_quota": 250, "backlog": 1,
    "created_at": TS,
}  # fmt: skip
EVENT_MESSAGE = {
    "_id": "m1", "ts": 1634830896, "state": "sent", "email": "ada@acme.example",
    "sender": "us@acme.example", "subject": "Hello", "template": "welcome", "tags": ["a"],
    "metadata": {"u": "1"}, "smtp_events": [SMTP], "bounce_description": "b", "diag": "d",
}  # fmt: skip

SHAPES: dict[type[MailchimpModel], dict[str, Any]] = {
    account.Account: {
        "account_id": "8d3a3db4d9", "account_name": "Acme", "login_id": "1", "email": "o@acme.example",
        "username": "o", "role": "owner", "pricing_plan_type": "monthly",
        "account_timezone": "Europe/Berlin", "member_since": AT, "last_login": AT,
        "total_subscribers": 7,
    },
    audience.AudienceStats: AUDIENCE["stats"],
    audience.Audience: AUDIENCE,
    audience.AudiencesPage: {"lists": [AUDIENCE], "total_items": 1},
    batch.BatchMember: BATCH_MEMBER,
    batch.BatchRowError: ROW_ERROR,
    batch.BatchResult: {
        "new_members": [BATCH_MEMBER], "updated_members": [BATCH_MEMBER], "errors": [ROW_ERROR],
    },
    batch.BatchStatus: BATCH_STATUS,
    campaign.CampaignSummary: SUMMARY,
    campaign.Campaign: CAMPAIGN,
    campaign.CampaignsPage: {"campaigns": [CAMPAIGN], "total_items": 1},
    campaign.FoundCampaign: {"campaign": CAMPAIGN, "snippet": "Hel"},
    campaign.FoundCampaigns: {"results": [{"campaign": CAMPAIGN, "snippet": "Hel"}], "total_items": 1},
    member.MarketingPermission: PERMISSION,
    member.Member: MEMBER,
    member.MembersPage: {"members": [MEMBER], "total_items": 1},
    member.MemberPermissions: {"marketing_permissions": [PERMISSION]},
    member.PermissionsPage: {"members": [{"marketing_permissions": [PERMISSION]}]},
    merge_field.MergeFieldOptions: FIELD["options"],
    merge_field.MergeField: FIELD,
    merge_field.MergeFieldsPage: {"merge_fields": [FIELD], "total_items": 1},
    report.Opens: OPENS,
    report.Clicks: CLICKS,
    report.Bounces: BOUNCES,
    report.Report: REPORT,
    report.ReportsPage: {"reports": [REPORT], "total_items": 1},
    tag.Tag: TAG,
    tag.TagsPage: {"tags": [TAG], "total_items": 1},
    tag.ChangedMember: CHANGED,
    tag.SegmentError: SEGMENT_ERROR,
    tag.SegmentMembersResult: {
        "members_added": [CHANGED], "members_removed": [CHANGED], "errors": [SEGMENT_ERROR],
        "total_added": 1, "total_removed": 1, "error_count": 1,
    },
    webhook.WebhookEvents: EVENTS,
    webhook.WebhookSources: SOURCES,
    webhook.Webhook: WEBHOOK,
    webhook.WebhooksPage: {"webhooks": [WEBHOOK], "total_items": 1},
    results.RecipientOutcome: OUTCOME,
    results.Opening: OPENING,
    results.SmtpEvent: SMTP,
    results.MessageInfo: INFO,
    results.ContentFile: FILE,
    results.ContentRecipient: PERSON,
    results.MessageContent: CONTENT,
    results.ScheduledMessage: SCHEDULED,
    results.Reject: REJECT,
    results.AddedReject: {"email": "ada@acme.example", "added": True},
    results.DeletedReject: {"email": "ada@acme.example", "deleted": True},
    results.Template: TEMPLATE,
    results.RenderedTemplate: {"html": "<p>"},
    results.MetadataField: {"name": "u", "state": "active"},
    results.TransactionalWebhook: HOOK,
    results.UserInfo: USER,
    results.Pong: {"PING": "PONG!"},
    webhooks.EventMessage: EVENT_MESSAGE,
    webhooks.MessageEvent: {
        "event": "click", "ts": 1634830896, "_id": "m1", "msg": EVENT_MESSAGE, "url": "https://x.test",
    },
    webhooks.SyncEvent: {
        "type": "blacklist", "action": "add", "ts": 1634830896, "reject": REJECT,
    },
}  # fmt: skip
"""An answer of each type of the client."""
