"""The installation that every drill begins with serves, and works."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.installation import Installation


def test_an_installation_syncs(tmp_path: Path) -> None:
    with Installation(tmp_path, apis=2, workers=2) as there:
        assert there.ready(0).json()["status"] == there.ready(1).json()["status"] == "ok"
        list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
        there.import_csv(
            ["entityType,entityId,email,optStatus,consentSource,consentGivenAt",
             *(f"employee,E{n},e{n}@acme-works.com,opted_in,form,2026-01-01T00:00:00Z" for n in range(20))]
        )  # fmt: skip
        segment = there.mutate(
            "segments.create", name="All", segmentType="employee", audienceId=list_id
        )
        preview = json.loads(
            there.command("segments", "preview", "All", "--sample", "3", "--json").stdout
        )
        assert preview["byReason"] == {"add": {"new": 20}}
        assert len(preview["sample"]) == 3
        assert "new" in there.command("segments", "preview", "All").stdout
        run = there.wait_for_run(there.mutate("segments.sync", id=segment["id"])["id"], seconds=60)
        assert (run["status"], run["counts"]["done"]) == ("succeeded", 20)
        assert len(there.members(list_id)) == 20
        assert [process.stop() for process in there.workers] == [0, 0]
