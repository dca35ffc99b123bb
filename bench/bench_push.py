"""The initial push against the sandbox with 300 ms + 2 ms a member a call, and 8 bulk slots.

Yardstick: the theoretical limit of the slots, ceil(N / 500) calls / 8 slots x 1.3 s, against the time
from the first to the last batch call as the sandbox saw it. Also: worker CPU per contact, and the
worker's memory at several sizes (the larger ones without latency).

    python bench/bench_push.py [--contacts N] [--sizes 10000,100000]
"""

from __future__ import annotations

import argparse
import asyncio
import math
from contextlib import suppress

from stage import MIB, Stage, say, stage, verdict

SLOTS, BASE_MS, PER_MEMBER_MS, CHUNK = 8, 300, 2, 500


async def push(on: Stage, count: int, *, latency: bool) -> None:
    name = f"push{count}{'slow' if latency else 'fast'}"
    await on.contacts(name, count)
    segment = await on.segment(name)
    await on.configure(
        latency={"baseMs": BASE_MS, "perMemberMs": PER_MEMBER_MS} if latency
        else {"baseMs": 0, "perMemberMs": 0}
    )  # fmt: skip
    await on.reset_metrics()
    idle, cpu = on.memory(), on.cpu()
    on.peak = idle
    watching = asyncio.create_task(on.watch_memory())
    run = await on.sync(segment)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    spent = on.cpu() - cpu
    metrics = await on.sandbox("/metrics")
    assert run.counts.done == count, run
    seconds = metrics["lastBatchEnd"] - metrics["firstBatchAt"]
    say(
        f"{count:,} contacts{' with latency' if latency else ''}: {seconds:.2f} s from first to last"
        f" batch call, {metrics['batchCalls']} calls, {count / seconds:,.0f} contacts/s,"
        f" at most {metrics['maxInFlight']} in flight"
    )
    verdict("worker CPU, microseconds a contact", 1e6 * spent / count, 40, at_most=True)
    verdict("worker memory above idle, MiB", (on.peak - idle) / MIB, 64, at_most=True)
    if latency:
        call = (BASE_MS + PER_MEMBER_MS * CHUNK) / 1000
        limit = math.ceil(count / CHUNK) / SLOTS * call
        verdict(f"share of the slots' limit ({limit:.2f} s)", limit / seconds, 0.95)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--sizes", default="10000,100000")
    given = parser.parse_args()
    async with stage() as on:
        await push(on, 2_000, latency=False)  # warm: imports, pools, prepared statements
        await push(on, given.contacts, latency=True)
        for size in given.sizes.split(","):
            await push(on, int(size), latency=False)


if __name__ == "__main__":
    asyncio.run(main())
