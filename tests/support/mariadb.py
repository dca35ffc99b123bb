"""A real MariaDB server for tests, where the machine has one (``mariadbd`` on the path)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pymysql


class MariaDbServer:
    """Starts from nothing in a folder of its own; a user ``mc`` with the password ``p@ss:w/rd``."""

    user = "mc"
    password = "p@ss:w/rd"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mcsync-maria-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_here() -> bool:
        """Whether the machine has the programs."""
        return all(map(shutil.which, ("mariadbd", "mariadb-install-db")))

    def start(self) -> Self:
        """Takes some seconds."""
        data = self._folder / "data"
        user = ["--user=root"] if os.geteuid() == 0 else []
        subprocess.run(
            ["mariadb-install-db", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", *user],
            check=True, capture_output=True,
        )  # fmt: skip
        self._process = subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--datadir={data}", f"--port={self.port}",
             "--bind-address=127.0.0.1", f"--socket={self._folder}/s", "--skip-name-resolve",
             "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", *user],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.connect("root", "", None) as root, root.cursor() as cursor:
                    cursor.execute(f"create user mc@'%' identified by '{self.password}'")
                    cursor.execute("grant all on *.* to mc@'%'")
                    return self
            except pymysql.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def connect(self, user: str, password: str, database: str | None) -> pymysql.Connection:
        """A plain connection."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, database=database,
            autocommit=True,
        )  # fmt: skip

    def close(self) -> None:
        """Ends it and removes its data."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)
