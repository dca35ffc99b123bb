"""What the webhooks' procedures take and answer, and the problems of the intake."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from mcsync.core.errors import McsyncError
from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import RequestModel, ResponseModel

AudienceId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="Mailchimp's id of the audience.",
        examples=["a1f0c3d2e4"],
    ),
]
WebhookStatus = Literal["missing", "active", "disabled", "error", "removed"]


class WebhookView(ResponseModel):
    """How mcsync hears of what happens in one audience, as of `checkedAt`. Neither URL nor secrets are shown."""

    audience_id: AudienceId
    audience_name: str
    status: WebhookStatus = Field(
        description="As of `checkedAt`. `missing`: about to be registered; `disabled`: Mailchimp stopped posting, it is being"
        " repaired; `error`: see `lastError`; `removed`: no segment uses the audience, or disconnected."
    )
    signed: bool = Field(description="Posts are signed, and refused without a valid signature.")
    waiting: int = Field(description="Posts that are stored and not worked on yet.")
    last_event_at: datetime | None
    checked_at: datetime | None = Field(
        description="When the watchdog last looked at Mailchimp. Null where it has not looked yet."
    )
    next_check_at: datetime | None = Field(
        description="When it looks next. Null where it does not: `removed`, or no public URL is set. What"
        " changes here (a connection, a segment, the public URL) is looked at within seconds."
    )
    last_error: str | None = Field(
        description="Why the last check failed, as a code: `url_not_verified` where Mailchimp cannot reach"
        " `MCSYNC_PUBLIC_URL`."
    )
    previous_until: datetime | None = Field(
        description="During a rotation: until when the address before is still accepted."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audienceId": "a1f0c3d2e4",
                    "audienceName": "All staff",
                    "status": "active",
                    "signed": True,
                    "waiting": 0,
                    "lastEventAt": "2026-11-23T09:12:40Z",
                    "checkedAt": "2026-11-23T09:10:02Z",
                    "nextCheckAt": "2026-11-23T09:25:02Z",
                    "lastError": None,
                    "previousUntil": None,
                }
            ]
        }
    )


class RotateInput(RequestModel):
    """Whose secret address is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"audienceId": "a1f0c3d2e4"}]})

    audience_id: AudienceId


class EndpointGoneError(McsyncError):
    """410: this address was in use once; Mailchimp stops posting to it when it is told so (MC 9)."""

    status: ClassVar[int] = 410
    default_code = "webhook_removed"
    title = "This webhook is not in use any more"


register_problem(
    "no_public_url",
    409,
    "Mailchimp has no way to us",
    "Set MCSYNC_PUBLIC_URL to the address under which Mailchimp reaches this service, and restart.",
)
register_problem(
    "webhook_removed",
    410,
    "This webhook is not in use any more",
    "The audience is not kept by this service any more; Mailchimp stops posting by itself.",
)
register_problem(
    "webhook_malformed",
    400,
    "This is not a post of this audience's webhook",
    "Only Mailchimp posts here: a form of at most 64 KiB about the audience of this address.",
)
register_problem(
    "webhook_signature",
    403,
    "The signature of the post is missing or wrong",
    "Posts of this webhook are signed by Mailchimp; see X-Mailchimp-Signature. Check the clock.",
)
register_problem(
    "webhook_not_found",
    404,
    "This audience has no webhook",
    "Webhooks are registered for audiences that a segment uses, where MCSYNC_PUBLIC_URL is set.",
)
