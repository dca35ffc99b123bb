"""The walk over members misses nobody, whatever changes meanwhile."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsync.mailchimp import (
    MailchimpTimeout,
    Member,
    MembersPage,
    Rows,
    ThrottledError,
    TransientError,
    iterate_members,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FakeList:
    """A list in memory that answers as Mailchimp does: exclusive since, ties by id."""

    def __init__(self, changed: dict[str, int]) -> None:
        self.changed = changed
        self.calls: list[tuple[datetime | None, int, int]] = []
        self.between: Callable[[int], None] = lambda _: None
        self.clip = 1000
        self.fail: Callable[[int], Exception | None] = lambda _: None
        self.count_total = True

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
        self.calls.append((since_last_changed, offset, count))
        assert len(self.calls) < 5000, "the walk does not end"
        error = self.fail(count)
        if error is not None:
            raise error
        rows = sorted(
            (second, name)
            for name, second in self.changed.items()
            if since_last_changed is None or at(second) > since_last_changed
        )
        shown = rows[offset : offset + min(count, self.clip)]
        page = MembersPage(
            members=Rows(Member(id=name, last_changed=at(second)) for second, name in shown),
            total_items=len(rows) if self.count_total else 0,
        )
        self.between(len(self.calls))
        return page


def at(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


async def walk(fake: FakeList, since: datetime | None = None, page_size: int = 1000) -> set[str]:
    return {
        member.id
        async for page in iterate_members(fake, "l", since=since, page_size=page_size)
        for member in page.members
    }


async def test_thousands_in_one_second_are_all_seen() -> None:
    names = {f"{n:05}": 100 for n in range(3456)} | {"early": 1, "late": 200}
    fake = FakeList(dict(names))
    assert await walk(fake) == set(names)
    assert len(fake.calls) < 10
    assert fake.calls[0] == (None, 0, 1000)


async def test_a_quiet_list_costs_one_call() -> None:
    fake = FakeList({"a": 5, "b": 9})
    assert await walk(fake, since=at(4)) == {"a", "b"}
    assert len(fake.calls) == 1


async def test_since_is_exclusive_and_an_empty_answer_ends() -> None:
    fake = FakeList({"a": 5})
    assert await walk(fake, since=at(5)) == set()
    assert len(fake.calls) == 1


async def test_a_server_that_clips_pages_is_followed_by_its_total() -> None:
    names = {f"{n:05}": n // 40 for n in range(300)}
    fake = FakeList(dict(names))
    fake.clip = 25
    assert await walk(fake) == set(names)


async def test_a_mass_change_inside_a_crowded_second_hides_nobody() -> None:
    names = {f"{n:05}": 100 for n in range(3000)}
    fake = FakeList(dict(names))

    def move(call: int) -> None:
        if call == 2:
            # All that was read so far moves away, far more than the overlap.
            for n in range(1900):
                fake.changed[f"{n:05}"] = 500

    fake.between = move
    assert await walk(fake) == set(names)


@pytest.mark.parametrize(
    "error", [TransientError(status=504), MailchimpTimeout("no answer in time")]
)
async def test_a_page_too_slow_is_asked_for_again_smaller(error: Exception) -> None:
    names = {f"{n:05}": n for n in range(600)}
    fake = FakeList(dict(names))
    fake.fail = lambda count: error if count > 250 else None
    assert await walk(fake) == set(names)
    assert [count for _, _, count in fake.calls[:3]] == [1000, 500, 250]


async def test_the_smallest_page_gives_up_and_so_does_other_trouble() -> None:
    fake = FakeList({"a": 1})
    fake.fail = lambda _: TransientError(status=504)
    with pytest.raises(TransientError):
        await walk(fake)
    assert [count for _, _, count in fake.calls] == [1000, 500, 250]
    fake.fail = lambda _: ThrottledError(status=429)
    with pytest.raises(ThrottledError):
        await walk(fake)


async def test_a_page_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="page_size"):
        await walk(FakeList({}), page_size=1)


@given(
    seconds=st.lists(st.integers(1, 4), max_size=60),
    page_size=st.integers(2, 12),
    since=st.none() | st.integers(0, 4),
    moves=st.lists(
        st.tuples(st.integers(1, 30), st.lists(st.integers(0, 59), max_size=40)), max_size=6
    ),
    count_total=st.booleans(),
)
@settings(max_examples=200, deadline=None)
async def test_whatever_changes_everybody_is_seen(
    seconds: list[int],
    page_size: int,
    since: int | None,
    moves: list[tuple[int, list[int]]],
    count_total: bool,
) -> None:
    names = {f"{n:03}": second for n, second in enumerate(seconds)}
    fake = FakeList(dict(names))
    fake.count_total = count_total
    script = dict(moves)

    def move(call: int) -> None:
        for n in script.get(call, ()):
            if f"{n:03}" in fake.changed:
                # Time goes on: a change is never older than what is in the list.
                fake.changed[f"{n:03}"] = max(fake.changed.values()) + call % 2

    fake.between = move
    seen = await walk(fake, None if since is None else at(since), page_size)
    assert {name for name, second in names.items() if since is None or second > since} <= seen
