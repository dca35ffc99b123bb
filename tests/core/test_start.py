"""What a process of the service refuses to start with, all at once, and what is no reason."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from alembic import command
from pydantic import SecretStr

from mcsync.core.db import migrations
from mcsync.core.environment import Reading
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.core.start import require_start
from tests.support.organisations import Org

AWAY = "postgresql://mcsync@127.0.0.1:9/mcsync"


async def problems(settings: Settings, kind: Any = "api", **given: Any) -> str:
    """What is said, in a thread as a command would; empty where the process may start."""
    try:
        await asyncio.to_thread(require_start, Reading(settings), kind, {}, **given)
    except SettingsError as error:
        return "\n".join(error.problems)
    return ""


def changed(settings: Settings, **given: Any) -> Settings:
    return settings.model_copy(update=given)


async def test_as_it_should_be(settings: Settings, organisation: Org) -> None:
    assert await problems(settings, "api") == ""
    assert await problems(settings, "worker") == ""


async def test_a_role_that_nothing_binds(settings: Settings, superuser_url: str) -> None:
    unbound = changed(settings, database_url=SecretStr(superuser_url))
    assert "is a superuser" in await problems(unbound)
    assert await problems(unbound, any_role=True) == ""


async def test_a_worker_with_the_schema_behind(settings: Settings, superuser_url: str) -> None:
    config = migrations.config(superuser_url)
    await asyncio.to_thread(command.downgrade, config, "-1")
    assert "mcsync migrate" in await problems(settings, "worker")
    assert await problems(settings, "api") == "", "its readiness says so"


async def test_other_master_keys(
    settings: Settings, organisation: Org, resources: Resources, onlooker: asyncpg.Connection
) -> None:
    (name,) = settings.master_keys
    other = SecretStr(base64.b64encode(os.urandom(32)).decode())
    found = await problems(changed(settings, master_keys={name: other}))
    assert f"The key {name}" in found
    found = await problems(changed(settings, master_keys={"another": other}))
    assert f"lacks the key {name}" in found


@pytest.mark.parametrize("change", [lambda url: AWAY, lambda url: f"{url}_that_nobody_made"])
async def test_a_database_that_does_not_answer_is_no_reason(
    settings: Settings, database_url: str, change: Callable[[str], str]
) -> None:
    away = changed(settings, database_url=SecretStr(change(database_url)))
    check = await asyncio.to_thread(require_start, Reading(away), "worker", {})
    assert check is not None, "it is asked later"
    assert await asyncio.to_thread(require_start, Reading(settings), "worker", {}) is None


async def test_what_the_database_says_and_other_problems_are_told_together(
    settings: Settings, superuser_url: str
) -> None:
    unbound = changed(
        settings, database_url=SecretStr(superuser_url), redis_url=None, trusted_proxies="nginx"
    )
    reading = Reading(unbound, {"live_slots": ["MCSYNC_LIVE_SLOTS must be another."]})
    with pytest.raises(SettingsError) as caught:
        await asyncio.to_thread(require_start, reading, "api", {"MCSYNC_FOO": "1"})
    told = sorted(problem.split(" ")[0] for problem in caught.value.problems)
    assert told == [
        "MCSYNC_FOO", "MCSYNC_LIVE_SLOTS", "MCSYNC_REDIS_URL", "MCSYNC_TRUSTED_PROXIES,", "The",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("https://mcsync.example.com", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost", False),
        ("http://mcsync.example.com", True),
        ("mcsync.example.com", True),
        ("ftp://localhost", True),
        ("https://mcsync.example.com/base", False),
        ("https://mcsync.example.com/?a=b", True),
    ],
)
async def test_a_public_url_is_https(settings: Settings, url: str, wrong: bool) -> None:
    assert ("MCSYNC_PUBLIC_URL" in await problems(changed(settings, public_url=url))) is wrong
