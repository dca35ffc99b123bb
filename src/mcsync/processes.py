"""Child processes that never outlive the process that started them, however it ends.

Each child gets a guard: a shell that waits at the read end of a pipe whose only writer is this
process. When this process is gone, even by SIGKILL, the pipe closes and the guard ends the child.
This needs nothing of the platform but ``/bin/sh``, and unlike ``PR_SET_PDEATHSIG`` it does not mind
which thread started the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# $1 child, $2 first signal, $3 seconds of patience, $4 last signal
_GUARD = """
trap '' HUP INT TERM
read -r word && exit 0
kill -s "$2" "$1" 2>/dev/null || exit 0
i=0
while [ "$i" -lt "$3" ]; do kill -0 "$1" 2>/dev/null || exit 0; sleep 1; i=$((i + 1)); done
kill -s "$4" "$1" 2>/dev/null
"""


class Guarded:
    """A child process in a session of its own, with a guard (see the module).

    ``stop_signal`` asks it to end, ``kill_signal`` makes it end; the guard uses the same two.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        kill_signal: signal.Signals = signal.SIGKILL,
        patience: int = 10,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        user: int | None = None,
        group: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._stop_signal = stop_signal
        self._kill_signal = kill_signal
        self._patience = patience
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(env) if env is not None else None,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            pass_fds=pass_fds,
        )
        self._guard = self._watch()

    def _watch(self) -> subprocess.Popen[bytes]:
        def name(number: signal.Signals) -> str:
            return number.name.removeprefix("SIG")

        return subprocess.Popen(
            [
                "/bin/sh", "-c", _GUARD, "mcsync-guard", str(self.pid), name(self._stop_signal),
                str(self._patience), name(self._kill_signal),
            ],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the child is still there."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """Sends the first signal and returns at once."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self._stop_signal)

    def stop(self) -> None:
        """Ends the child, kindly at first, and its guard; returns when both are gone."""
        self.ask_to_stop()
        try:
            self.process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self.process.send_signal(self._kill_signal)
            try:
                self.process.wait(self._patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        if self._guard.poll() is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._guard.communicate(b"done\n", timeout=5)
        if self._guard.poll() is None:
            self._guard.kill()
            self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def alive(pid: int) -> bool:
    """Whether a process with this id exists (a zombie counts; a foreign user's, too)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_gone(pid: int, seconds: float) -> bool:
    """Waits until no process has this id; False when it is still there after ``seconds``."""
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
