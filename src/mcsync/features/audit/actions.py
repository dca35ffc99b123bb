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
    PREFERENCES_IMPORT = "preferences.import"
    PREFERENCES_PULLED = "preferences.pulled"
    WEBHOOKS_REGISTER = "webhooks.register"
    WEBHOOKS_REMOVE = "webhooks.remove"
    WEBHOOKS_ROTATE = "webhooks.rotate"
    ERASURE_REQUEST = "erasure.request"
    ERASURE_CLOSE_TARGET = "erasure.close_target"
    ERASURE_COMPLETE = "erasure.complete"
    SUPPRESSION_LIFT = "suppression.lift"
    SOURCES_ADD = "sources.add"
    SOURCES_REMOVE = "sources.remove"
    SOURCES_PULL = "sources.pull"
    SOURCES_FINISH = "sources.finish"
    ORGANISATION_CREATE = "organisation.create"
    TOKEN_CREATE = "token.create"  # noqa: S105 - an action, not a secret
    TOKEN_REVOKE = "token.revoke"  # noqa: S105 - an action, not a secret
    KEYS_ROTATE = "keys.rotate"
