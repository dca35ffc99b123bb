"""A source of a million people in a PostgreSQL of its own: the first pull, nothing new, one in a thousand changed.

Yardsticks: rows read (none but those changed), the worker's memory above idle (64 MiB, whatever the
size), and the write calls of the sync after it, ceil(changed / 500). Beside the first pull the time of
a bare server-side cursor over the same query.

    python bench/bench_sources.py [--contacts N]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time

import asyncpg
from stage import MIB, Stage, say, stage, verdict

from mcsync.embedded import EmbeddedPostgres
from mcsync.features.sources import service
from mcsync.features.sources.schemas import PullInput, PullReport
from mcsync.features.sources.service import NewSource

QUERY = "select emp_no, mail, first_name, last_name, department, updated_at from people"
# one row in 400 seconds, so that the overlap of 300 holds no more than the newest one
_FILL = """
create table people as
select n as emp_no, 'person' || n || '@firm' || n % 977 || '.example' as mail,
       'First' || n % 5000 as first_name, 'Last' || n % 7000 as last_name, 'source' as department,
       now() - interval '1 hour' - ($1::int - n) * interval '400 seconds' as updated_at
from generate_series(1, $1::int) n
"""
_CHANGE = """
update people set first_name = 'Changed', updated_at = now() - interval '1 second'
where emp_no > $1::int - $2::int
"""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    count = parser.parse_args().contacts
    changed = count // 1000
    with EmbeddedPostgres(durable=False) as server:
        server.create_database("people")
        home = await asyncpg.connect(server.url("people"))
        await home.execute("set max_parallel_workers_per_gather = 0")
        await home.execute(_FILL.replace("$1", str(count)))
        await home.execute("create index on people (updated_at)")
        await home.execute("vacuum analyze people")
        say(f"{count:,} people in the organisation's own database")
        async with stage() as on:
            await _measure(on, home, server.url("people"), count, changed)
        await home.close()


async def _measure(on: Stage, home: asyncpg.Connection, url: str, count: int, changed: int) -> None:
    began = time.perf_counter()
    async with home.transaction():
        cursor = await home.cursor(QUERY)
        while await cursor.fetch(500):
            pass
    say(f"a bare cursor over all rows: {time.perf_counter() - began:.1f} s")
    given = NewSource(
        name="people", url=url, query=QUERY, mode="watermark", watermark_column="updated_at",
        columns={"entityId": "emp_no", "email": "mail"},
        constants={"entityType": "employee", "optStatus": "opted_in"},
    )  # fmt: skip
    source = await service.add(on.resources, on.actor, given)
    segment = await on.segment("source")
    idle = on.peak = on.memory()
    watching = asyncio.create_task(on.watch_memory())
    report, seconds, cpu = await _pull(on, source.id)
    assert (report.received, report.created) == (count, count), report
    say(f"first pull: {seconds:.1f} s, {count / seconds:,.0f} rows a second,"
        f" worker CPU {1e6 * cpu / count:.1f} microseconds a row")  # fmt: skip
    watching.cancel()
    verdict(f"worker memory above idle at {count:,} rows, MiB", (on.peak - idle) / MIB, 64,
            at_most=True)  # fmt: skip
    for _ in range(2):
        run = await on.sync(segment)
    say(f"synced: {run.counts.unchanged:,} members are as they should be")

    report, seconds, _ = await _pull(on, source.id)
    say(f"nothing new: {seconds:.2f} s")
    verdict("rows read of an unchanged source", report.received, 1, at_most=True)
    await home.execute(_CHANGE.replace("$1", str(count)).replace("$2", str(changed)))
    report, seconds, _ = await _pull(on, source.id)
    say(
        f"{changed:,} changed: {seconds:.2f} s, {report.received:,} read, {report.updated:,} updated"
    )
    verdict("rows read", report.received, changed, at_most=True)
    verdict("rows changed here", report.updated, changed)
    await on.reset_metrics()
    run = await on.sync(segment)
    calls = await on.sandbox("/metrics")
    assert run.counts.update == changed, run
    say(f"the sync after it: {calls['calls']} calls")
    verdict("write calls", calls["writeCalls"], math.ceil(changed / 500), at_most=True)


async def _pull(on: Stage, source_id: object) -> tuple[PullReport, float, float]:
    """Pulls in the worker; report, seconds, seconds of the worker's CPU."""
    began, cpu = time.perf_counter(), on.cpu()
    asked = await service.request_pull(
        on.resources, on.actor, PullInput.model_validate({"id": str(source_id)})
    )
    while True:
        view = await service.get_pull(on.resources, on.actor, asked.id)
        if view.status not in {"queued", "pulling"}:
            break
        await asyncio.sleep(0.05)
    assert view.status == "succeeded", view
    assert view.report is not None
    return view.report, time.perf_counter() - began, on.cpu() - cpu


if __name__ == "__main__":
    asyncio.run(main())
