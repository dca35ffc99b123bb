"""The running service: an unsubscribe made at Mailchimp is known within two seconds, or at the next poll."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import OVER, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ADA = {"entityType": "employee", "entityId": "E1"}
EMAIL = "ada@acme-works.com"


def until(done: Callable[[], bool], seconds: float) -> float:
    """Waits; answers how long it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


def furnish(stack: Stack) -> str:
    """A synced segment of one person; answers the audience."""
    list_id = str(stack.api.get("connection/listAudiences").json()["items"][0]["audienceId"])
    person = {**ADA, "email": EMAIL, "department": "Sales", "optStatus": "opted_in"}
    stack.api.post("contacts/upsert", json={"contacts": [person]}).raise_for_status()
    body = {"name": "Sales", "segmentType": "mixed", "audienceId": list_id}
    segment = stack.api.post("segments/create", json=body).raise_for_status().json()["id"]
    run = stack.api.post("segments/sync", json={"id": segment}).raise_for_status().json()["id"]

    def over() -> bool:
        return str(stack.api.get("segments/getRun", params={"id": run}).json()["status"]) in OVER

    until(over, 60)
    return list_id


def status(stack: Stack) -> Any:
    return stack.api.get("preferences/getForEntity", params=ADA).json()["status"]


def person(stack: Stack, list_id: str, act: str) -> None:
    body = {"email": EMAIL, "act": act}
    stack.control.post(f"/lists/{list_id}/person", json=body).raise_for_status()


def started(folder: Path, *options: str, **env: str) -> Stack:
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o711)  # PostgreSQL runs as another user when we are root
    return Stack(folder / "data", *options, env=env)


def test_with_a_public_url_it_is_known_within_two_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    # the second port option is the one that counts
    with started(tmp_path, "--port", str(port), MCSYNC_PUBLIC_URL=url) as stack:
        list_id = furnish(stack)

        def hooks() -> list[Any]:
            return list(stack.api.get("webhooks/list").json()["items"])

        until(lambda: [hook["status"] for hook in hooks()] == ["active"], 20)
        for _ in range(2):
            time.sleep(1.1)  # Mailchimp tells whole seconds
            person(stack, list_id, "unsubscribe")
            assert until(lambda: status(stack) == "opted_out", 10) < 2
            time.sleep(1.1)
            person(stack, list_id, "resubscribe_form")
            assert until(lambda: status(stack) == "opted_in", 10) < 2

        stack.api.post("connection/disconnect", json={}).raise_for_status()
        assert stack.control.get("/webhooks").json()["webhooks"] == []
        assert hooks()[0]["status"] == "removed"


def test_without_one_it_is_known_at_the_next_poll(tmp_path: Path) -> None:
    with started(tmp_path, MCSYNC_AUDIENCE_PULL_MINUTES="0.1") as stack:
        list_id = furnish(stack)
        time.sleep(1.1)
        person(stack, list_id, "unsubscribe")
        assert until(lambda: status(stack) == "opted_out", 30) < 15
        assert stack.control.get("/webhooks").json()["webhooks"] == []
        assert stack.api.get("webhooks/list").json()["items"] == []
