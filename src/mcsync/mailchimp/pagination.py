"""Reading all members while they change (MC 4.6).

Mailchimp has no cursor, and under plain offset paging a member that changes moves to the
end, pulls the others forward and so hides one of them. This walk asks again and again for
the oldest changes after a moment that it moves forward itself. `since_last_changed` is
exclusive at one second's grain, so each page begins one second before the last row seen and
repeats some rows; nothing is skipped, the caller drops what it has seen.

Where one second holds more rows than a page, only an offset gets through it. Pages then
overlap, and a page that shows none of the rows before it (so many moved away that others
may have slipped past) is stepped back from.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mcsync.mailchimp.errors import MailchimpTimeout, TransientError
from mcsync.mailchimp.types.member import Member, MembersPage

OVERLAP = 100
"""Rows that two pages inside one second share."""
_SMALLER = (500, 250)
_GATEWAY_TIMEOUT = 504
# A server that shows ties in a new order each time would never show a known row; after so
# many steps back in one second the walk goes on regardless.
_MOST_STEPS_BACK = 64
_SECOND = timedelta(seconds=1)


class MemberPages(Protocol):
    """What the walk needs of the client."""

    async def members_page(
        self,
        list_id: str,
        *,
        count: int = 1000,
        offset: int = 0,
        status: str | None = None,
        since_last_changed: datetime | None = None,
        fields: Sequence[str] | None = None,
    ) -> MembersPage:
        """Return one page, oldest change first."""
        ...


@dataclass(slots=True)
class _Crowd:
    """Where the walk is inside one second: rows passed, and the last page's ids."""

    offset: int = 0
    passed: int = 0
    overlap: int = 0
    seen: frozenset[tuple[str, datetime | None]] = frozenset()
    steps_back: int = 0


async def iterate_members(
    client: MemberPages,
    list_id: str,
    *,
    since: datetime | None,
    status: str | None = None,
    page_size: int = 1000,
    fields: Sequence[str] | None = None,
) -> AsyncIterator[MembersPage]:
    """Yield pages, oldest change first, until every member was shown at least once.

    `since` is exclusive; None reads all. Members may come more than once, and a member that
    changes during the walk comes again at the end. `fields` must include `id` and
    `last_changed`. A page that ends in a 504 or a time-out is asked for again at 500 rows,
    then at 250. Rows that could not be read are counted by `members.unreadable` of their page,
    which may have no others. Raises `ValueError` for a page size below 2, and `MailchimpError`;
    an answer without an array of members is a `TransientError`, never an empty list.
    """
    if page_size < 2:
        message = "page_size must be at least 2"
        raise ValueError(message)
    walk = _Walk(client, list_id, status, page_size, fields)
    crowd = _Crowd()
    while True:
        page = await walk.page(since, crowd.offset)
        if page.members.raw:
            yield page
        if crowd.offset and not walk.is_contiguous(page, crowd):
            walk.step_back(crowd)
            continue
        if walk.is_last(page, crowd):
            return
        start = _restart(page.members)
        if start is not None and (since is None or start > since):
            since, crowd = start, _Crowd()
        else:
            walk.go_on(page, crowd)


class _Walk:
    def __init__(
        self,
        client: MemberPages,
        list_id: str,
        status: str | None,
        page_size: int,
        fields: Sequence[str] | None,
    ) -> None:
        self._client = client
        self._list_id = list_id
        self._status = status
        self._size = page_size
        self._fields = fields

    async def page(self, since: datetime | None, offset: int) -> MembersPage:
        while True:
            try:
                page = await self._client.members_page(
                    self._list_id,
                    count=self._size,
                    offset=offset,
                    status=self._status,
                    since_last_changed=since,
                    fields=self._fields,
                )
                if page.members.told or page.total_items == 0:
                    return page
                message = "an answer without members"
                raise TransientError(message)
            except TransientError as error:
                late = isinstance(error, MailchimpTimeout) or error.status == _GATEWAY_TIMEOUT
                smaller = next((size for size in _SMALLER if size < self._size), None)
                if not late or smaller is None:
                    raise
                self._size = smaller

    def is_contiguous(self, page: MembersPage, crowd: _Crowd) -> bool:
        """Whether a row of the page before is here: then none before it was skipped."""
        if crowd.steps_back >= _MOST_STEPS_BACK:
            return True
        return not crowd.seen.isdisjoint(_versions(page))

    def is_last(self, page: MembersPage, crowd: _Crowd) -> bool:
        passed = crowd.offset + page.members.raw
        if not page.members.raw:
            return True
        # A short page ends the walk, unless the server cut it short itself: then it counts
        # more rows than it has shown, and going on shows more.
        short = page.members.raw < self._size
        return short and (
            passed >= (page.total_items or 0) or (crowd.offset > 0 and passed <= crowd.passed)
        )

    def go_on(self, page: MembersPage, crowd: _Crowd) -> None:
        crowd.passed = crowd.offset + page.members.raw
        crowd.overlap = max(1, min(OVERLAP, page.members.raw // 2))
        crowd.offset = crowd.passed - crowd.overlap
        crowd.seen = frozenset(_versions(page))

    def step_back(self, crowd: _Crowd) -> None:
        crowd.steps_back += 1
        crowd.overlap *= 2
        crowd.offset = max(0, crowd.passed - crowd.overlap)


def _versions(page: MembersPage) -> list[tuple[str, datetime | None]]:
    # With the time of its change: a row that changed meanwhile is at the end, and says
    # nothing about the rows between.
    return [(member.id or member.email_address, member.last_changed) for member in page.members]


def _restart(members: Sequence[Member]) -> datetime | None:
    last = members[-1].last_changed if members else None
    return None if last is None else last.replace(microsecond=0) - _SECOND
