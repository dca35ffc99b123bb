"""5,000 tracked campaigns of 50 organisations refreshed by a worker.

Yardstick: the calls that the question itself asks for: one list call per 100 campaigns, and one report
call per campaign whose figures moved since the last round. Beside it: never more calls under way in an
account than its slots, nothing refused, and how long a round over all organisations takes at 100 ms a
call.

    python bench/bench_campaigns.py [--organisations N] [--campaigns N] [--latency MS]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from stage import Stage, say, stage, verdict
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import new_hash_key
from mcsync.features.connection import service as connection

HOUR = 3600
_LIST, _REPORT = re.compile(r"/campaigns(\?|$)"), re.compile(r"/reports(/|\?|$)")


_TRACK = """
insert into campaign_tracking (org_id, account_id, campaign_id, list_id, title, subject, type, status,
                               tracked_by)
select $1, $2, c, $3, '', '', 'regular', 'sent', 'manual' from unnest($4::text[]) c
"""


async def furnish(on: Stage, organisations: int, count: int) -> None:
    """Organisations with an account each and so many sent campaigns, one in ten of them young."""
    for number in range(organisations):
        key = f"{uuid4().hex}-us1"
        opened = await post(on, "/accounts", apiKey=key, name=f"Account {number}", lists=["People"])
        list_id = opened["lists"][0]["id"]
        org_id = uuid7()
        async with on.resources.db.transaction(org_id) as session:
            await session.execute(
                text("insert into organisations (id, name, hash_key) values (:id, :name, :key)"),
                {
                    "id": org_id, "name": f"Org {number}",
                    "key": new_hash_key(on.resources.keys, org_id),
                },
            )  # fmt: skip
        await connection.connect(on.resources, Actor.cli(org_id, "bench"), key)
        await post(on, f"/lists/{list_id}/seed", count=500)
        made = []
        for many, ago in ((count - count // 10, 25 * 24 * HOUR), (count // 10, 24 * HOUR)):
            answer = await post(
                on, "/campaigns", listId=list_id, count=many, status="sent", agoSeconds=ago
            )
            made += [one["id"] for one in answer["campaigns"]]
        await on.superuser.execute(_TRACK, org_id, opened["accountId"], list_id, made)


async def post(on: Stage, path: str, **body: Any) -> Any:
    return (await on.control.post(path, json=body)).raise_for_status().json()


async def round_over_all(on: Stage) -> float:
    """Every organisation's round now; answers the seconds until the last has finished."""
    began = time.perf_counter()
    await on.superuser.execute(
        "insert into campaign_refreshes (org_id, due_at, next_attempt_at)"
        " select org_id, now(), clock_timestamp() from mailchimp_connections"
        " on conflict (org_id) do update set next_attempt_at = clock_timestamp(), attempts = 0"
    )
    while await on.superuser.fetchval(
        "select count(*) from campaign_refreshes where next_attempt_at is not null"
    ):
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def figures(on: Stage) -> dict[str, Any]:
    found = await on.sandbox("/campaigns")
    return {one["id"]: one["figures"] for one in found["campaigns"]}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--organisations", type=int, default=50)
    parser.add_argument("--campaigns", type=int, default=100, help="of each organisation")
    parser.add_argument("--latency", type=float, default=100.0, help="milliseconds a call")
    given = parser.parse_args()
    whole = given.organisations * given.campaigns
    async with stage() as on:
        await furnish(on, given.organisations, given.campaigns)
        await on.configure(latency={"baseMs": given.latency})
        say(f"first round, all {whole:,} new: {await round_over_all(on):.1f} s")
        for hours in (1, 6, 0):
            before = await figures(on)
            if hours:
                await post(on, "/clock", advanceSeconds=hours * HOUR)
            await on.reset_metrics()
            seq = (await on.sandbox("/metrics/seq"))["seq"]
            cpu, seconds = on.cpu(), await round_over_all(on)
            calls = (await on.sandbox(f"/calls?since={seq}"))["calls"]
            lists = sum(1 for call in calls if _LIST.search(call["path"]))
            reports = sum(1 for call in calls if _REPORT.search(call["path"]))
            metrics = await on.sandbox("/metrics")
            after = await figures(on)  # they go on moving while they are read
            moved = sum(before[ident] != after[ident] for ident in after)
            say(
                f"{hours} h later, {moved:,} of {whole:,} moved: {seconds:.1f} s, {len(calls)} calls"
                f" ({lists} lists, {reports} reports), worker CPU {1000 * (on.cpu() - cpu):.0f} ms"
            )
            verdict("list calls", lists, -(-whole // 100), at_most=True)
            verdict("report calls", reports, moved, at_most=True)
            verdict("other calls", len(calls) - lists - reports, 0, at_most=True)
            verdict("calls refused by Mailchimp", metrics["refused"], 0, at_most=True)
        known = await on.superuser.fetch(
            "select campaign_id, unique_opens, clicks from campaign_tracking"
        )
        wrong = sum(
            not before[row["campaign_id"]][name] <= row[name] <= after[row["campaign_id"]][name]
            for row in known
            for name in ("unique_opens", "clicks")
        )
        verdict("campaigns with other figures than Mailchimp's", wrong, 0, at_most=True)


if __name__ == "__main__":
    asyncio.run(main())
