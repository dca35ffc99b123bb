"""What the connection's procedures take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.mailchimp import KEY_PATTERN

ConnectionStatus = Literal["connected", "needs_attention", "disconnected"]
SyncStatus = Literal["idle", "syncing", "error"]


def _key_form(value: SecretStr) -> SecretStr:
    if KEY_PATTERN.fullmatch(value.get_secret_value()) is None:
        message = (
            "this is not a Mailchimp API key: 20 to 64 letters and digits, a dash, and the data"
            " centre such as us21"
        )
        raise ValueError(message)
    return value


ApiKey = Annotated[
    SecretStr,
    AfterValidator(_key_form),
    Field(
        description="A Mailchimp Marketing API key. It is verified, stored encrypted, never shown again.",
        json_schema_extra={"pattern": KEY_PATTERN.pattern},
    ),
]


class ConnectInput(RequestModel):
    """The key to connect with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"apiKey": "0123456789abcdef0123456789abcdef-us21"}]}
    )

    api_key: ApiKey


class ConnectionView(ResponseModel):
    """The link to the Mailchimp account, without its key."""

    id: UUID
    status: ConnectionStatus = Field(
        description="`needs_attention`: Mailchimp refuses the key, all syncing stands still; `statusDetail`"
        " says what to do. `disconnected` only in the answer of connection.disconnect."
    )
    status_code: str | None
    status_detail: str | None
    account_id: str = Field(description="Mailchimp's id of the account.")
    account_name: str
    data_centre: str = Field(description="Mailchimp's data centre, such as `us21`.")
    key_last4: str = Field(description="The last four characters of the key's secret part.")
    connected_at: datetime
    verified_at: datetime = Field(description="When the stored key was last verified and stored.")
    sync_status: SyncStatus = Field(
        description="`syncing` while any segment is; else `error` while any segment shows one."
    )
    track_new_campaigns: bool = Field(
        description="New campaigns are tracked by themselves; see campaigns.setAutoTracking."
    )
    soft_deleted_at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10",
                    "status": "connected",
                    "statusCode": None,
                    "statusDetail": None,
                    "accountId": "8d3a3db4d97663a9074efcc16",
                    "accountName": "Freddie's Jobs",
                    "dataCentre": "us21",
                    "keyLast4": "9f0a",
                    "connectedAt": "2026-11-23T09:12:44Z",
                    "verifiedAt": "2026-11-23T09:12:44Z",
                    "syncStatus": "idle",
                    "trackNewCampaigns": False,
                    "softDeletedAt": None,
                }
            ]
        }
    )


register_problem(
    "api_key_refused",
    400,
    "Mailchimp does not accept this API key",
    "Make a new key at Mailchimp (Account, Extras, API keys) and copy it whole.",
)
register_problem(
    "api_key_unreadable",
    409,
    "The stored API key cannot be opened",
    "Give the key again with connection.connect, or ask the operator for `mcsync keys doctor`.",
)
