"""What the procedures of erasure and access take and answer. Nothing here tells who was erased."""

from __future__ import annotations

from typing import Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from mcsync.core.web.schemas import Page, RequestModel, ResponseModel, Timestamp
from mcsync.features.preferences.schemas import EntityId, EntityType, Moment, Proof

ErasureStatus = Literal["open", "done"]
TargetState = Literal["open", "confirmed", "audience_gone", "closed"]
MAX_EMAIL = 1_000
"""Longer than an address can be: Mailchimp may have taken one that mcsync does not."""

_ID = "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10"
_ANSWER: JsonDict = {"at": "2026-11-23T09:30:02.118Z", "status": 204}
_TARGET: JsonDict = {
    "id": "019ab5a1-7c51-7a02-8d11-94f05ab0c7d2", "accountId": "5a9d0b0c1e2f3a4b5c6d7e8f",
    "audienceId": "a1f0c3d2e4", "address": 1, "state": "confirmed", "deleteAnswers": [_ANSWER],
    "readBackAt": "2026-11-23T09:30:02.371Z", "readBackStatus": 404, "attempts": 0,
    "lastError": None, "closedReason": None, "closedBy": None, "closedAt": None,
}  # fmt: skip
_STORE: JsonDict = {
    "store": "contacts", "what": "The contact: id, address, names and all fields.", "how": "deleted",
    "rows": 1,
}  # fmt: skip
_RECEIPT: JsonDict = {
    "kind": "mcsync erasure receipt", "version": 1, "erasureId": _ID, "addresses": 1,
    "targets": [{"audience": "a1f0c3d2e4", "address": 1, "outcome": "confirmed"}],
    "algorithm": "Ed25519", "publicKey": "mT0TjEVkeLfUXQz5W3ZrBQy2CUEhsxYdtLqZ8PzXJgE=",
}  # fmt: skip
_ERASURE: JsonDict = {
    "id": _ID, "status": "done", "requestedAt": "2026-11-23T09:30:01Z",
    "completedAt": "2026-11-23T09:30:03Z", "attempts": 0, "nextAttemptAt": None, "lastError": None,
    "addresses": 1, "sharedAddresses": [], "openTargets": 0, "stores": [_STORE],
    "targets": [_TARGET], "receipt": _RECEIPT,
    "signature": "kq3Zr0m9bVh2kqgkX8b2l8Jr6u1n6K1m3o7Xw0cN5mUO1oQ2kE1Z2yV0a4xw3P8i5s7dQm1r9t2u4v6x8z0B==",
}  # fmt: skip


