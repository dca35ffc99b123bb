"""Each trouble of the database has one word, however the error is wrapped; each of Redis too."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mcsync.core import readiness
from mcsync.core.db.troubles import WORDS, Trouble, trouble_of
from mcsync.core.resources import Resources
from mcsync.core.web.errors import as_mcsync_error
from mcsync.core.web.problems import all_problems

STATES = {
    "53100": "full",
    "53300": "too_many_connections",
    "53200": "busy",
    "25006": "read_only",
    "57P01": "starting",
    "57P03": "starting",
    "28P01": "refused",
    "3D000": "refused",
    "08006": "unreachable",
    "40001": "busy",
    "40P01": "busy",
    "55P03": "busy",
    "57014": "busy",
}


@pytest.mark.parametrize("state", STATES)
async def test_an_error_raised_by_the_server_is_known_raw_and_wrapped(
    state: str, resources: Resources
) -> None:
    raising = f"do $$ begin raise exception 'x' using errcode = '{state}'; end $$"
    seen: list[Exception] = []
    async with resources.db.engine.connect() as connection:
        with pytest.raises(DBAPIError) as wrapped:
            await connection.execute(text(raising))
        seen.append(wrapped.value)
    async with resources.db.engine.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(asyncpg.PostgresError) as plain:
            await raw.execute(raising)
        seen.append(plain.value)
    for error in seen:
        assert trouble_of(error) == STATES[state]
        answer = as_mcsync_error(error)
        assert (answer.status, answer.retry_after is None) == (503, False)


def test_every_trouble_has_words_and_a_registered_code() -> None:
    codes = {kind.code for kind in all_problems()}
    assert set(WORDS) == set(Trouble)
    assert {words.code for words in WORDS.values()} <= codes


@pytest.mark.parametrize("state", ["23505", "42P01", "22001", "P0001"])
async def test_what_is_nobodys_trouble_stays_an_error_of_ours(
    state: str, resources: Resources
) -> None:
    async with resources.db.engine.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(
                text(f"do $$ begin raise exception 'x' using errcode = '{state}'; end $$")
            )
    assert trouble_of(caught.value) is None
    assert as_mcsync_error(caught.value).status == 500


async def test_a_redis_that_refuses_is_no_silence(
    resources: Resources, redis_url: str, worker_id: str
) -> None:
    ours, name = resources.redis, f"pinger-{worker_id}"
    assert await readiness.check_redis(resources) == "ok"
    await ours.acl_setuser(name, enabled=True, passwords=["+right"], commands=["+ping"], reset=True)
    try:
        for password in ("wrong", "right"):  # who is let in may still not be allowed to write
            resources.redis = Redis.from_url(redis_url, username=name, password=password)
            assert await readiness.check_redis(resources) == "refused"
            await resources.redis.aclose()
    finally:
        resources.redis = ours
        await ours.acl_deluser(name)
