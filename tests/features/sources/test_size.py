"""Big sources in small memory. The full size is measured by ``bench/bench_sources.py``."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from tests.features.sources.world import World, tally

pytestmark = pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)

FILL = """
insert into people
with recursive n(i) as (select {first} union all select i + 1 from n where i < {last})
select i, 'p' || i || '@nordlicht.example', 'First' || i, 'D' || (i % 3),
       datetime('2026-11-01', '+' || (i * 30) || ' seconds') from n
"""


async def peak(world: World, first: int, last: int) -> int:
    await world.home.run(FILL.format(first=first, last=last))
    gc.collect()
    tracemalloc.start()
    report = await world.pulled(from_start=True)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report["received"] == last
    return highest


async def test_memory_does_not_grow_with_the_source(world: World) -> None:
    await world.source(mode="watermark", watermark_column="updated_at")
    await world.people([0])
    await world.home.run("delete from people")
    small = await peak(world, 1, 2_000)
    large = await peak(world, 2_001, 20_000)
    assert large < small + 1_000_000, (small, large)


async def test_only_the_changed_of_many_come(world: World) -> None:
    await world.home.run(FILL.format(first=1, last=20_000))
    await world.home.run("create index changed on people (updated_at)")
    await world.source(mode="watermark", watermark_column="updated_at", overlap=20)
    assert tally(await world.pulled()) == (20_000, 20_000, 0, 0, 0)
    await world.home.run(
        "update people set first = 'New', updated_at = datetime('2026-11-22', emp_no || ' seconds')"
        " where emp_no > 19980"
    )
    assert tally(await world.pulled()) == (20, 0, 20, 0, 0)
