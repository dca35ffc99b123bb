"""Opt-outs and opt-ins while a bulk push is running: from the call of updateOptStatus until Mailchimp has it.

The push holds every bulk slot all the time (300 ms + 2 ms a member a call; single calls take 300 ms).
Yardstick: 2 seconds, and beside it the latency of one such call.

    python bench/bench_live.py [--contacts N] [--people N]
"""

from __future__ import annotations

import argparse
import asyncio
import time

from stage import Stage, say, stage, verdict

from mcsync.features.preferences import service as preferences
from mcsync.features.preferences.schemas import OptStatusInput

BASE_MS, PER_MEMBER_MS = 300, 2


async def seconds_until(on: Stage, number: int, said: str, wanted: str) -> float:
    """Records what a person said, and waits until the member has the status wanted."""
    began = time.perf_counter()
    await preferences.update_opt_status(
        on.resources,
        on.actor,
        OptStatusInput.model_validate(
            {
                "entityType": "employee",
                "entityId": f"live{number}",
                "status": said,
                "source": "bench",
            }
        ),
    )
    email = f"live.person{number}@firm{number % 977}.example"
    while True:
        found = (await on.sandbox(f"/lists/{on.list_id}/members?email={email}"))["members"]
        if found and found[0]["status"] == wanted:
            return time.perf_counter() - began
        await asyncio.sleep(0.01)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=10)
    given = parser.parse_args()
    async with stage() as on:
        await on.contacts("live", 1_000)
        await on.superuser.execute(
            "delete from email_preferences where entity_id = any($1)",
            [f"live{n}" for n in range(1, given.people + 1)],
        )
        await on.sync(await on.segment("live"))
        await on.contacts("bulk", given.contacts)
        bulk = await on.segment("bulk")
        await on.configure(latency={"baseMs": BASE_MS, "perMemberMs": PER_MEMBER_MS})
        pushing = asyncio.create_task(on.sync(bulk))
        await asyncio.sleep(8)
        took: dict[str, list[float]] = {"opt-in": [], "opt-out": []}
        for number in range(1, given.people + 1):
            took["opt-in"].append(await seconds_until(on, number, "opted_in", "subscribed"))
            took["opt-out"].append(await seconds_until(on, number, "opted_out", "unsubscribed"))
        assert not pushing.done(), "the push was over too soon: ask for more contacts"
        for what, seconds in took.items():
            say(f"{what} during the push: median {sorted(seconds)[len(seconds) // 2]:.2f} s,"
                f" a call takes {BASE_MS / 1000} s")  # fmt: skip
            verdict(f"slowest {what}, seconds", max(seconds), 2, at_most=True)
        await pushing


if __name__ == "__main__":
    asyncio.run(main())
