"""The closed list of what the audit knows: ``subject.verb``."""

from __future__ import annotations

from enum import StrEnum


class AuditAction(StrEnum):
    """What was done."""

    CONNECTION_CONNECT = "connection.connect"
    CONNECTION_REPLACE_KEY = "connection.replace_key"
    CONNECTION_DISCONNECT = "connection.disconnect"
    CONNECTION_NEEDS_ATTENTION = "connection.needs_attention"
    CONNECTION_RECOVERED = "connection.recovered"
    CONTACTS_UPSERT = "contacts.upsert"
    CONTACTS_IMPORT = "contacts.import"
    CONTACTS_DELETE = "contacts.delete"
    AUDIENCES_SET_MERGE_FIELDS = "audiences.set_merge_fields"
    AUDIENCES_CREATE_MERGE_FIELDS = "audiences.create_merge_fields"
    SEGMENTS_CREATE = "segments.create"
    SEGMENTS_UPDATE = "segments.update"
    SEGMENTS_DELETE = "segments.delete"
    SYNC_START = "sync.start"
    SYNC_APPROVE = "sync.approve"
    SYNC_CANCEL = "sync.cancel"
    SYNC_FINISH = "sync.finish"
    PREFERENCES_OPT_IN = "preferences.opt_in"
    PREFERENCES_OPT_OUT = "preferences.opt_out"
    PREFERENCES_UNSET = "preferences.unset"
    PREFERENCES_PULLED = "preferences.pulled"
    CAMPAIGNS_TRACK = "campaigns.track"
    CAMPAIGNS_UNTRACK = "campaigns.untrack"
    CAMPAIGNS_REFRESH = "campaigns.refresh"
    CAMPAIGNS_SET_AUTO_TRACKING = "campaigns.set_auto_tracking"
    SUBSCRIBERS_SUBSCRIBE = "subscribers.subscribe"
    SUBSCRIBERS_REQUEST = "subscribers.request"
    SUBSCRIBERS_UPDATE = "subscribers.update"
    SUBSCRIBERS_UNSUBSCRIBE = "subscribers.unsubscribe"
    SUBSCRIBERS_ARCHIVE = "subscribers.archive"
    SUBSCRIBERS_CREATE_OR_UPDATE = "subscribers.create_or_update"
    ORGANISATION_CREATE = "organisation.create"
    TOKEN_CREATE = "token.create"  # noqa: S105 - an action, not a secret
    TOKEN_REVOKE = "token.revoke"  # noqa: S105 - an action, not a secret
    KEYS_ROTATE = "keys.rotate"
