"""What Mailchimp refused for an address, in words a support person can act on.

The records stand a floor above (``audiences``); ``app.py`` hands in who reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, Self
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from mcsync.core.web.schemas import ResponseModel, Timestamp

OUTLOOK: Final = {
    "forgotten": "Deleted for good at Mailchimp: never sent again, whatever consent is recorded here."
    " Only the person can come back, through one of the audience's own signup forms.",
    "fake": "Mailchimp takes the address for made up: it is not sent again. Correct it at its source.",
    "invalid_address": "Mailchimp takes no such address: it is not sent again. Correct it at its source.",
    "cleaned": "Mail to this address bounced: it is not sent again, and no opt-in changes that. Use"
    " another address.",
    "compliance": "The person unsubscribed, or Mailchimp reviews the address: it is not sent again"
    " until a newer opt-in of the person is recorded.",
    "unsubscribed": "The person unsubscribed: they are not sent again until a newer opt-in is recorded,"
    " and are then asked by Mailchimp to confirm.",
    "throttled": "The address signed up to too many lists lately: it is tried again by itself after 5"
    " minutes, then after 1, 2 and 7 days.",
    "exists": "Mailchimp says that the address is a member already, and shows no such member: it is not sent"
    " again until something about the contact changes.",
    "archived": "The member was archived at Mailchimp, not by mcsync: it is left alone.",
    "rename_refused": "The address could not be changed in place: the new one was added instead.",
    "not_accounted": "Mailchimp's answer did not mention the address: the next sync tries again.",
    "required_field_missing": "A field that the audience requires is empty: sent again once the"
    " contact has it, or audiences.setMergeFields feeds it.",
    "incomplete_address": "A postal address is not complete: sent again once the contact has all of it.",
    "invalid_value": "A field has a value that Mailchimp does not take: sent again once it changed.",
}
"""What follows from a refusal, by its code."""

_OTHER: Final = "Sent again once something about the contact changes."

REFUSAL: Final[JsonDict] = {
    "audienceId": "a1f0c3d2e4",
    "audienceName": "All staff",
    "code": "throttled",
    "message": "(the address) has signed up to a lot of lists very recently; we're not allowing more"
    " signups for now",
    "field": None,
    "attempts": 2,
    "firstSeenAt": "2026-11-23T09:00:02Z",
    "lastSeenAt": "2026-11-23T09:05:03Z",
    "nextTryAt": "2026-11-24T09:05:03Z",
    "outlook": OUTLOOK["throttled"],
}


class RefusalView(ResponseModel):
    """What Mailchimp last refused for an address in one audience."""

    model_config = ConfigDict(json_schema_extra={"examples": [REFUSAL]})

    audience_id: str
    audience_name: str
    code: str = Field(description="Stable; decide by it.")
    message: str = Field(description="Mailchimp's words, without the address.")
    field: str | None = Field(description="The merge field it is about, if it is about one.")
    attempts: int = Field(description="How often it was refused for this reason.")
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    next_try_at: Timestamp | None = Field(
        description="When a sync sends it again by itself; null: not before something changes."
    )
    outlook: str = Field(description="What follows from it, and what can be done.")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a stored refusal with its audience's ``list_id`` and ``name``."""
        return cls(
            audience_id=row["list_id"], audience_name=row["name"], code=row["code"],
            message=row["message"], field=row["field"], attempts=row["attempts"],
            first_seen_at=row["first_seen_at"], last_seen_at=row["last_seen_at"],
            next_try_at=row["next_try_at"], outlook=OUTLOOK.get(row["code"], _OTHER),
        )  # fmt: skip


class RefusalReader(Protocol):
    """Reads what was refused for an address, in every audience."""

    async def __call__(self, address_hash: UUID) -> list[RefusalView]: ...
