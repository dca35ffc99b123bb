"""The servers of a test run: one PostgreSQL with a migrated template, one Valkey.

Without xdist they start when a test first asks for them; with xdist the controlling process starts
them once and tells its workers where they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from mcsync.core.db import migrations
from mcsync.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support import travel

TEMPLATE = "mcsync_template"
TRAVELLING = "mcsync_travelling"
"""The template of databases whose clock can be moved (:mod:`tests.support.travel`)."""
VALKEY_DATABASES = 64
_PLACE = "{database}"


@dataclass(frozen=True)
class Addresses:
    """Where the servers are; each URL has a place for the name or number of the database."""

    superuser: str
    service: str
    redis: str

    def superuser_url(self, database: str) -> str:
        """The migrations' and the onlooker's URL: row-level security does not bind it."""
        return self.superuser.replace(_PLACE, database)

    def service_url(self, database: str) -> str:
        """The URL of the service's own role."""
        return self.service.replace(_PLACE, database)

    def redis_url(self, number: int) -> str:
        """One of the numbered databases of Valkey."""
        return self.redis.replace(_PLACE, str(number))

    def packed(self) -> dict[str, str]:
        """For the way to a worker of xdist."""
        return asdict(self)


class TestServers:
    """Starts both servers and makes the templates that every test's database is a copy of one of."""

    __test__ = False

    def __init__(self) -> None:
        self._postgres = EmbeddedPostgres(durable=False)
        self._valkey = EmbeddedValkey(databases=VALKEY_DATABASES)

    def start(self) -> Self:
        """Takes about a second and a half."""
        self._postgres.start()
        self._valkey.start()
        self._postgres.create_database(TEMPLATE)
        migrations.upgrade(self._postgres.url(TEMPLATE))
        self._postgres.admit_service()
        self._postgres.create_database(TRAVELLING, template=TEMPLATE)
        self._postgres.sql(travel.CLOCK, database=TRAVELLING)
        return self

    @property
    def addresses(self) -> Addresses:
        """Where to find them."""
        return Addresses(
            superuser=self._postgres.url(_PLACE),
            service=self._postgres.service_url(_PLACE),
            redis=self._valkey.url().removesuffix("0") + _PLACE,
        )

    def close(self) -> None:
        """Ends both and removes their data."""
        self._valkey.close()
        self._postgres.close()