class SubjectInput(RequestModel):
    """A person: an entity, or an address alone."""

    entity_type: EntityType | None = None
    entity_id: EntityId | None = None
    email: str | None = Field(
        None, min_length=3, max_length=MAX_EMAIL,
        description="Instead of the entity: somebody who is known by an address only.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if (self.entity_type is None) != (self.entity_id is None):
            code, message = "entity_incomplete", "Send entityType and entityId together"
            raise PydanticCustomError(code, message)
        return self


class ErasureInput(SubjectInput):
    """Who is to be erased."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"entityType": "employee", "entityId": "E-1042"},
                {"email": "ada.lovelace@acme-works.com"},
            ]
        }
    )


class LiftInput(SubjectInput):
    """A new consent of somebody who was erased. The entity, the address, or both are lifted."""

    source: str = Field(
        min_length=1,
        max_length=255,
        description="Where the consent comes from, such as `paper form`.",
    )
    consent_given_at: Moment = Field(
        description="When the person gave it; must be later than the erasure."
    )
    proof: Proof = Field(description="At least one part of it.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "entityType": "employee",
                    "entityId": "E-1042",
                    "email": "ada.lovelace@acme-works.com",
                    "source": "paper form",
                    "consentGivenAt": "2026-12-01T08:30:00Z",
                    "proof": {"form": "newsletter", "evidence": "archive box 7, sheet 12"},
                }
            ]
        }
    )


class CloseTargetInput(RequestModel):
    """Which target is given up, and why."""

    id: UUID = Field(description="The target's id.")
    reason: str = Field(
        min_length=1, max_length=1000, pattern=r"\S",
        description="Stands in the receipt: name no person.",
    )  # fmt: skip

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": _TARGET["id"], "reason": "The account was closed by Mailchimp in March."}
            ]
        }
    )


class DeleteAnswer(ResponseModel):
    """What Mailchimp answered to one call of `delete-permanent`. Believed only after a read-back."""

    at: Timestamp
    status: int = Field(description="204 deleted, 404 not there, 405 not possible.")


class TargetView(ResponseModel):
    """One address in one audience, or (`audienceId` null) the search for audiences not known yet."""

    id: UUID
    account_id: str
    audience_id: str | None
    address: int = Field(description="Which address, counted from 1; 0 for the account as a whole.")
    state: TargetState = Field(
        description="`confirmed`: read back as not there while the audience is; `audience_gone`: the"
        " account has no such audience any more; `closed`: given up by an owner."
    )
    delete_answers: list[DeleteAnswer]
    read_back_at: Timestamp | None
    read_back_status: int | None
    attempts: int = Field(description="How often it failed.")
    last_error: str | None = Field(
        description="`not_connected`, `account_mismatch`, `mailchimp_key_refused`, `mailchimp_busy`,"
        " `mailchimp_unavailable`, `mailchimp_timeout`, `mailchimp_refused`, `member_remains` or"
        " `call_under_way`."
    )
    closed_reason: str | None
    closed_by: str | None
    closed_at: Timestamp | None


class StoreView(ResponseModel):
    """What was done in one store."""

    store: str
    what: str
    how: str = Field(description="`deleted`, `anonymised` or `kept`.")
    rows: int


class SharedAddress(ResponseModel):
    """An address that other contacts hold: they keep it, and it is wanted nowhere."""

    address: int
    contacts: int


class ErasureSummary(ResponseModel):
    """An erasure in a list."""

    id: UUID
    status: ErasureStatus
    requested_at: Timestamp
    completed_at: Timestamp | None
    attempts: int
    next_attempt_at: Timestamp | None
    last_error: str | None
    addresses: int = Field(description="How many addresses of the person are known.")
    open_targets: int

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    key: _ERASURE[key]
                    for key in (
                        "id", "status", "requestedAt", "completedAt", "attempts", "nextAttemptAt",
                        "lastError", "addresses", "openTargets",
                    )
                }
            ]
        }
    )  # fmt: skip


class ErasureView(ErasureSummary):
    """An erasure: what was done here, what Mailchimp answered, and in the end the receipt."""

    shared_addresses: list[SharedAddress]
    stores: list[StoreView]
    targets: list[TargetView]
    receipt: dict[str, Any] | None = Field(description="Once done; see `signature`.")
    signature: str | None = Field(
        description="Ed25519 over the canonical JSON of the receipt, base64url."
        " `mcsync erasures verify` checks it."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [_ERASURE]})


ErasurePage = Page[ErasureSummary]


class LiftView(ResponseModel):
    """What was lifted."""

    entity: bool = Field(description="The entity may be imported again.")
    address: bool = Field(description="The address may be used again.")
    lifted_at: Timestamp

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"entity": True, "address": True, "liftedAt": "2026-12-01T09:00:00Z"}]
        }
    )


class HeldStore(ResponseModel):
    """What one store holds of the person."""

    store: str
    what: str
    rows: list[dict[str, Any]]


class ExportView(ResponseModel):
    """Everything held of a person (GDPR, article 15)."""

    entity_type: str | None
    entity_id: str | None
    addresses: list[str]
    exported_at: Timestamp
    stores: list[HeldStore]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "entityType": "employee",
                    "entityId": "E-1042",
                    "addresses": ["ada.lovelace@acme-works.com"],
                    "exportedAt": "2026-11-23T09:30:01Z",
                    "stores": [
                        {
                            "store": "contacts",
                            "what": "The contact: id, address, names and all fields.",
                            "rows": [
                                {"entityId": "E-1042", "email": "ada.lovelace@acme-works.com"}
                            ],
                        }
                    ],
                }
            ]
        }
    )
