"""A segment that is already synced: none of its contacts changed, then one in a thousand.

Yardsticks: write calls, which follow from what changed (0, then ceil(changed / 500)), and for the
unchanged run 3 s; beside it the time of a plain ``select count(*)`` over the same contacts. The run
after the push reads our own writes back, when the pull's overlap has passed; those after it are measured.

    python bench/bench_delta.py [--contacts N]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time

from stage import MIB, say, stage, verdict

from mcsync.features.sync.schemas import RunView


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    count = parser.parse_args().contacts
    async with stage() as on:
        await on.contacts("delta", count)
        segment = await on.segment("delta")
        idle = on.peak = on.memory()
        watching = asyncio.create_task(on.watch_memory())
        run: RunView | None = None
        for what in ("initial push", "run that reads it back"):
            if run is not None:  # as it would be a day later: what the push changed is settled
                await asyncio.sleep(1 + on.resources.settings.pull_overlap_seconds)
            began, cpu = time.perf_counter(), on.cpu()
            run = await on.sync(segment)
            say(
                f"{what}: {time.perf_counter() - began:.1f} s, {run.calls} write calls, worker CPU"
                f" {1e6 * (on.cpu() - cpu) / count:.1f} microseconds a contact"
            )
        watching.cancel()
        verdict(f"worker memory above idle at {count:,}, MiB", (on.peak - idle) / MIB, 64,
                at_most=True)  # fmt: skip

        for _ in range(2):
            await on.reset_metrics()
            began = time.perf_counter()
            run = await on.sync(segment)
            seconds = time.perf_counter() - began
            calls = await on.sandbox("/metrics")
            say(f"unchanged: {seconds:.2f} s, {calls['calls']} calls, {calls['writeCalls']} of them"
                f" write calls; unchanged {run.counts.unchanged:,}")  # fmt: skip
        verdict("write calls", calls["writeCalls"], 0, at_most=True)
        verdict("seconds of the unchanged run", seconds, 3, at_most=True)
        began = time.perf_counter()
        await on.superuser.fetchval("select count(*) from contacts where department = 'delta'")
        say(f"a bare count of the same contacts: {time.perf_counter() - began:.2f} s")

        changed = count // 1000
        await on.superuser.execute(
            "update contacts set first_name = 'Changed', updated_at = now(), version = version + 1"
            " where id in (select id from contacts limit $1)",
            changed,
        )
        await on.reset_metrics()
        began = time.perf_counter()
        run = await on.sync(segment)
        calls = await on.sandbox("/metrics")
        say(f"{changed:,} changed: {time.perf_counter() - began:.2f} s, {calls['calls']} calls")
        assert run.counts.update == changed, run
        verdict("write calls", calls["writeCalls"], math.ceil(changed / 500), at_most=True)


if __name__ == "__main__":
    asyncio.run(main())
