"""What the sandbox's control API takes and answers."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

PersonAct = Literal[
    "subscribe_form",
    "resubscribe_form",
    "confirm",
    "unsubscribe",
    "abuse",
    "bounce",
    "change_email",
    "update_profile",
]
AdminAct = Literal[
    "unsubscribe",
    "archive",
    "delete_permanent",
    "subscribe",
    "untag",
    "tag",
    "edit",
    "pending_lapse",
]


class ListRef(TypedDict):
    """An audience."""

    id: str
    name: str


class AccountRef(TypedDict):
    """An account with its key as it is now."""

    apiKey: str
    accountId: str
    name: str
    lists: list[ListRef]


class OpenedAccount(TypedDict):
    """Answer to a new account or another key."""

    accountId: str
    lists: list[ListRef]


class InternalMember(TypedDict):
    """A member as the sandbox holds it. Unset times are ""."""

    id: str
    contactId: str
    email: str
    emailAddress: str
    status: str
    formerStatus: str | None
    unsubscribedBy: Literal["person", "admin", "api"] | None
    unsubscribeReason: str | None
    mergeFields: dict[str, Any]
    tags: list[str]
    source: str
    timestampSignup: str
    timestampOpt: str
    lastChanged: str
    ipSignup: str
    ipOpt: str
    marketingPermissions: dict[str, bool]
    confirmationMails: int
    language: str
    vip: bool


class HistoryEntry(TypedDict):
    """One effective change of one member."""

    seq: int
    at: float
    account_id: str
    list_id: str
    email: str
    from_status: str
    to_status: str
    kind: Literal["created", "status", "profile", "tags", "email", "archived", "deleted"]
    origin: Literal["api", "person", "admin", "form", "import"]
    via: str
    request_id: str


class CallEntry(TypedDict):
    """One API call; `at_end` and `status` are None while it is in flight, `status` 0 is a dropped connection."""

    seq: int
    at_start: float
    at_end: float | None
    method: str
    path: str
    account_id: str
    key_last4: str
    status: int | None
    members: int
    in_flight: int
    fault: str
    write: bool
    bulk: bool
    request_id: str


class SandboxMetrics(TypedDict):
    """Counters since the last reset of the metrics; `refused` counts the 429s of the connection limit."""

    maxInFlight: int
    inFlight: int
    calls: int
    writeCalls: int
    refused: int
    firstBatchAt: float | None
    lastBatchEnd: float | None
    batchCalls: int
    batchMembers: int


class DumpEntry(TypedDict):
    """One line of a dump."""

    email: str
    status: str
    tags: list[str]
    mergeFields: dict[str, Any]


class HookEntry(TypedDict):
    """A webhook as the sandbox holds it."""

    id: str
    listId: str
    url: str
    events: dict[str, bool]
    sources: dict[str, bool]
    signingEnabled: bool
    signingSecret: str | None
    disabled: str | None
    losses: int


class AttemptEntry(TypedDict):
    """One try to deliver a post; `at` is the host's time, `status` 0 is no answer."""

    at: float
    status: int
    seconds: float
    signature: str | None
    answer: str


class DeliveryEntry(TypedDict):
    """One post to one webhook; `repeats` is the `seq` of the delivery that it is a copy of."""

    seq: int
    webhookId: str
    listId: str
    url: str
    type: str
    email: str
    body: str
    state: Literal["pending", "held", "delivered", "lost", "dropped"]
    repeats: int | None
    attempts: list[AttemptEntry]
