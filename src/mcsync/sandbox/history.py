"""What happened: every effective change of a member and every API call, append-only. For tests to ask, not Mailchimp's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Change(NamedTuple):
    """One effective change of one member. `from_status` is "absent" for a creation, `to_status` "deleted" at the end."""

    seq: int
    at: float
    account_id: str
    list_id: str
    email: str
    from_status: str
    to_status: str
    kind: str
    """created, status, profile, tags, email, archived or deleted."""
    origin: str
    """api, person, admin, form or import."""
    via: str
    request_id: str


@dataclass(slots=True)
class Actor:
    """Who changes members, by what, when, within which request."""

    origin: str
    via: str
    at: float
    request_id: str = ""


@dataclass(slots=True)
class Call:
    """One API call, from its arrival to its answer; `status` 0 is a dropped connection."""

    seq: int
    at_start: float
    method: str
    path: str
    account_id: str
    key_last4: str
    in_flight: int
    at_end: float | None = None
    status: int | None = None
    members: int = 0
    fault: str = ""
    write: bool = False
    bulk: bool = False
    request_id: str = ""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class History:
    """The two logs. `seq` counts on over both, so that `since=<seq>` is exclusive and never ambiguous."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.calls: list[Call] = []
        self.seq = 0

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq


@dataclass(slots=True)
class Metrics:
    """Counters since the last reset; times are the sandbox's."""

    max_in_flight: int = 0
    calls: int = 0
    write_calls: int = 0
    refused: int = 0
    first_batch_at: float | None = None
    last_batch_end: float | None = None
    batch_calls: int = 0
    batch_members: int = 0

    def as_json(self, in_flight: int) -> dict[str, Any]:
        return {
            "maxInFlight": self.max_in_flight,
            "inFlight": in_flight,
            "calls": self.calls,
            "writeCalls": self.write_calls,
            "refused": self.refused,
            "firstBatchAt": self.first_batch_at,
            "lastBatchEnd": self.last_batch_end,
            "batchCalls": self.batch_calls,
            "batchMembers": self.batch_members,
        }
