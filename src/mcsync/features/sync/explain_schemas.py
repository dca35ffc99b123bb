"""What contacts.explain answers."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from mcsync.core.web.schemas import ResponseModel, Timestamp
from mcsync.features.contacts.refusals import RefusalView
from mcsync.features.preferences.schemas import AddressView, OptStatus
from mcsync.features.sync.schemas import Action, ChangeState, UnreadableField

_EXAMPLE: JsonDict = {
    "email": "zoe.lindqvist@nordlicht-werke.example",
    "summary": "Opted in. In none of 1 audiences.",
    "contacts": [
        {
            "entityType": "employee",
            "entityId": "E-1042",
            "email": "zoe.lindqvist@nordlicht-werke.example",
            "hasAddress": True,
            "leftAt": None,
            "status": "opted_in",
            "consentGivenAt": "2026-11-20T08:30:00Z",
            "consentWithdrawnAt": None,
            "source": "intranet form",
        }
    ],
    "address": {
        "status": "opted_in",
        "withdrawn": False,
        "consentGivenAt": "2026-11-20T08:30:00Z",
        "consentGivenSource": "intranet form",
        "consentWithdrawnAt": None,
        "consentWithdrawnSource": None,
        "otherContacts": 0,
    },
    "suppressedAt": None,
    "audiences": [
        {
            "audienceId": "a1f0c3d2e4",
            "name": "All staff",
            "connected": True,
            "gone": False,
            "mirroredAt": "2026-11-23T05:00:02Z",
            "summary": "Unsubscribed by somebody at Mailchimp or another program since 2026-11-21"
            " 10:02 UTC. Wanted by Staff newsletter. Left alone: somebody at Mailchimp, or another"
            " program, unsubscribed them.",
            "member": {
                "status": "unsubscribed",
                "since": "2026-11-21T10:02:11Z",
                "email": "zoe.lindqvist@nordlicht-werke.example",
                "owned": True,
                "unsubscribedBy": "others",
                "unsubscribeCause": None,
                "unsubscribeReason": "N/A (Unsubscribed by an admin)",
                "archivedByUs": False,
                "source": "API - Generic",
                "pushedAt": "2026-11-20T09:00:03Z",
            },
            "otherMember": None,
            "refusal": None,
            "openOrders": [],
            "segments": [
                {
                    "id": "01932c5e-7f10-7a21-8b3c-4d5e6f708192",
                    "name": "Staff newsletter",
                    "matches": True,
                    "wanted": True,
                    "tagged": True,
                    "rule": 16,
                    "action": "skip",
                    "reason": "unsubscribed_by_others",
                    "unreadableFields": [],
                    "explanation": "Wanted. Left alone: somebody at Mailchimp, or another program,"
                    " unsubscribed them.",
                }
            ],
            "lastPushes": [
                {
                    "runId": "01932c5e-8a4b-7c3d-9e2f-0a1b2c3d4e5f",
                    "segmentId": "01932c5e-7f10-7a21-8b3c-4d5e6f708192",
                    "action": "add",
                    "reason": "new",
                    "state": "done",
                    "outcomeCode": None,
                    "outcome": None,
                    "doneAt": "2026-11-20T09:00:03Z",
                }
            ],
        }
    ],
}


class ExplainedContact(ResponseModel):
    """A contact that has the address, or had it before."""

    entity_type: str
    entity_id: str
    email: str | None = Field(description="The address it has now.")
    has_address: bool = Field(description="False: it had the address before, and has another now.")
    left_at: Timestamp | None
    status: OptStatus
    consent_given_at: Timestamp | None
    consent_withdrawn_at: Timestamp | None
    source: str | None


class ExplainedMember(ResponseModel):
    """The member at Mailchimp, as last read or answered."""

    status: str = Field(description="Mailchimp's status, or `absent`.")
    since: Timestamp | None = Field(description="When Mailchimp last changed it.")
    email: str | None = Field(
        description="The address there; another one if the person changed it."
    )
    owned: bool = Field(
        description="Added by a segment's sync: only such members are ever archived."
    )
    unsubscribed_by: str | None = Field(description="`us`, `person` or `others`.")
    unsubscribe_cause: str | None = Field(description="Of ours: `withdrawal`, `left` or `lapsed`.")
    unsubscribe_reason: str | None = Field(description="Mailchimp's words.")
    archived_by_us: bool
    source: str | None = Field(description="Where Mailchimp says the member came from.")
    pushed_at: Timestamp | None = Field(description="When it last took something from mcsync.")


class OpenOrder(ResponseModel):
    """A withdrawal, opt-in or erasure on its way to Mailchimp, part of no run."""

    kind: str = Field(description="`withdrawal`, `opt_in` or `erasure`.")
    created_at: Timestamp
    attempts: int
    next_attempt_at: Timestamp
    last_error: str | None


class ExplainedSegment(ResponseModel):
    """What one live segment of the audience makes of the address."""

    id: UUID
    name: str
    matches: bool = Field(description="A contact with the address matches its filters.")
    wanted: bool = Field(
        description="It also may be sent: consent, suppression and basis allow it."
    )
    tagged: bool = Field(description="The member carries the segment's tag.")
    rule: int | None = Field(
        description="The row of the decision table that applies; null: it has nothing to do with it."
    )
    action: Action | None = Field(description="What the next sync would do; null: nothing.")
    reason: str | None = Field(
        description="Of the action; without one, why the matching contact is not wanted."
    )
    unreadable_fields: list[UnreadableField] = Field(
        description="Fields that are not sent, because they do not take the contact's value: Mailchimp keeps"
        " what it has."
    )
    explanation: str


class LastPush(ResponseModel):
    """A change of a recent run that was about this address."""

    run_id: UUID
    segment_id: UUID
    action: Action
    reason: str
    state: ChangeState
    outcome_code: str | None
    outcome: str | None
    done_at: Timestamp | None


class ExplainedAudience(ResponseModel):
    """Why the person is in or out of one audience."""

    audience_id: str
    name: str
    connected: bool = Field(description="Its account is the connected one.")
    gone: bool = Field(description="Mailchimp no longer has it.")
    mirrored_at: Timestamp | None = Field(
        description="When it was last read from end to end; null: not yet, everybody looks absent."
    )
    summary: str
    member: ExplainedMember | None = Field(description="Null where nothing was ever seen of it.")
    other_member: ExplainedMember | None = Field(
        description="The member that has the address in the other spelling of its domain (Unicode or"
        " `xn--`), where Mailchimp has both. Withdrawals and erasures reach it too."
    )
    refusal: RefusalView | None
    open_orders: list[OpenOrder]
    segments: list[ExplainedSegment]
    last_pushes: list[LastPush] = Field(description="The newest five.")


class Explanation(ResponseModel):
    """Why a person is in or out of each audience."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    email: str | None = Field(description="Null where the contact has no usable address.")
    summary: str
    contacts: list[ExplainedContact]
    address: AddressView | None = Field(
        description="What holds for the address, over all living contacts that have it."
    )
    suppressed_at: Timestamp | None = Field(description="When the person was erased, if they were.")
    audiences: list[ExplainedAudience]
