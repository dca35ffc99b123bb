"""An installation as operators have one: servers of its own, APIs and workers as processes, their logs.

For the drills: each part can be stopped, started, restarted, suspended or killed by itself, nothing
supervises it, and what each process logged can be read.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from mcsync.core.db import migrations
from mcsync.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from tests.support.stack import Calls

DATABASE = "mcsync"
ORGANISATION = "Drill"


class Process:
    """``mcsync`` with some arguments, its log in a file."""

    def __init__(self, folder: Path, name: str, *arguments: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mcsync", *arguments],
                env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal: SIGKILL, SIGSTOP and SIGCONT among them."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends it as a deploy does; answers its exit code."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log as objects, of one event or all. A line that is no JSON fails the test."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.strip()]
        return [line for line in lines if event is None or line.get("event") == event]


class Installation(Calls):
    """PostgreSQL, Valkey, the sandbox, ``apis`` and ``workers``; a context manager that leaves nothing.

    Migrated, one organisation made and connected to the sandbox; ``environment`` is what every process
    gets, ``env`` adds to it. ``durable``: what was committed outlives a crash of PostgreSQL.
    """

    def __init__(
        self,
        folder: Path,
        *,
        apis: int = 1,
        workers: int = 2,
        env: Mapping[str, str] | None = None,
        durable: bool = False,
    ) -> None:
        self._folder = folder
        self._durable = durable
        self._counts = (apis, workers)
        self._extra = dict(env or {})
        self._exit = ExitStack()
        self.apis: list[Process] = []
        self.workers: list[Process] = []
        self.urls: list[str] = []
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.postgres = undo.enter_context(EmbeddedPostgres(durable=self._durable))
            self.redis = undo.enter_context(EmbeddedValkey())
            undo.callback(self._stop_processes)
            self.migrate()
            self.postgres.admit_service()
            mailchimp = self._start_sandbox(undo)
            self.environment = self._environment(mailchimp)
            self._make_organisation()
            for _ in range(self._counts[0]):
                self.start_api()
            for _ in range(self._counts[1]):
                self.start_worker()
            self.api = undo.enter_context(self.client(self.urls[0]))
            self.mutate("connection.connect", apiKey=mailchimp["apiKey"])
            self._exit = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def migrate(self) -> None:
        """Makes the database, at the newest revision."""
        self.postgres.create_database(DATABASE)
        migrations.upgrade(self.postgres.url(DATABASE))

    def _stop_processes(self) -> None:
        for process in self.processes:
            if process.running:
                process.send(signal.SIGCONT)
                process.process.terminate()
        for process in self.processes:
            process.stop()

    def _start_sandbox(self, undo: ExitStack) -> dict[str, str]:
        box = subprocess.Popen(
            [sys.executable, "-m", "mcsync.sandbox", "--port", "0"], stdout=subprocess.PIPE
        )
        undo.callback(box.wait)
        undo.callback(box.terminate)
        assert box.stdout is not None
        undo.callback(box.stdout.close)
        ready: dict[str, str] = json.loads(box.stdout.readline())
        self.control = undo.enter_context(httpx.Client(base_url=ready["control"], timeout=120))
        return ready

    def _environment(self, mailchimp: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MCSYNC_")}
        return inherited | {
            "MCSYNC_DATABASE_URL": self.postgres.service_url(DATABASE),
            "MCSYNC_REDIS_URL": self.redis.url(),
            "MCSYNC_MASTER_KEYS": json.dumps({"k": base64.b64encode(os.urandom(32)).decode()}),
            "MCSYNC_MAILCHIMP_URL": mailchimp["url"],
        } | self._extra  # fmt: skip

    def _make_organisation(self) -> None:
        self.command("org", "create", ORGANISATION)
        self.token = json.loads(
            self.command("token", "create", "drill", "--role", "owner", "--json").stdout
        )["token"]

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One ``mcsync`` command against this installation."""
        return subprocess.run(
            [sys.executable, "-m", "mcsync", *arguments], env=self.environment, text=True,
            capture_output=True, check=check, timeout=120,
        )  # fmt: skip

    def start(self, name: str, *arguments: str) -> Process:
        """Any ``mcsync`` command as a process that goes on; ended with the installation."""
        process = Process(self._folder, name, *arguments, env=self.environment)
        self.processes.append(process)
        return process

    def start_api(self) -> Process:
        """One more API on a port of its own; returns when it answers."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        process = self.start(f"api-{len(self.apis)}", "api", "--port", str(port))
        self.apis.append(process)
        self.urls.append(url)
        until(lambda: _answers(url), f"{process.name} answers", seconds=60)
        return process

    def restart_api(self, number: int) -> None:
        """Ends an API as a deploy does and starts it at its port again; returns when it answers."""
        url = self.urls[number]
        old = self.apis[number]
        old.stop()
        self.apis[number] = self.start(old.name, "api", "--port", url.rpartition(":")[2])
        until(lambda: _answers(url), f"{old.name} answers again", seconds=60)

    def start_worker(self) -> Process:
        """One more worker; returns when its heart beats."""
        process = self.start(f"worker-{len(self.workers)}", "worker")
        self.workers.append(process)
        until(lambda: bool(process.events("worker_started")), f"{process.name} started", seconds=60)
        return process

    def client(self, url: str) -> httpx.Client:
        """Calls one of the APIs as the organisation's owner."""
        return httpx.Client(
            base_url=f"{url}/mailchimp",
            timeout=120,
            headers={"Authorization": f"Bearer {self.token}"},
        )

    def ready(self, api: int = 0) -> httpx.Response:
        """What an API's readiness says now."""
        return httpx.get(f"{self.urls[api]}/health/ready", timeout=10)

    def crash_postgres(self) -> None:
        """Ends PostgreSQL at once (its immediate shutdown), as when its machine is lost; it stays away."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()

    def sql(self, statement: str) -> str:
        """Asks the database as its superuser, whom row-level security does not bind."""
        return self.postgres.sql(statement, database=DATABASE).strip()


def until(holds: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Waits until something holds; fails with its name where it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=2).is_success
    except httpx.HTTPError:
        return False
