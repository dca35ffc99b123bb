"""What the sync procedures take and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from mcsync.core.web.schemas import RequestModel, ResponseModel, Timestamp
from mcsync.features.audiences.field_values import PROBLEMS
from mcsync.features.audiences.schemas import WarningView
from mcsync.features.contacts.refusals import RefusalView
from mcsync.features.segments.schemas import SegmentDefinition, SegmentId

RunStatus = Literal[
    "queued", "pulling", "planning", "awaiting_approval", "pushing",
    "succeeded", "succeeded_with_errors", "failed", "cancelled",
]  # fmt: skip
Action = Literal[
    "add", "update", "resubscribe", "unsubscribe", "untag", "archive", "rename", "skip"
]
ChangeState = Literal[
    "planned", "held", "taken", "done", "failed", "dropped", "obsolete", "skipped"
]
RunId = Annotated[UUID, Field(strict=False, description="The run's id.")]

_RUN_ID = "01932c5e-8a4b-7c3d-9e2f-0a1b2c3d4e5f"


class SyncInput(RequestModel):
    """Which segment to sync."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "01932c5e-7f10-7a21-8b3c-4d5e6f708192", "dryRun": False}]
        }
    )

    id: SegmentId
    dry_run: bool = Field(
        default=False, description="Pulls and plans, shows what would be done, and stops."
    )


class RunInput(RequestModel):
    """Which run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": _RUN_ID}]})

    id: RunId


class PreviewInput(RequestModel):
    """A stored segment by its ``id``, or a definition that is not saved (or both: as if changed so)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "definition": {
                        "segmentType": "employee",
                        "audienceId": "a1f0c3d2e4",
                        "filters": {"department": ["Logistics"]},
                    },
                    "sample": 20,
                }
            ]
        }
    )

    id: SegmentId | None = None
    definition: SegmentDefinition | None = None
    sample: int = Field(default=20, ge=0, le=200, description="How many sample rows.")


class Counts(ResponseModel):
    """A run in numbers. ``matched`` and ``skipped`` count contacts, the actions members."""

    matched: int = Field(description="Contacts that match the segment's filters.")
    add: int
    update: int
    resubscribe: int
    unsubscribe: int
    untag: int
    archive: int
    rename: int
    unchanged: int = Field(description="Wanted, and already as they should be: no call was made.")
    skipped: int
    unreadable_fields: int = Field(
        description="Values that Mailchimp does not take: not sent, so that it keeps what it has."
    )
    done: int = Field(description="Changes that Mailchimp accepted.")
    failed: int = Field(description="Changes that Mailchimp refused, each with its reason.")


_COUNTS: JsonValue = {
    "matched": 1180, "add": 640, "update": 3, "resubscribe": 0, "unsubscribe": 1, "untag": 0,
    "archive": 0, "rename": 1, "unchanged": 12, "skipped": 524, "unreadableFields": 2, "done": 644, "failed": 1,
}  # fmt: skip


class UnreadableField(ResponseModel):
    """A merge field that is not sent, because it does not take the contact's value."""

    tag: str
    problem: str = Field(description="Stable, such as `not_a_date`, `unknown_choice`, `too_long`.")
    message: str

    @classmethod
    def of(cls, tag: str, problem: str) -> UnreadableField:
        """With what it means."""
        why = PROBLEMS.get(problem, "the field does not take it")
        return cls(tag=tag, problem=problem, message=f"The value of {tag} is not sent: {why}.")


class UnreadableExample(ResponseModel):
    """A contact whose value is not sent."""

    entity_type: str
    entity_id: str
    problem: str
    value: str | None = Field(
        description="At most 100 characters of it; null for callers who may not read contacts, and where it"
        " looks like an address."
    )


class UnreadableInPreview(UnreadableField):
    """A merge field that is not sent for some members."""

    count: int = Field(description="Of how many members.")
    examples: list[UnreadableExample] = Field(description="At most three.")


class HoldView(ResponseModel):
    """What the guard held back. ``kind``: removals, additions or source_empty."""

    kind: str
    count: int
    limit: int


class RunError(ResponseModel):
    """Why a run failed, waits, or was cancelled."""

    code: str
    message: str


_RUN: JsonDict = {
    "id": _RUN_ID,
    "segmentId": "01932c5e-7f10-7a21-8b3c-4d5e6f708192",
    "audienceId": "a1f0c3d2e4",
    "trigger": "manual",
    "status": "pushing",
    "dryRun": False,
    "counts": _COUNTS,
    "skippedByReason": {"not_opted_in": 498, "shared_address": 19},
    "unreadableByField": {"HIRED": 2},
    "warnings": [],
    "held": 0,
    "holds": [],
    "calls": 2,
    "createdAt": "2026-11-23T09:00:00Z",
    "startedAt": "2026-11-23T09:00:00Z",
    "finishedAt": None,
    "ratePerSecond": 410.5,
    "etaSeconds": 1.2,
    "error": None,
}
RUN_EVENT = f"event: run\nid: 7\ndata: {json.dumps(_RUN)}\n\n"
"""What `watchRun` sends, for the description."""


