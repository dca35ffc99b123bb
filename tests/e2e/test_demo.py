"""``mcsync demo``: the acceptance of everything together, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

ELSEWHERE = {
    "MCSYNC_DATABASE_URL": "no url at all",
    "MCSYNC_MASTER_KEYS": "neither keys",
    "MCSYNC_SLOTS_PER_ACCOUNT": "99",
    "MCSYNC_LOG_LEVEL": "SHOUT",
    "MCSYNC_ORG": "Somebody else",
    "MCSYNC_ODD": "1",
}
"""A shell that is set up for another installation, and badly."""


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_comes_true() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcsync", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=230,
        env=dict(os.environ) | ELSEWHERE,
    )
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert len(story["runs"]) == 6
    assert story["writtenAfterChanges"] == 6
    assert story["mail"] == {"status": "submitted", "recipient": "sent"}
    assert {run["status"] for run in story["runs"]} <= {"succeeded", "succeeded_with_errors"}
    assert story["pulled"] == {"received": 3, "created": 3}
    early, late = story["campaign"]["openRates"]
    assert early < late
