"""The Mailchimp client. Knows Mailchimp and nothing else of mcsync.

Each call is typed, bounded in time, made inside a slot of its account, and fails with one of
the classes drawn in errors.py.
"""

from mcsync.mailchimp.client import MailchimpClient
from mcsync.mailchimp.endpoints.audiences import BatchRow
from mcsync.mailchimp.endpoints.batches import BatchOperation
from mcsync.mailchimp.endpoints.observing import Observation
from mcsync.mailchimp.errors import (
    CredentialError,
    FieldError,
    InvalidRequestError,
    MailchimpError,
    MailchimpTimeout,
    MethodNotAllowedError,
    NotFoundError,
    RefusalCode,
    RefusedError,
    ThrottledError,
    TransientError,
    UnsafeConnectionError,
    UnverifiableUrlError,
    classify_refusal,
    error_from_response,
    merge_tag,
)
from mcsync.mailchimp.identity import (
    KEY_PATTERN,
    InvalidApiKey,
    data_centre,
    mailbox_hash,
    mailbox_of,
    normalise_address,
    spelled_domain,
    spellings,
    subscriber_hash,
)
from mcsync.mailchimp.pagination import MemberPages, iterate_members
from mcsync.mailchimp.retry import RetryPolicy, retry_delay
from mcsync.mailchimp.rows import (
    BATCH_SIZE,
    AccountedRow,
    RowAccounting,
    RowOutcome,
    account_rows,
    chunked,
    consent_proof,
    permission_changes,
)
from mcsync.mailchimp.signatures import (
    SIGNATURE_HEADER,
    SignatureReason,
    WebhookSignatureError,
    verify_webhook_signature,
)
from mcsync.mailchimp.slots import Grant, Lane, Slot, SlotLimiter, SlotStore, Wait
from mcsync.mailchimp.slots_memory import MemorySlotStore
from mcsync.mailchimp.slots_redis import RedisSlotStore
from mcsync.mailchimp.transport import build_http, path
from mcsync.mailchimp.types.account import Account
from mcsync.mailchimp.types.audience import Audience, AudienceStats
from mcsync.mailchimp.types.base import Rows
from mcsync.mailchimp.types.batch import BatchMember, BatchResult, BatchRowError, BatchStatus
from mcsync.mailchimp.types.campaign import (
    Campaign,
    CampaignsPage,
    CampaignSummary,
    FoundCampaign,
    FoundCampaigns,
)
from mcsync.mailchimp.types.member import (
    ADMIN_REASONS,
    MarketingPermission,
    Member,
    MembersPage,
    MemberStatus,
    is_admin_reason,
)
from mcsync.mailchimp.types.merge_field import MergeField, MergeFieldOptions
from mcsync.mailchimp.types.report import Bounces, Clicks, Opens, Report, ReportsPage
from mcsync.mailchimp.types.tag import ChangedMember, SegmentError, SegmentMembersResult, Tag
from mcsync.mailchimp.types.webhook import Webhook, WebhookEvents, WebhookSources
from mcsync.mailchimp.webhooks import (
    MAX_WEBHOOK_BYTES,
    CampaignEvent,
    CleanedEvent,
    MalformedWebhook,
    MemberEvent,
    ProfileEvent,
    SubscribeEvent,
    UnsubscribeEvent,
    UpemailEvent,
    WebhookEvent,
    parse_webhook,
)

__all__ = [
    "ADMIN_REASONS",
    "BATCH_SIZE",
    "KEY_PATTERN",
    "MAX_WEBHOOK_BYTES",
    "SIGNATURE_HEADER",
    "Account",
    "AccountedRow",
    "Audience",
    "AudienceStats",
    "BatchMember",
    "BatchOperation",
    "BatchResult",
    "BatchRow",
    "BatchRowError",
    "BatchStatus",
    "Bounces",
    "Campaign",
    "CampaignEvent",
    "CampaignSummary",
    "CampaignsPage",
    "ChangedMember",
    "CleanedEvent",
    "Clicks",
    "CredentialError",
    "FieldError",
    "FoundCampaign",
    "FoundCampaigns",
    "Grant",
    "InvalidApiKey",
    "InvalidRequestError",
    "Lane",
    "MailchimpClient",
    "MailchimpError",
    "MailchimpTimeout",
    "MalformedWebhook",
    "MarketingPermission",
    "Member",
    "MemberEvent",
    "MemberPages",
    "MemberStatus",
    "MembersPage",
    "MemorySlotStore",
    "MergeField",
    "MergeFieldOptions",
    "MethodNotAllowedError",
    "NotFoundError",
    "Observation",
    "Opens",
    "ProfileEvent",
    "RedisSlotStore",
    "RefusalCode",
    "RefusedError",
    "Report",
    "ReportsPage",
    "RetryPolicy",
    "RowAccounting",
    "RowOutcome",
    "Rows",
    "SegmentError",
    "SegmentMembersResult",
    "SignatureReason",
    "Slot",
    "SlotLimiter",
    "SlotStore",
    "SubscribeEvent",
    "Tag",
    "ThrottledError",
    "TransientError",
    "UnsafeConnectionError",
    "UnsubscribeEvent",
    "UnverifiableUrlError",
    "UpemailEvent",
    "Wait",
    "Webhook",
    "WebhookEvent",
    "WebhookEvents",
    "WebhookSignatureError",
    "WebhookSources",
    "account_rows",
    "build_http",
    "chunked",
    "classify_refusal",
    "consent_proof",
    "data_centre",
    "error_from_response",
    "is_admin_reason",
    "iterate_members",
    "mailbox_hash",
    "mailbox_of",
    "merge_tag",
    "normalise_address",
    "parse_webhook",
    "path",
    "permission_changes",
    "retry_delay",
    "spelled_domain",
    "spellings",
    "subscriber_hash",
    "verify_webhook_signature",
]
