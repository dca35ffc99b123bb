"""PgBouncer between mcsync and PostgreSQL, in the mode in which sessions change hands."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mcsync.core.postgres_url import read_postgres_url
from mcsync.embedded import free_port
from tests.support.installation import DATABASE, Installation, until
from tests.support.push import Push

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def _version() -> tuple[int, ...]:
    if PGBOUNCER is None:
        return ()
    said = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else ()


VERSION = _version()
KEEPS_STATEMENTS = VERSION >= (1, 21)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not VERSION, reason="PgBouncer is not installed"),
]


@contextmanager
def pooled(url: str, *, statements: int) -> Iterator[str]:
    """PgBouncer in front of a server, in transaction mode; the same URL by way of it."""
    read, port = read_postgres_url(url), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "",
            "auth_type": "plain", "auth_file": folder / "users", "pool_mode": "transaction",
            "default_pool_size": 6,
        }  # fmt: skip
        if KEEPS_STATEMENTS:
            settings["max_prepared_statements"] = statements
        if os.getuid() == 0:  # it refuses to run as root
            settings["user"] = "nobody"
            folder.chmod(0o755)
        (folder / "users").write_text(f'"{read.user}" "{read.password}"\n')
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        place = f"host={read.hosts[0]} port={read.ports[0]}"
        (folder / "ini").write_text(f"[databases]\n{read.database} = {place}\n[pgbouncer]\n{text}")
        with subprocess.Popen([str(PGBOUNCER), "-q", str(folder / "ini")]) as process:
            try:
                until(lambda: _listens(port), "PgBouncer answers", seconds=30)
                yield f"postgresql://{read.user}:{read.password}@127.0.0.1:{port}/{read.database}"
            finally:
                process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Pooled(Installation):
    """All processes of the service by way of PgBouncer; migrations as they should be, past it."""

    pools: ExitStack

    def _environment(self, mailchimp: Mapping[str, str]) -> dict[str, str]:
        made = super()._environment(mailchimp)
        way = pooled(made["MCSYNC_DATABASE_URL"], statements=200)
        return made | {"MCSYNC_DATABASE_URL": self.pools.enter_context(way)}


@pytest.mark.skipif(not KEEPS_STATEMENTS, reason="PgBouncer is older than 1.21")
def test_the_service_works_by_way_of_a_pooler(tmp_path: Path) -> None:
    with ExitStack() as pools:
        there = Pooled(tmp_path, apis=2, workers=2)
        there.pools = pools
        pools.enter_context(there)
        under = Push(there, 6)
        under.opt_out()
        under.ends_well()
        found = {
            one["check"]: one
            for one in json.loads(there.command("doctor", "--json").stdout)["checks"]
        }
        assert found["pooler"]["detail"] == "between mcsync and PostgreSQL, pools transactions"
        for process in there.processes:
            assert [one for one in process.events() if one["level"] not in {"info", "debug"}] == []


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("bare"), workers=0) as there:
        yield there


def test_a_pooler_that_loses_statements_is_refused(bare: Installation) -> None:
    with pooled(bare.environment["MCSYNC_DATABASE_URL"], statements=0) as url:
        env = bare.environment | {"MCSYNC_DATABASE_URL": url}
        for kind in ("api", "worker"):
            done = subprocess.run(
                [sys.executable, "-m", "mcsync", kind], env=env, capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 3, done.stderr
            said = json.loads(done.stderr.splitlines()[-1])
            assert said["event"] == "start_failed"
            assert "PgBouncer 1.21" in said["message"]
        done = subprocess.run(
            [sys.executable, "-m", "mcsync", "doctor", "--json"], env=env, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        (found,) = [one for one in json.loads(done.stdout)["checks"] if one["check"] == "pooler"]
        assert found["state"] == "problem"
        assert "max_prepared_statements" in found["fix"]


def test_a_migration_by_way_of_a_pooler_is_refused(bare: Installation) -> None:
    with pooled(bare.postgres.url(DATABASE), statements=200) as url:
        done = subprocess.run(
            [sys.executable, "-m", "mcsync", "migrate"],
            env=bare.environment | {"MCSYNC_MIGRATION_DATABASE_URL": url},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert "name PostgreSQL itself" in done.stderr
