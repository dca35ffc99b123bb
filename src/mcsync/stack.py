"""The whole service on one machine: PostgreSQL, Valkey, the sandbox, the API and workers.

:class:`Stack` starts them, watches them and stops them, for ``mcsync dev``, ``mcsync demo`` and the
tests. Its data folder keeps the database, the master key and the first token.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import selectors
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from pydantic import SecretStr

from mcsync.cli import administration
from mcsync.core.auth import Role
from mcsync.core.db import migrations
from mcsync.core.environment import read_settings, unknown_names
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.embedded import LOOPBACK, EmbeddedPostgres, EmbeddedValkey, write_private
from mcsync.processes import Guarded

DATABASE = "mcsync"
_DECIDED = frozenset({
    "database_url", "migration_database_url", "redis_url", "master_keys", "master_key_active",
})  # fmt: skip
"""Settings that the shell has no say in: the stack has servers and keys of its own."""
_DECIDED_WITH_SANDBOX = _DECIDED | {"mailchimp_url", "mandrill_url", "egress_proxy"}
"""With the sandbox nothing leaves this machine, so neither does it take a proxy."""
BACKLOG = 512
START_SECONDS = 60.0
BACK_OFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a process that keeps dying is started again."""
STEADY_SECONDS = 30.0
"""A process that lived so long did not die at its start."""


class StackError(RuntimeError):
    """The stack cannot be started; the text says what to do."""


class StopRequested(Exception):
    """Somebody asked the stack to stop while it was starting."""


@dataclass(frozen=True)
class Options:
    """How a stack is wanted. ``port=None`` takes a free one; ``quiet`` logs to files in ``logs/``.

    A ``preferred_port`` is taken if it is free.
    """

    data_dir: Path
    port: int | None = None
    preferred_port: int | None = None
    workers: int = 1
    sandbox: bool = True
    quiet: bool = False
    durable: bool = True
    sandbox_settings: Mapping[str, Any] = field(default_factory=dict)
    """As in ``python -m mcsync.sandbox --config``."""


@dataclass(frozen=True)
class Ready:
    """Where everything is, once it can be used."""

    url: str
    token: str
    organisation: str
    database_url: str
    redis_url: str
    mailchimp_url: str
    pids: dict[str, int]
    mailchimp_key: str | None
    mailchimp_control: str | None
    mandrill_key: str | None = None
    mandrill_url: str | None = None
    shell: Path | None = None
    """A file that sets up a shell for the operator's commands."""

    def line(self) -> dict[str, Any]:
        """What ``mcsync dev --json`` prints."""
        return {
            "url": self.url,
            "token": self.token,
            "organisation": self.organisation,
            "databaseUrl": self.database_url,
            "redisUrl": self.redis_url,
            "mailchimpUrl": self.mailchimp_url,
            "pids": self.pids,
        }


