"""The demo's later chapters: a source, and a campaign whose rates move."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from mcsync.cli.tables import make_table

HOURS_LATER = 6
"""The sandbox's clock is moved on so far, so that opens and clicks come in."""
WAIT_SECONDS = 30.0
NEWCOMERS = (
    ("N-1", "amal.haddad@nordlicht-werke.example", "Amal", "Haddad", "2026-11-20T08:00:00Z"),
    ("N-2", "joão.pires@nordlicht-werke.example", "João", "Pires", "2026-11-21T09:30:00Z"),
    ("N-3", "li.wei@nordlicht-werke.example", "伟", "李", "2026-11-22T10:15:00Z"),
)


class MoreError(RuntimeError):
    """Something of these chapters did not come true."""


class More:
    """Chapters that use the API alone, the sandbox for what people do, and the command line once."""

    def __init__(
        self,
        console: Console,
        get: Callable[..., Any],
        post: Callable[[str, dict[str, Any]], Any],
        mailchimp: httpx.Client,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._console = console
        self._get = get
        self._post = post
        self._mailchimp = mailchimp
        self._environment = environment
        self._folder = folder

    def play(self, list_id: str) -> dict[str, Any]:
        """All of them; answers the numbers. Raises :class:`MoreError`."""
        return {
            "pulled": self._source(),
            "campaign": self._campaign(list_id),
        }

    def _source(self) -> dict[str, int]:
        self._title("New people from a database of their own (SQLite)")
        database = self._folder / "people.sqlite"
        with sqlite3.connect(database) as people:
            people.execute("create table staff (no, mail, first, last, changed)")
            people.executemany("insert into staff values (?, ?, ?, ?, ?)", NEWCOMERS)
        people.close()
        command = [
            sys.executable, "-m", "mcsync", "sources", "add", "people", "--json",
            "--mode", "watermark", "--watermark", "changed",
            "--query", "select no, mail, first, last, changed from staff",
            "--map", "entityId=no", "--map", "email=mail", "--map", "firstName=first",
            "--map", "lastName=last", "--set", "entityType=employee",
        ]  # fmt: skip
        added = subprocess.run(
            command,
            env={**self._environment, "MCSYNC_SOURCE_URL": f"sqlite:///{database}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if added.returncode:
            message = f"mcsync sources add failed: {added.stderr[-300:] or added.stdout[-300:]}"
            raise MoreError(message)
        source = json.loads(added.stdout)
        started = self._post("sources/pull", {"id": source["id"]})
        pull = self._until(
            lambda: self._get("sources/getPull", id=started["id"]),
            lambda found: found["finishedAt"] is not None,
        )
        if not pull["status"].startswith("succeeded"):
            message = f"The pull of the source ended as {pull['status']}: {pull['error']}"
            raise MoreError(message)
        report = pull["report"]
        self._console.print(
            f"sources.pull: {report['received']} rows read, {report['created']} contacts created. The"
            " next pull reads only what changed."
        )
        return {"received": report["received"], "created": report["created"]}

    def _campaign(self, list_id: str) -> dict[str, Any]:
        self._title("A campaign is sent, and followed")
        made = self._sandbox(
            "campaigns", listId=list_id, count=1, status="sent", title="Shift news 47",
            subject="What is new this week", agoSeconds=900,
        )["campaigns"][0]  # fmt: skip
        tracked = self._post("campaigns/trackCampaign", {"campaignId": made["id"]})
        self._sandbox("clock", advanceSeconds=HOURS_LATER * 3600)
        later = self._post("campaigns/refreshStats", {"id": tracked["id"]})
        rows = [
            [when, *(f"{view[rate]:.1%}" for rate in ("openRate", "clickRate")),
             str(view["emailsSent"])]
            for when, view in (("a quarter of an hour", tracked), (f"{HOURS_LATER} hours", later))
        ]  # fmt: skip
        self._console.print(make_table(("after", "opened", "clicked", "sent to"), rows))
        if not later["openRate"] > tracked["openRate"]:
            message = "The campaign's open rate did not move."
            raise MoreError(message)
        return {"openRates": [tracked["openRate"], later["openRate"]]}

    # -------------------------------------------------------------------------- plumbing

    def _title(self, text: str) -> None:
        self._console.print(f"\n{text}", style="bold")

    def _sandbox(self, path: str, **body: Any) -> Any:
        return self._mailchimp.post(path, json=body).raise_for_status().json()

    @staticmethod
    def _until(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not good(found := look()):
            if time.monotonic() > deadline:
                message = f"This took longer than {WAIT_SECONDS:.0f} s: {found}"
                raise MoreError(message)
            time.sleep(0.1)
        return found
