"""Members in the order of their last change, in blocks, so that a page of a million rows costs microseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from .states import STATUSES

if TYPE_CHECKING:
    from .model import Member

BLOCK = 1024
_DEAD_ALLOWED = 65_536

Predicate = Callable[["Member"], bool]


class Block:
    """Up to 1,024 consecutive entries. A member that changes again leaves a hole and moves to the last block."""

    __slots__ = ("counts", "live", "members", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.members: list[Member | None] = []
        self.counts = [0] * len(STATUSES)
        self.live = 0

    @property
    def first(self) -> int:
        return self.times[0]

    @property
    def last(self) -> int:
        return self.times[-1]

    def matching(self, statuses: tuple[int, ...]) -> int:
        """How many live entries have one of the statuses."""
        counts = self.counts
        return sum(counts[status] for status in statuses)


@dataclass(slots=True, frozen=True)
class Window:
    """Which entries a listing is about: `after` < last_changed < `before`, both exclusive (MC 4.6)."""

    statuses: tuple[int, ...]
    after: int | None = None
    before: int | None = None

    def whole(self, block: Block) -> bool:
        return (self.after is None or block.first > self.after) and (
            self.before is None or block.last < self.before
        )

    def holds(self, second: int) -> bool:
        return (self.after is None or second > self.after) and (
            self.before is None or second < self.before
        )


class ChangeLog:
    """All members of an audience, oldest change first."""

    __slots__ = ("blocks", "dead", "live")

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.live = 0
        self.dead = 0

    def append(self, member: Member) -> None:
        """Put a member at the end; its `last_changed` must not be older than the last entry's."""
        blocks = self.blocks
        if not blocks or len(blocks[-1].times) >= BLOCK:
            blocks.append(Block())
        block = blocks[-1]
        member.block = block
        member.position = len(block.times)
        block.times.append(member.last_changed)
        block.members.append(member)
        block.counts[member.status] += 1
        block.live += 1
        self.live += 1

    def remove(self, member: Member) -> None:
        """Leave a hole where the member is; call before its status changes."""
        block = member.block
        block.members[member.position] = None
        block.counts[member.status] -= 1
        block.live -= 1
        self.live -= 1
        self.dead += 1
        if self.dead > self.live + _DEAD_ALLOWED:
            self._compact()

    def _compact(self) -> None:
        members = list(self._entries(self.blocks))
        self.blocks, self.live, self.dead = [], 0, 0
        for member in members:
            self.append(member)

    @staticmethod
    def _entries(blocks: list[Block]) -> Iterator[Member]:
        for block in blocks:
            for member in block.members:
                if member is not None:
                    yield member

    def _blocks(self, window: Window) -> list[Block]:
        """The blocks that can hold entries of the window, found by bisection."""
        first, last = 0, len(self.blocks)
        if window.after is not None:
            first = bisect_left(self.blocks, window.after + 1, key=attrgetter("last"))
        if window.before is not None:
            last = bisect_left(self.blocks, window.before, key=attrgetter("first"))
        return self.blocks[first:last]

    def count(self, window: Window) -> int:
        """Entries of the window: whole blocks by their counters, only the edges one by one."""
        total = 0
        for block in self._blocks(window):
            if window.whole(block):
                total += block.matching(window.statuses)
            else:
                total += len(_matching(block, window))
        return total

    def page(self, window: Window, offset: int, count: int, *, descending: bool) -> list[Member]:
        """`count` entries from `offset`, skipping whole blocks by their counters."""
        found: list[Member] = []
        blocks = self._blocks(window)
        for block in reversed(blocks) if descending else blocks:
            matching = block.matching(window.statuses)
            if not matching or (matching <= offset and window.whole(block)):
                offset -= matching
                continue
            rows = _matching(block, window)
            if descending:
                rows.reverse()
            found += rows[offset:]
            offset = max(0, offset - len(rows))
            if len(found) >= count:
                break
        return found[:count]

    def scan(self, window: Window, predicate: Predicate) -> list[Member]:
        """Every entry of the window that also meets the predicate: linear, for the rarer filters."""
        return [
            member
            for block in self._blocks(window)
            for member in _matching(block, window)
            if predicate(member)
        ]


def _matching(block: Block, window: Window) -> list[Member]:
    statuses = window.statuses
    return [
        member
        for member in block.members
        if member is not None and member.status in statuses and window.holds(member.last_changed)
    ]
