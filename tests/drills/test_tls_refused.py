"""The certificates of PostgreSQL and Redis expire in the middle of a push: said everywhere, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.installation import Installation, until
from tests.support.push import Push
from tests.support.tls_server import TlsServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


class Secured(Installation):
    """Every process reaches PostgreSQL and Redis by TLS only, and checks who they are."""

    def __init__(self, folder: Path, around: ExitStack) -> None:
        settings = {"MCSYNC_SLOTS_PER_ACCOUNT": "1", "MCSYNC_LIVE_SLOTS": "1"}
        super().__init__(folder, apis=1, workers=2, env=settings)
        self.authority = Authority(folder)
        self._around = around

    def _environment(self, mailchimp: Mapping[str, str]) -> dict[str, str]:
        made = super()._environment(mailchimp)
        known, right = self.authority.file, self.authority.server()
        self.database = self._around.enter_context(
            TlsServer(made["MCSYNC_DATABASE_URL"], "postgres", right)
        )
        self.store = self._around.enter_context(TlsServer(made["MCSYNC_REDIS_URL"], "redis", right))
        return made | {
            "MCSYNC_DATABASE_URL": self.database.url(f"sslmode=verify-full&sslrootcert={known}"),
            "MCSYNC_REDIS_URL": self.store.url(f"ssl_ca_certs={known}"),
        }

    def doctor(self) -> dict[str, dict[str, str]]:
        """What ``mcsync doctor`` finds, by check."""
        said = self.command("doctor", "--json", check=False).stdout
        return {one["check"]: one for one in json.loads(said)["checks"]}


@pytest.fixture
def under(tmp_path: Path) -> Any:
    with ExitStack() as around:
        there = around.enter_context(Secured(tmp_path, around))
        yield Push(there, 6)


def test_an_expired_certificate_of_postgresql_is_told_and_outlived(under: Push) -> None:
    there = under.there
    assert isinstance(there, Secured)
    there.database.context = there.authority.server(days=(-3, -1))
    there.database.cut()

    until(lambda: there.ready().json()["database"] == "tls", "readiness says so", seconds=60)
    assert there.ready().status_code == 503
    answer = there.api.get("/segments/list")
    assert answer.status_code == 503
    assert "secure" in answer.json()["detail"]
    found = there.doctor()["database"]
    assert found["state"] == "problem"
    assert "PostgreSQL has a TLS certificate that has expired" in found["detail"]
    assert "MCSYNC_DATABASE_URL" not in found["detail"]
    refused = there.command("segments", "list", "--org", "Drill", check=False)
    assert refused.returncode == 5
    assert "has expired" in refused.stderr
    failed = there.apis[0].events("request_failed")
    assert {one["error"] for one in failed} == {"database_tls"}
    until(
        lambda: all(
            any("certificate has expired" in one["error"] for one in worker.events("loop_failed"))
            for worker in there.workers
        ),
        "the workers say so",
        seconds=60,
    )

    there.database.context = there.authority.server()
    under.opt_out()
    under.ends_well()


def test_an_unknown_certificate_of_redis_is_told_and_outlived(under: Push, tmp_path: Path) -> None:
    there = under.there
    assert isinstance(there, Secured)
    (tmp_path / "other").mkdir()
    there.store.context = Authority(tmp_path / "other").server()
    there.store.cut()

    until(lambda: there.ready().json()["redis"] == "tls", "readiness says so", seconds=60)
    assert there.ready().json()["status"] == "degraded"
    under.opt_out()
    found = there.doctor()["redis"]
    assert found["state"] == "problem"
    assert "ssl_ca_certs of MCSYNC_REDIS_URL" in found["detail"]
    until(
        lambda: all(
            any("verify failed" in one["error"] or "certificate" in one["error"]
                for one in worker.events("bell_lost"))
            for worker in there.workers
        ),
        "the workers say so",
        seconds=60,
    )  # fmt: skip

    there.store.context = there.authority.server()
    under.ends_well()
