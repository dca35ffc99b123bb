"""Redis goes away while a run is asked for: no worker ends, and the run goes on by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.installation import Installation


@pytest.mark.chaos
@pytest.mark.timeout(200)
def test_workers_outlive_redis_and_find_work_without_it(tmp_path: Path) -> None:
    with Installation(tmp_path, apis=1, workers=2) as there:
        list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
        there.import_csv(
            ["entityType,entityId,email,optStatus,consentSource,consentGivenAt",
             *(f"employee,E{n},e{n}@acme-works.com,opted_in,form,2026-01-01T00:00:00Z" for n in range(20))]
        )  # fmt: skip
        segment = there.mutate(
            "segments.create", name="All", segmentType="employee", audienceId=list_id
        )
        there.redis.stop()
        run_id = there.mutate("segments.sync", id=segment["id"])["id"]
        there.mutate(
            "preferences.updateOptStatus", entityType="employee", entityId="E7",
            status="opted_out", source="e-mail",
        )  # fmt: skip
        while there.query("segments.getRun", id=run_id)["status"] == "queued":
            time.sleep(0.1)  # found in PostgreSQL, since nobody can ring
        assert there.members(list_id) == {}, "nobody calls Mailchimp without a slot"
        there.redis.start()
        run = there.wait_for_run(run_id, seconds=120)
        assert run["status"] == "succeeded"
        assert [worker.running for worker in there.workers] == [True, True]
        subscribed = {k for k, v in there.members(list_id).items() if v["status"] == "subscribed"}
        assert subscribed == {f"e{n}@acme-works.com" for n in range(20) if n != 7}