class _Service:
    """A process of ours that is started again when it dies."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: Mapping[str, str],
        log: IO[bytes] | None,
        *,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._env = env
        self._log = log
        self._pass_fds = pass_fds
        self._deaths = 0
        self._again_at: float | None = None
        self.process = self._start()

    def _start(self) -> Guarded:
        self._started = time.monotonic()
        return Guarded(
            [sys.executable, "-m", "mcsync", *self._command],
            env=self._env,
            stdout=self._log if self._log is not None else sys.stderr,
            stderr=self._log if self._log is not None else sys.stderr,
            pass_fds=self._pass_fds,
        )

    def look_after(self, tell: Callable[[str], None]) -> None:
        """Starts it again if it died, a little later each time."""
        if self.process.running:
            return
        now = time.monotonic()
        if self._again_at is None:
            code = self.process.process.returncode
            self.process.stop()
            if now - self._started > STEADY_SECONDS:
                self._deaths = 0
            pause = BACK_OFF[min(self._deaths, len(BACK_OFF) - 1)]
            self._deaths += 1
            self._again_at = now + pause
            tell(f"{self.name} ended (code {code}): starting it again in {pause:g} s")
        elif now >= self._again_at:
            self._again_at = None
            self.process = self._start()


class Stack:
    """Everything together. ``start()`` returns when a call to the API works."""

    def __init__(
        self,
        options: Options,
        *,
        tell: Callable[[str], None] = lambda _message: None,
        stop_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._options = options
        self._tell = tell
        self._stop_wanted = stop_wanted
        self._home = options.data_dir
        self._lock: IO[str] | None = None
        self._logs: list[IO[bytes]] = []
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._sandbox: Guarded | None = None
        self._socket: socket.socket | None = None
        self._services: list[_Service] = []
        self.environment: Mapping[str, str] = {}
        """What the stack's own processes are configured by, once it has started."""

    # ------------------------------------------------------------------------------ start

    def start(self) -> Ready:
        """Starts all parts in their order; on any failure nothing is left running.

        Raises :class:`StackError`, ``EmbeddedError``, ``SettingsError`` and :class:`StopRequested`.
        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> Ready:
        # Others may pass through, so that PostgreSQL's own account reaches its data when we are root.
        self._require_shell()
        self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._take_lock()
        self._postgres = EmbeddedPostgres(self._home, durable=self._options.durable)
        self._valkey = EmbeddedValkey(self._home / "valkey")
        self._tell("Starting PostgreSQL and Valkey")
        self._postgres.start()
        self._checkpoint()
        self._valkey.start()
        self._checkpoint()
        if not self._postgres.has_database(DATABASE):
            self._postgres.create_database(DATABASE)
        migrations.upgrade(self._postgres.url(DATABASE))
        self._postgres.admit_service()
        self._checkpoint()
        mailchimp = self._start_sandbox()
        environment = self.environment = self._environment(mailchimp)
        organisation, token = self._first_token(environment)
        self._checkpoint()
        self._tell("Starting the API and the worker")
        self._socket = self._listen()
        self._start_services(environment, self._socket)
        url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._wait_for_api(url)
        if self._sandbox is not None:
            self._connect(url, token, mailchimp)
        return Ready(
            url=url,
            token=token,
            organisation=organisation,
            database_url=self._postgres.url(DATABASE),
            redis_url=self._valkey.url(),
            mailchimp_url=mailchimp["url"],
            pids={
                "api": self._services[0].process.pid,
                "worker": self._services[1].process.pid,
                "postgres": self._postgres.pid,
                "valkey": self._valkey.pid,
            },
            mailchimp_key=mailchimp.get("apiKey"),
            mailchimp_control=mailchimp.get("control"),
            mandrill_key=mailchimp.get("mandrillKey"),
            mandrill_url=mailchimp.get("mandrillUrl"),
            shell=self._write_shell(),
        )

    @property
    def _decided(self) -> frozenset[str]:
        return _DECIDED_WITH_SANDBOX if self._options.sandbox else _DECIDED

    def _require_shell(self) -> None:
        """Refuses what the processes would refuse of the shell's settings, before anything is started."""
        reading = read_settings(without=self._decided)
        problems = reading.service_problems(without=self._decided) + unknown_names(os.environ)
        if problems:
            raise SettingsError(problems)

    def _checkpoint(self) -> None:
        if self._stop_wanted():
            raise StopRequested

    def _take_lock(self) -> None:
        self._lock = (self._home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            message = f"Another stack is running on {self._home}: stop it, or choose --data-dir."
            raise StackError(message) from taken

    def _start_sandbox(self) -> dict[str, str]:
        if not self._options.sandbox:
            return {"url": read_settings(without=self._decided).settings.mailchimp_url}
        self._tell("Starting the Mailchimp sandbox")
        settings = json.dumps(dict(self._options.sandbox_settings))
        self._sandbox = Guarded(
            [sys.executable, "-m", "mcsync.sandbox", "--port", "0", "--config", settings],
            stdout=subprocess.PIPE,
            stderr=self._log("sandbox") or sys.stderr,
        )
        stdout = self._sandbox.process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            line = stdout.readline() if ready.select(START_SECONDS) else b""
        if not line:
            message = f"The sandbox did not start; see {self._home / 'logs'}."
            raise StackError(message)
        addresses: dict[str, str] = json.loads(line)
        return addresses

    def _environment(self, mailchimp: Mapping[str, str]) -> dict[str, str]:
        """What the shell may set, and what the stack decides."""
        assert self._postgres is not None
        assert self._valkey is not None
        keys = self._kept("master-keys.json", self._new_master_keys)
        decided = {
            "MCSYNC_DATABASE_URL": self._postgres.service_url(DATABASE),
            "MCSYNC_REDIS_URL": self._valkey.url(),
            "MCSYNC_MASTER_KEYS": keys,
            "MCSYNC_MAILCHIMP_URL": mailchimp["url"],
            "PYTHONUNBUFFERED": "1",
        }
        if "mandrillUrl" in mailchimp:
            decided["MCSYNC_MANDRILL_URL"] = mailchimp["mandrillUrl"]
        honoured = {
            f"MCSYNC_{name.upper()}" for name in Settings.model_fields.keys() - self._decided
        }
        surroundings = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith("MCSYNC_") or name.upper() in honoured
        }
        chosen = {"MCSYNC_LOG_FORMAT": "json" if self._options.quiet else "console"}
        return {**chosen, **surroundings, **decided}

    def _write_shell(self) -> Path:
        """What the operator's commands need to work on this stack, for a shell to read."""
        names = ("DATABASE_URL", "REDIS_URL", "MASTER_KEYS", "MAILCHIMP_URL", "MANDRILL_URL")
        given = {name: self.environment.get(f"MCSYNC_{name}") for name in names}
        lines = (
            f"export MCSYNC_{name}={shlex.quote(value)}\n"
            for name, value in given.items()
            if value is not None
        )
        file = self._home / "env"
        write_private(file, "".join(lines))
        return file

    @staticmethod
    def _new_master_keys() -> str:
        return json.dumps({"dev": base64.b64encode(os.urandom(32)).decode()})

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """A secret that is made at the first start and kept in a file of ours alone."""
        file = self._home / name
        if not file.exists():
            write_private(file, make())
        return file.read_text()

    def _first_token(self, environment: Mapping[str, str]) -> tuple[str, str]:
        """The development organisation and its owner's token, made at the first start."""

        def make() -> str:
            keys = json.loads(environment["MCSYNC_MASTER_KEYS"])
            settings = read_settings(without=self._decided).settings.model_copy(
                update={
                    "database_url": SecretStr(environment["MCSYNC_DATABASE_URL"]),
                    "redis_url": SecretStr(environment["MCSYNC_REDIS_URL"]),
                    "master_keys": {name: SecretStr(key) for name, key in keys.items()},
                }
            )
            return asyncio.run(_make_first_token(settings))

        with ThreadPoolExecutor(1) as apart:  # the caller may have an event loop of its own
            kept = json.loads(apart.submit(self._kept, "token.json", make).result())
        return kept["organisation"], kept["token"]

    def _listen(self) -> socket.socket:
        """The API's socket. It is ours, so that the port stays ours while the API starts again."""
        if self._options.port is not None:
            try:
                return socket.create_server((LOOPBACK, self._options.port), backlog=BACKLOG)
            except OSError as taken:
                message = f"Port {self._options.port} is taken: choose another with --port."
                raise StackError(message) from taken
        if self._options.preferred_port is not None:
            with contextlib.suppress(OSError):
                return socket.create_server(
                    (LOOPBACK, self._options.preferred_port), backlog=BACKLOG
                )
        return socket.create_server((LOOPBACK, 0), backlog=BACKLOG)

    def _log(self, name: str) -> IO[bytes] | None:
        if not self._options.quiet:
            return None
        folder = self._home / "logs"
        folder.mkdir(exist_ok=True)
        log = (folder / f"{name}.log").open("wb")
        self._logs.append(log)
        return log

    def _start_services(self, environment: Mapping[str, str], listener: socket.socket) -> None:
        fd = listener.fileno()
        self._services.append(
            _Service(
                "The API", ["api", "--fd", str(fd)], environment, self._log("api"), pass_fds=[fd]
            )
        )
        for number in range(1, self._options.workers + 1):
            log = self._log(f"worker-{number}")
            self._services.append(_Service(f"Worker {number}", ["worker"], environment, log))

    def _wait_for_api(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._checkpoint()
            if not self._services[0].process.running:
                break
            try:
                with urllib.request.urlopen(f"{url}/health/ready", timeout=2):  # noqa: S310 - ours
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        where = f"see {self._home / 'logs' / 'api.log'}" if self._options.quiet else "see above"
        message = f"The API did not start: {where}."
        raise StackError(message)

    def _connect(self, url: str, token: str, mailchimp: Mapping[str, str]) -> None:
        """Connects the sandbox through the API, as a user would connect Mailchimp."""
        for feature, query, key in (
            ("connection", "get", "apiKey"),
            ("transactional", "getConnection", "mandrillKey"),
        ):
            # The sandbox starts empty, so a connection from before must forget what it knew.
            if _call(url, token, "GET", f"/mailchimp/{feature}/{query}") is not None:
                _call(url, token, "POST", f"/mailchimp/{feature}/disconnect", {})
            body = {"apiKey": mailchimp[key]}
            _call(url, token, "POST", f"/mailchimp/{feature}/connect", body)

    # ------------------------------------------------------------------------- while it runs

    def supervise(self) -> None:
        """Starts again what dies, until a stop is wanted."""
        while not self._stop_wanted():
            self.look_after()
            time.sleep(0.1)

    def look_after(self) -> None:
        """One round of :meth:`supervise`."""
        assert self._postgres is not None
        assert self._valkey is not None
        for server, name in ((self._postgres, "PostgreSQL"), (self._valkey, "Valkey")):
            if not server.running:
                self._tell(f"{name} ended: starting it again")
                server.stop()
                server.start()
        for service in self._services:
            service.look_after(self._tell)

    @property
    def pids(self) -> list[int]:
        """The process ids of everything that runs at this moment."""
        servers = [s.pid for s in (self._postgres, self._valkey) if s is not None and s.running]
        sandbox = [self._sandbox.pid] if self._sandbox is not None else []
        return [*servers, *sandbox, *(service.process.pid for service in self._services)]

    # ------------------------------------------------------------------------------- stop

    def stop(self) -> None:
        """Ends everything, the last started first; safe to call twice."""
        for service in self._services:
            service.process.ask_to_stop()
        for service in reversed(self._services):
            service.process.stop()
        self._services.clear()
        if self._sandbox is not None:
            self._sandbox.stop()
            self._sandbox = None
        for server in (self._valkey, self._postgres):
            if server is not None:
                server.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for log in self._logs:
            log.close()
        self._logs.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


async def _make_first_token(settings: Settings) -> str:
    resources = await Resources.build(settings)
    try:
        # An earlier start may have ended between the two.
        known = await administration.organisations(resources)
        organisation = known[0] if known else None
        if organisation is None:
            organisation = await administration.new_organisation(resources, "Development")
        issued = await administration.new_token(
            resources, organisation.id, name="mcsync dev", role=Role.OWNER
        )
    finally:
        await resources.close()
    return json.dumps({"organisation": str(organisation.id), "token": issued.token})


def _call(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(  # noqa: S310 - our own API
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        message = f"{path} answered {error.code}: {error.read(500).decode(errors='replace')}"
        raise StackError(message) from error
