"""``mcsync dev`` as a user starts it: ready, healed after a crash, gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


class DevStack:
    """A running ``mcsync dev --json``."""

    def __init__(self, data_dir: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.errors = data_dir.parent / f"{data_dir.name}.stderr"
        command = [sys.executable, "-m", "mcsync", "dev", "--json", "--data-dir", str(data_dir)]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | (env or {}),
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.ready: dict[str, Any] = json.loads(line)

    def family(self) -> list[psutil.Process]:
        """Everything it started, guards included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def parts(self) -> int:
        """How many processes it looks after; PostgreSQL's own children come and go."""
        return len(psutil.Process(self.process.pid).children())

    def get(self, procedure: str) -> httpx.Response:
        """Calls the API with the first token."""
        return httpx.get(
            f"{self.ready['url']}/mailchimp/{procedure}",
            headers={"Authorization": f"Bearer {self.ready['token']}"},
            timeout=10,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it and answers its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., DevStack]]:
    tmp_path.chmod(0o711)
    started: list[DevStack] = []

    def begin(name: str = "data", *options: str, env: dict[str, str] | None = None) -> DevStack:
        started.append(DevStack(tmp_path / name, *options, env=env))
        return started[-1]

    yield begin
    for stack in started:
        stack.stop()


def eventually(check: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def answers(stack: DevStack) -> bool:
    try:
        return stack.get("connection/get").status_code == 200
    except httpx.HTTPError:
        return False


def test_it_is_ready_heals_itself_and_leaves_nothing(start: Callable[..., DevStack]) -> None:
    stack = start("data", "--workers", "2")
    assert set(stack.ready) == {
        "url", "token", "organisation", "databaseUrl", "redisUrl", "mailchimpUrl", "pids",
    }  # fmt: skip
    assert set(stack.ready["pids"]) == {"api", "worker", "postgres", "valkey"}
    connection = stack.get("connection/get").json()
    assert connection["status"] == "connected"

    for victim in ("api", "worker"):
        size = stack.parts()
        os.kill(stack.ready["pids"][victim], signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(stack.ready["pids"][victim]))  # noqa: B023
        eventually(lambda: stack.parts() >= size)  # noqa: B023
    eventually(lambda: answers(stack))

    family = stack.family()
    assert stack.stop(signal.SIGTERM) == 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_it_keeps_its_data_and_its_token(start: Callable[..., DevStack], tmp_path: Path) -> None:
    first = start()
    secrets = [tmp_path / "data" / name for name in ("token.json", "master-keys.json")]
    assert [oct(file.stat().st_mode & 0o777) for file in secrets] == ["0o600"] * 2
    refused = subprocess.run(
        [sys.executable, "-m", "mcsync", "dev", "--json", "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "Another stack is running" in refused.stderr
    assert first.stop(signal.SIGINT) == 0

    second = start()
    assert second.ready["token"] == first.ready["token"]
    assert second.ready["organisation"] == first.ready["organisation"]
    assert second.get("connection/get").json()["status"] == "connected"


def test_a_shell_is_told_what_the_commands_need(
    start: Callable[..., DevStack], tmp_path: Path
) -> None:
    stack = start()
    file = tmp_path / "data" / "env"
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    script = f'. "{file}"; exec "{sys.executable}" -m mcsync doctor --json'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["healthy"] is True
    assert stack.stop() == 0


def test_nothing_outlives_a_killed_supervisor(start: Callable[..., DevStack]) -> None:
    stack = start()
    family = stack.family()
    assert len(family) >= 5
    stack.process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    process = subprocess.Popen(
        [sys.executable, "-m", "mcsync", "dev", "--json", "--data-dir", str(tmp_path / "d")],
        stdout=subprocess.PIPE,
    )
    eventually((tmp_path / "d" / "postgres.log").exists)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert out == b""
    assert process.returncode == 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_servers_and_keys_of_the_shell_are_not_taken(start: Callable[..., DevStack]) -> None:
    """The shell may be set up for another installation; what `dev` has of its own it takes from there."""
    stack = start(
        env={
            "MCSYNC_DATABASE_URL": "nonsense",
            "mcsync_redis_url": "redis://127.0.0.1:9/0",
            "MCSYNC_MIGRATION_DATABASE_URL": "postgresql://owner@127.0.0.1:9/other",
            "MCSYNC_MASTER_KEYS": "{k1:x}",
            "MCSYNC_MASTER_KEY_ACTIVE": "k7",
            "MCSYNC_MAILCHIMP_URL": "http://127.0.0.1:9",
            "MCSYNC_MANDRILL_URL": "http://127.0.0.1:9",
            "MCSYNC_EGRESS_PROXY": "http://127.0.0.1:9",
            "MCSYNC_MAX_BODY_BYTES": "2048",
        }
    )
    assert stack.get("connection/get").json()["status"] == "connected"
    refused = httpx.post(
        f"{stack.ready['url']}/mailchimp/contacts/upsert",
        headers={"Authorization": f"Bearer {stack.ready['token']}"},
        json={"padding": "x" * 4096},
        timeout=60,
    )
    assert refused.status_code == 413, "a setting that the stack has no value for is the shell's"
    assert stack.stop() == 0


def test_a_shell_that_no_process_could_start_with_is_refused_at_once(tmp_path: Path) -> None:
    wrong = {
        "MCSYNC_FOO": "hidden-word",
        "MCSYNC_LIVE_SLOTS": "hidden-word",
        "MCSYNC_TRUSTED_PROXIES": "10.0.0.5/8",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mcsync", "dev", "--json", "--data-dir", str(tmp_path / "d")],
        env=os.environ | wrong, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    said = json.loads(done.stderr)["error"]
    assert said["code"] == "not_configured"
    assert all(name in said["message"] for name in wrong)
    assert "hidden-word" not in done.stderr
    assert not (tmp_path / "d").exists(), "nothing was started"
