"""The database's disk is full, really: a file system of two megabytes that its temporary files go to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.db import troubles
from mcsync.core.resources import Resources
from tests.core.api import client_of
from tests.support.organisations import Org, make_token

ROWS = "entityType,entityId,email\n" + "".join(
    f"employee,E-{number},person{number}@{'long' * 10}.example\n" for number in range(30_000)
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of two megabytes."""
    disk = Path("/tmp") / f"mcsync-disk-{uuid4().hex[:8]}"
    disk.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", str(disk)],
        check=False, capture_output=True,
    )  # fmt: skip
    if mounting.returncode:
        disk.rmdir()
        pytest.skip("mounting a file system needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
    disk.rmdir()


@pytest.fixture
async def filling(small_disk: Path, database: str, onlooker: Any) -> AsyncIterator[Path]:
    """Temporary tables and sorts of the test's database go to the small disk; a file fills it."""
    owner = os.stat(await onlooker.fetchval("show data_directory"))  # noqa: PTH116
    space, name = small_disk / "space", f"small_{uuid4().hex[:8]}"
    space.mkdir()
    os.chown(space, owner.st_uid, owner.st_gid)
    await onlooker.execute(f"create tablespace {name} location '{space}'")
    await onlooker.execute(f"grant create on tablespace {name} to public")
    await onlooker.execute(f"alter database {database} set temp_tablespaces = '{name}'")
    yield small_disk
    await onlooker.execute(f"alter database {database} reset temp_tablespaces")
    # whose temporary tables are still there
    await onlooker.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await onlooker.execute(f"drop tablespace {name}")


async def test_an_import_is_answered_503_and_is_taken_once_there_is_room(
    resources: Resources, organisation: Org, filling: Path, onlooker: Any
) -> None:
    app = create_app(resources=resources)
    await resources.db.engine.dispose()  # connections of before do not know of the small disk
    token = await make_token(resources, organisation, Role.OWNER)
    async with client_of(app, token) as caller:
        answer = await _send(caller)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_full")
        assert int(answer.headers["Retry-After"]) > 0
        assert await onlooker.fetchval("select count(*) from contacts") == 0

        (filling / "rest").write_bytes(b"")
        with pytest.raises(OSError, match="No space left"):
            (filling / "rest").write_bytes(bytes(4_000_000))
        assert troubles.disk_suspected()
        ready = await caller.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "full")

        (filling / "rest").unlink()
        _enlarge(filling)
        assert (await caller.get("/health/ready")).json()["database"] == "ok"
        taken = await _send(caller)
        assert taken.status_code == 200
        assert await onlooker.fetchval("select count(*) from contacts") == 30_000


def _enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)


async def _send(caller: httpx.AsyncClient) -> httpx.Response:
    return await caller.post(
        "/mailchimp/contacts/import", content=ROWS.encode(), headers={"Content-Type": "text/csv"}
    )
