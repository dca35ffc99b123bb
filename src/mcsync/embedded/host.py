"""The machine that embedded servers run on: accounts, packages, ports; and what both servers share."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from mcsync.processes import Guarded

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
PORT_TRIES = 5

# Accounts that PostgreSQL may run as when we are root, in the order of preference.
ACCOUNTS = ("embedded_postgres", "postgres", "nobody")


class EmbeddedError(RuntimeError):
    """An embedded server is not installed or did not start; the text says what to do."""


def installed_package(name: str) -> Path:
    """The folder of an installed package. Raises :class:`EmbeddedError`."""
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


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error text."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


class Account:
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


class Server(ABC):
    """What both servers have in common: a guarded child on a loopback port, with data in a folder."""

    NAME: ClassVar[str]

    def __init__(self) -> None:
        self._server: Guarded | None = None
        self._disposable: list[Path] = []

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._server is None:
            message = f"{self.NAME} is not running."
            raise EmbeddedError(message)
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the server is there."""
        return self._server is not None and self._server.running

    @abstractmethod
    def start(self) -> Self:
        """Returns when the server answers."""

    def stop(self) -> None:
        """Ends the server; it can be started again on the same port."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stops for good: temporary folders are removed."""
        self.stop()
        for folder in self._disposable:
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
