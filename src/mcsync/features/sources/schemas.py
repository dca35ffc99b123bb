"""What the sources' procedures take and answer. Nothing here shows a credential, a query or a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from mcsync.core.web.schemas import Page, RequestModel, ResponseModel, Timestamp
from mcsync.features.sources.models import Source, SourcePull

SourceId = Annotated[UUID, Field(strict=False, description="The source's id.")]
PullId = Annotated[UUID, Field(strict=False, description="The pull's id.")]
Mode = Literal["watermark", "queue", "full"]
PullStatus = Literal[
    "queued", "pulling", "succeeded", "succeeded_with_errors", "approval_needed", "failed"
]

_SOURCE_ID = "01932c5e-91aa-7b20-8d11-2c3d4e5f6071"
_PULL_ID = "01932c60-04be-7f33-a2c9-5d6e7f809112"
_IMPORT_ID = "01932c60-1a52-7c55-90de-6e7f80911223"


class PullError(ResponseModel):
    """Why a pull failed, waits for a word, or is incomplete."""

    code: str
    message: str


class PullReport(ResponseModel):
    """What came. `received` = `created` + `updated` + `unchanged` + `rejected`."""

    received: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    opted_in: int
    opted_out: int
    opt_in_not_newer: int
    absent: int | None = Field(
        description="Contacts of this source that a whole snapshot did not bring."
    )
    left: int | None = Field(description="How many of those were marked as having left.")
    acknowledged: int | None = Field(description="Queue rows that the source was told of.")


_REPORT: JsonDict = {
    "received": 1000, "created": 12, "updated": 985, "unchanged": 2, "rejected": 1, "optedIn": 0,
    "optedOut": 3, "optInNotNewer": 0, "absent": None, "left": None, "acknowledged": None,
}  # fmt: skip
_PULL: JsonDict = {
    "id": _PULL_ID,
    "sourceId": _SOURCE_ID,
    "trigger": "schedule",
    "status": "succeeded_with_errors",
    "report": _REPORT,
    "error": None,
    "createdAt": "2026-11-23T05:00:00Z",
    "startedAt": "2026-11-23T05:00:01Z",
    "finishedAt": "2026-11-23T05:00:04Z",
    "rejections": f"/mailchimp/contacts/getImport?id={_IMPORT_ID}",
}


class PullView(ResponseModel):
    """One pull of one source."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PULL]})

    id: UUID
    source_id: UUID
    trigger: str = Field(description="schedule, request or cli.")
    status: PullStatus
    report: PullReport | None = Field(description="Null until rows were stored.")
    error: PullError | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    rejections: str | None = Field(
        description="Path of contacts.getImport, which lists every rejected row."
    )

    @classmethod
    def of(cls, row: SourcePull) -> Self:
        """The view of a stored pull."""
        link = f"/mailchimp/contacts/getImport?id={row.import_id}" if row.import_id else None
        return cls.model_validate({
            "id": row.id, "source_id": row.source_id, "trigger": row.trigger, "status": row.status,
            "report": _report(row.report), "error": row.error, "created_at": row.created_at,
            "started_at": row.started_at, "finished_at": row.finished_at, "rejections": link,
        })  # fmt: skip


def _report(stored: Mapping[str, Any]) -> dict[str, Any] | None:
    if not stored:
        return None
    empty = dict.fromkeys(("absent", "left", "acknowledged"))
    return {**empty, **{name: stored[name] for name in _REPORT if name in stored}}


_SOURCE: dict[str, JsonValue] = {
    "id": _SOURCE_ID,
    "name": "hr",
    "kind": "postgresql",
    "place": "hr-db.nordlicht-werke.example/people",
    "mode": "watermark",
    "snapshot": False,
    "status": "ok",
    "statusCode": None,
    "statusDetail": None,
    "watermarkColumn": "updated_at",
    "watermark": "2026-11-23T04:58:41+00:00",
    "timeZone": "Europe/Stockholm",
    "fields": ["entityId", "entityType", "email", "firstName", "attributes.costCentre"],
    "createdAt": "2026-11-20T09:12:44Z",
    "lastPull": _PULL,
}


class SourceView(ResponseModel):
    """A source: a query against the organisation's own database, set up by an operator."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SOURCE]})

    id: UUID
    name: str
    kind: Literal["postgresql", "mysql", "sqlite"]
    place: str = Field(description="Host and database; credentials are never shown.")
    mode: Mode = Field(
        description="`watermark`: what changed since the last pull; `queue`: what a queue table names;"
        " `full`: everything, each time."
    )
    snapshot: bool = Field(
        description="Whether contacts that a full pull no longer brings are marked as having left."
    )
    status: Literal["new", "ok", "pulling", "error", "approval_needed"]
    status_code: str | None
    status_detail: str | None
    watermark_column: str | None
    watermark: str | None = Field(
        description="The newest value seen; the next pull begins before it."
    )
    time_zone: str | None = Field(
        description="IANA name of the zone of its times of consent that have no offset; null: any zone."
    )
    fields: list[str] = Field(
        description="Contact fields and attributes that are mapped by name; others map themselves."
    )
    created_at: Timestamp
    last_pull: PullView | None

    @classmethod
    def of(cls, row: Source, last: SourcePull | None) -> Self:
        """The view of a stored source and its newest pull."""
        mapped = {**row.mapping["columns"], **row.mapping["constants"]}
        live = last is not None and last.status == "pulling"
        return cls.model_validate({
            "id": row.id, "name": row.name, "kind": row.kind, "place": row.place, "mode": row.mode,
            "snapshot": row.snapshot, "status": "pulling" if live else row.status,
            "status_code": row.status_code, "status_detail": row.status_detail,
            "watermark_column": row.watermark_column,
            "watermark": row.watermark["value"] if row.watermark else None,
            "time_zone": row.time_zone, "fields": sorted(mapped), "created_at": row.created_at,
            "last_pull": PullView.of(last) if last else None,
        })  # fmt: skip


class PullInput(RequestModel):
    """Which source to pull, and what to go on with although it looks suspicious."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": _SOURCE_ID}]})

    id: SourceId
    from_start: bool = Field(
        default=False, description="Pull everything once more, whatever the watermark says."
    )
    confirm_withdrawals: bool = Field(
        default=False, description="Go on although suspiciously many contacts would be withdrawn."
    )
    confirm_deletions: bool = Field(
        default=False, description="Go on although suspiciously many contacts would be marked left."
    )


SourcePage = Page[SourceView]
PullPage = Page[PullView]
