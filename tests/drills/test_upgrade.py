"""The schema is brought forward while a worker pushes; a process that is ahead of its schema serves nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command

from mcsync.core.db import migrations
from tests.support.installation import DATABASE, Installation, until
from tests.support.stack import OVER

COUNT = 3000
BEFORE = "0015_one_mailbox"


@pytest.mark.chaos
def test_a_push_goes_on_while_the_database_is_migrated(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=1, env={"MCSYNC_SLOTS_PER_ACCOUNT": "1"}) as there:
        owner = there.postgres.url(DATABASE)
        list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
        there.import_csv(
            ["entityType,entityId,email,optStatus,consentSource,consentGivenAt",
             *(f"employee,E{n},e{n}@acme-works.com,opted_in,form,2026-01-01T00:00:00Z"
               for n in range(COUNT))]
        )  # fmt: skip
        segment = there.mutate(
            "segments.create", name="All", segmentType="employee", audienceId=list_id
        )
        command.downgrade(migrations.config(owner), BEFORE)
        assert there.ready().status_code == 503
        assert there.ready().json()["migrations"] == "behind"

        there.configure(latency={"baseMs": 2000, "perMemberMs": 5})
        run = there.mutate("segments.sync", id=segment["id"])["id"]
        until(
            lambda: there.query("segments.getRun", id=run)["counts"]["done"] > 0,
            "the push has begun", seconds=120,
        )  # fmt: skip
        assert migrations.upgrade(owner) == migrations.head()
        assert there.query("segments.getRun", id=run)["status"] not in OVER, "migrated meanwhile"
        assert there.ready().json()["status"] == "ok"
        there.configure(latency={"baseMs": 0, "perMemberMs": 0})
        over = there.wait_for_run(run, seconds=300)
        assert (over["status"], over["counts"]["done"]) == ("succeeded", COUNT)
        assert len(there.members(list_id)) == COUNT
        assert [process.running for process in there.processes] == [True, True]
        for process in there.processes:
            assert [e for e in process.events() if e.get("level") == "error"] == []
