"""The things the sandbox keeps: members, tags, merge fields. Slots everywhere: a list may hold a million (MC 3-7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import md5
from typing import TYPE_CHECKING, Any

from .states import STATUSES, By

if TYPE_CHECKING:
    from .changelog import Block

Value = Any
"""One merge value: text, number, address object, or "" where unset (MC 4.2)."""

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def ascii_lower(email: str) -> str:
    """Lowers A-Z only: one of the two readings of MC 4.1."""
    return email.translate(_ASCII_LOWER)


@lru_cache(maxsize=4096)
def digest(lower: str) -> bytes:
    """MD5 of the lowered address: the subscriber hash as 16 bytes, half the memory of its hex text.

    Remembered for a while, because one call asks for the same address several times.
    """
    return md5(lower.encode(), usedforsecurity=False).digest()


def fold_domain(email: str) -> str:
    """The address with its domain as A-labels, where it has such a form."""
    if email.isascii():
        return email
    local, at, domain = email.rpartition("@")
    try:
        return f"{local}{at}{domain.encode('idna').decode()}"
    except UnicodeError:
        return email


def unique_email_id(ident: str) -> str:
    """10 hex characters that follow the address, the same in every list (MC 4.1): every other one of the hash."""
    return ident[-1:-21:-2]


@dataclass(slots=True)
class Extras:
    """What few members have; kept apart so that the others stay small."""

    language: str = ""
    vip: bool = False
    email_type: str = "html"
    ip_signup: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    interests: dict[str, bool] = field(default_factory=dict)
    marketing_permissions: dict[str, bool] = field(default_factory=dict)
    mails: int = 0
    """Confirmation mails sent so far (MC 4.3: an identical `pending` sends none)."""


NO_EXTRAS = Extras()
"""Shared and never written to; `Member.own_extras` replaces it."""


class Member:
    """One contact of one audience (MC 4.2)."""

    __slots__ = (
        "block",
        "email",
        "extras",
        "former",
        "ip_opt",
        "last_changed",
        "merge",
        "position",
        "reason",
        "serial",
        "source",
        "status",
        "tags",
        "timestamp_opt",
        "timestamp_signup",
        "unsubscribed_by",
    )

    block: Block
    position: int

    def __init__(self, serial: int, email: str, status: int) -> None:
        self.serial = serial
        self.email = email
        self.status = status
        self.former = status
        self.unsubscribed_by = By.NOBODY
        self.reason = ""
        self.merge: tuple[Value, ...] = ()
        self.tags: tuple[Segment, ...] = ()
        self.timestamp_signup = 0
        self.timestamp_opt = 0
        self.last_changed = 0
        self.source = ""
        self.ip_opt = ""
        self.extras = NO_EXTRAS

    @property
    def by_person(self) -> bool:
        """The person left or complained: only the person can come back (MC 4.4)."""
        return self.unsubscribed_by is By.PERSON

    def own_extras(self) -> Extras:
        """Extras that may be written to."""
        if self.extras is NO_EXTRAS:
            self.extras = Extras()
        return self.extras


@dataclass(slots=True, eq=False)
class MergeField:
    """A merge field (MC 5); `column` is its place in `Member.merge`."""

    merge_id: int
    tag: str
    name: str
    type: str
    column: int
    required: bool = False
    default_value: str = ""
    public: bool = False
    display_order: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    help_text: str = ""


class Segment:
    """A segment; a static one is a tag and its id is the tag's id (MC 4.7, 7)."""

    __slots__ = (
        "counts",
        "created_at",
        "id",
        "members",
        "name",
        "options",
        "snapshot",
        "static",
        "updated_at",
    )

    def __init__(
        self, ident: int, name: str, *, created_at: int, options: dict[str, Any] | None = None
    ) -> None:
        self.id = ident
        self.name = name
        self.static = options is None
        self.options = options
        self.created_at = created_at
        self.updated_at = created_at
        self.members: dict[Member, int] = {}
        """Who carries the tag, with the second it was put on."""
        self.counts = [0] * len(STATUSES)
        self.snapshot: tuple[tuple[int, ...], list[Member]] | None = None
        """Members of the last listing, so that paging costs no scan per page; dropped by every change."""

    def put(self, member: Member, second: int) -> None:
        self.members[member] = second
        self.counts[member.status] += 1
        self.snapshot = None

    def take(self, member: Member) -> None:
        del self.members[member]
        self.counts[member.status] -= 1
        self.snapshot = None

    def restatus(self, old: int, new: int) -> None:
        self.counts[old] -= 1
        self.counts[new] += 1
        self.snapshot = None

    def listing(self, statuses: tuple[int, ...]) -> list[Member]:
        """Members with one of the statuses, oldest carrier first."""
        if self.snapshot is None or self.snapshot[0] != statuses:
            self.snapshot = (statuses, [each for each in self.members if each.status in statuses])
        return self.snapshot[1]

    def count(self, statuses: tuple[int, ...]) -> int:
        return sum(self.counts[status] for status in statuses)
