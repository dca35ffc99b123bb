"""PostgreSQL's own programs: which of those installed fits a server, and how they are given its URL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcsync.core.postgres_url import conninfo, read_postgres_url

# Where distributions keep the programs of each major version, beside those in PATH.
_FOLDERS: Final = (
    ("/", "usr/lib/postgresql/*/bin"),
    ("/", "usr/pgsql-*/bin"),
    ("/", "opt/homebrew/opt/postgresql@*/bin"),
)
_BEFORE_TRANSACTION_TIMEOUT: Final = 16
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")


class ToolError(Exception):
    """A program of PostgreSQL is missing or too old; the message says what to install."""


class ToolFailedError(Exception):
    """A program of PostgreSQL ended with an error; the message is its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """A database as libpq is given it. The password is apart, because anybody can read arguments."""

    conninfo: str
    environment: dict[str, str]


def libpq_target(url: str) -> Target:
    """Translates any URL that the service takes. Raises ``PostgresUrlError`` for any other."""
    read = read_postgres_url(url)
    secrets = {"PGPASSWORD": read.password}
    return Target(conninfo(read), {name: value for name, value in secrets.items() if value})


def find_tool(name: str, server_major: int, folder: Path | None = None) -> Path:
    """The installed program whose version is nearest to the server's, and fits it.

    It must not be older than the server. From version 17 on the programs set a parameter that a server
    before 17 does not know, so nothing could be restored there. ``folder``: looks nowhere else. Raises
    :class:`ToolError` when there is none.
    """
    newest = _BEFORE_TRANSACTION_TIMEOUT if server_major <= _BEFORE_TRANSACTION_TIMEOUT else None
    found = {path: major for path in _candidates(name, folder) if (major := _major(path))}
    fitting = [
        path
        for path, major in found.items()
        if server_major <= major and (newest is None or major <= newest)
    ]
    if fitting:
        return min(fitting, key=lambda path: found[path])
    seen = ", ".join(f"{path} is version {major}" for path, major in found.items())
    wanted = f"{server_major} or newer" if newest is None else f"{server_major} to {newest}"
    message = (
        f"The server is PostgreSQL {server_major}, so {name} of version {wanted} is needed"
        f" ({seen or f'there is no {name} at all'}). Install the client programs of PostgreSQL"
        f" {server_major} (on Debian and Ubuntu: postgresql-client-{server_major}), or name the"
        " folder that has them with --pg-bin."
    )
    raise ToolError(message)


def _candidates(name: str, folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / name
        return
    if in_path := shutil.which(name):
        yield Path(in_path)
    for root, pattern in _FOLDERS:
        yield from (each / name for each in sorted(Path(root).glob(pattern)))


def _major(path: Path) -> int | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    version = _VERSION.search(done.stdout)
    return int(version[1]) if version else None


def run_tool(path: Path, arguments: Sequence[str | Path], environment: dict[str, str]) -> str:
    """Runs a program to its end and answers its output. Interrupted, it ends the program first.

    Raises :class:`ToolFailedError` with what it said.
    """
    with subprocess.Popen(
        [path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | environment,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        said = errors.strip() or f"{path.name} ended with code {process.returncode}."
        raise ToolFailedError(said)
    return output