class RunView(ResponseModel):
    """One run: pull, plan, push."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RUN]})

    id: UUID
    segment_id: UUID
    audience_id: str
    trigger: str = Field(description="manual, schedule, leave, or opt_in: an opt-in just recorded")
    status: RunStatus
    dry_run: bool
    counts: Counts
    skipped_by_reason: dict[str, int]
    unreadable_by_field: dict[str, int] = Field(
        description="By merge tag: of how many members the field is not sent, as its value is not taken."
    )
    warnings: list[WarningView] = Field(
        description="What of the audience needed attention when the run was planned."
    )
    held: int = Field(description="Changes that wait for `segments.approveRun`.")
    holds: list[HoldView]
    calls: int = Field(description="Write calls made to Mailchimp.")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    rate_per_second: float | None = Field(description="Changes a second, while pushing and after.")
    eta_seconds: float | None = Field(description="Seconds left, while pushing.")
    error: RunError | None

    @classmethod
    def of(cls, row: Mapping[str, Any], now: datetime) -> Self:
        """The view of a run's row (``runs.fetch``)."""
        planned = dict.fromkeys(Counts.model_fields, 0) | dict(row["planned"])
        counts = planned | {"done": row["done"], "failed": row["failed"]}
        total = sum(planned[a] for a in _PUSHED)
        worked = row["done"] + row["failed"]
        rate = _rate(row, worked, now)
        left = max(0, total - row["held"] - worked)
        return cls(
            id=row["id"],
            segment_id=row["segment_id"],
            audience_id=row["list_id"],
            trigger=row["trigger"],
            status=row["status"],
            dry_run=row["dry_run"],
            counts=Counts(**counts),
            skipped_by_reason=row["skipped"],
            unreadable_by_field=row["unreadable"],
            warnings=[WarningView(**each) for each in row["warnings"]],
            held=row["held"],
            holds=[HoldView(**hold) for hold in row["hold_reasons"]],
            calls=row["calls"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            rate_per_second=rate,
            eta_seconds=round(left / rate, 1) if rate and row["status"] == "pushing" else None,
            error=RunError(**row["error"]) if row["error"] else None,
        )


_PUSHED = ("add", "update", "resubscribe", "unsubscribe", "untag", "archive", "rename")


def _rate(row: Mapping[str, Any], worked: int, now: datetime) -> float | None:
    began = row["push_started_at"]
    if began is None or not worked:
        return None
    seconds = ((row["finished_at"] or now) - began).total_seconds()
    return round(worked / seconds, 1) if seconds > 0 else None


class ContactRef(ResponseModel):
    """The contact behind a change."""

    id: UUID
    entity_type: str
    entity_id: str


class ChangeView(ResponseModel):
    """One planned action on one member, with its reason and outcome."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "seq": 17,
                    "action": "skip",
                    "reason": "unsubscribed_by_person",
                    "state": "skipped",
                    "email": "ada@nordlicht.example",
                    "contact": {
                        "id": "01932c5e-0001-7a21-8b3c-4d5e6f708192",
                        "entityType": "employee",
                        "entityId": "E-1001",
                    },
                    "outcomeCode": None,
                    "outcome": None,
                    "doneAt": None,
                    "unreadableFields": [],
                    "refusal": None,
                }
            ]
        }
    )

    seq: int
    action: Action
    reason: str
    state: ChangeState
    email: str | None
    contact: ContactRef | None
    outcome_code: str | None = Field(description="Why Mailchimp refused it, as a stable code.")
    outcome: str | None = Field(description="Mailchimp's words.")
    done_at: Timestamp | None
    unreadable_fields: list[UnreadableField] = Field(
        description="Fields that are not sent, because they do not take the contact's value."
    )
    refusal: RefusalView | None = Field(
        description="Where it was refused, or skipped because it had been: what is recorded of that now."
    )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a change's row (``runs.change_page``)."""
        contact = (
            ContactRef(
                id=row["contact_id"], entity_type=row["entity_type"], entity_id=row["entity_id"]
            )
            if row["contact_id"]
            else None
        )
        return cls(
            seq=row["seq"], action=row["action"], reason=row["reason"], state=row["state"],
            email=row["email"], contact=contact, outcome_code=row["outcome_code"],
            outcome=row["outcome"], done_at=row["done_at"],
            unreadable_fields=[
                UnreadableField.of(tag, problem)
                for tag, problem in sorted((row["unreadable"] or {}).items())
            ],
            refusal=RefusalView.of(row) if row["code"] else None,
        )  # fmt: skip


class PreviewRowView(ResponseModel):
    """One row of a preview's sample."""

    action: Action
    reason: str
    email: str | None
    contact_id: UUID | None


class PreviewView(ResponseModel):
    """What a sync would do now, as far as the mirror knows Mailchimp."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "counts": _COUNTS,
                    "byReason": {"add": {"new": 640}, "skip": {"not_opted_in": 498}},
                    "skippedByReason": {"not_opted_in": 498},
                    "unreadableFields": [
                        {
                            "tag": "HIRED",
                            "problem": "not_a_date",
                            "message": "The value of HIRED is not sent: it is no date of the format"
                            " expected.",
                            "count": 2,
                            "examples": [
                                {
                                    "entityType": "employee",
                                    "entityId": "E-1001",
                                    "problem": "not_a_date",
                                    "value": "31.02.2026",
                                }
                            ],
                        }
                    ],
                    "sample": [
                        {
                            "action": "add",
                            "reason": "new",
                            "email": "ada@nordlicht.example",
                            "contactId": "01932c5e-0001-7a21-8b3c-4d5e6f708192",
                        }
                    ],
                    "mirroredAt": "2026-11-23T05:00:04Z",
                    "unfedRequired": [],
                    "warnings": [],
                }
            ]
        }
    )

    counts: Counts
    by_reason: dict[str, dict[str, int]]
    skipped_by_reason: dict[str, int]
    unreadable_fields: list[UnreadableInPreview] = Field(
        description="Values that Mailchimp does not take: not sent, so that it keeps what it has."
    )
    sample: list[PreviewRowView]
    mirrored_at: Timestamp | None = Field(
        description="When the audience was last read; null if never: then everybody looks absent."
    )
    unfed_required: list[str] = Field(
        description="Required merge fields that nothing feeds: Mailchimp will refuse new members."
    )
    warnings: list[WarningView] = Field(description="What of the audience needs attention.")
