"""``mcsync dev --json`` as a subprocess, and its API as plain calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

OVER = ("succeeded", "succeeded_with_errors", "failed", "cancelled", "awaiting_approval")


class Calls:
    """The API and the sandbox's control as plain calls; for whatever runs them."""

    api: httpx.Client
    control: httpx.Client

    def query(self, procedure: str, **params: Any) -> Any:
        """``query("segments.getRun", id=...)``."""
        return _ok(self.api.get("/" + procedure.replace(".", "/"), params=params))

    def mutate(self, procedure: str, **body: Any) -> Any:
        """``mutate("segments.sync", id=...)``."""
        return _ok(self.api.post("/" + procedure.replace(".", "/"), json=body))

    def import_csv(self, lines: list[str]) -> Any:
        """Imports a file."""
        return _ok(
            self.api.post(
                "/contacts/import",
                content="\n".join(lines).encode(),
                headers={"Content-Type": "text/csv"},
            )
        )

    def sandbox(self, path: str, **body: Any) -> Any:
        """Posts to the sandbox's control."""
        return _ok(self.control.post(path, json=body))

    def configure(self, **settings: Any) -> None:
        """Sets the sandbox's faults and latency."""
        _ok(self.control.patch("/config", json=settings))

    def members(self, list_id: str) -> dict[str, dict[str, Any]]:
        """Every member of a list by address."""
        text = self.control.get(f"/lists/{list_id}/dump").text
        rows = [json.loads(line) for line in text.splitlines()]
        return {row["email"]: row for row in rows}

    def wait_for_run(self, run_id: str, *, seconds: float) -> Any:
        """Waits until the run is over; answers it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run = self.query("segments.getRun", id=run_id)
            if run["status"] in OVER:
                return run
            time.sleep(0.2)
        message = f"not over after {seconds} s: {run}"
        raise AssertionError(message)


class Stack(Calls):
    """A running development stack; a context manager that leaves nothing behind."""

    def __init__(self, data_dir: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self._errors = (data_dir.parent / f"{data_dir.name}.stderr").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcsync", "dev", "--json", "--data-dir", str(data_dir), "--port", "0",
             *options],
            stdout=subprocess.PIPE, stderr=self._errors, text=True, env=_outside() | dict(env or {}),
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, Path(self._errors.name).read_text()
        self.ready: dict[str, Any] = json.loads(line)
        self.api = httpx.Client(
            base_url=self.ready["url"] + "/mailchimp",
            headers={"Authorization": f"Bearer {self.ready['token']}"},
            timeout=120,
        )
        control = self.ready["mailchimpUrl"].removesuffix("/3.0") + "/_sandbox"
        self.control = httpx.Client(base_url=control, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()
        self.control.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def workers(self) -> list[psutil.Process]:
        """The worker processes alive now."""
        return [
            p for p in psutil.Process(self.process.pid).children(recursive=True)
            if _arguments(p)[-1:] == ["worker"]
        ]  # fmt: skip


def _outside() -> dict[str, str]:
    """The environment without settings: the shell of the test run may be set up for something else."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MCSYNC_")}


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _ok(answer: httpx.Response) -> Any:
    assert answer.is_success, (answer.status_code, answer.text[:1000])
    return answer.json()
