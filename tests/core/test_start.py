"""What a process of the service refuses to start with, all at once, and what is no reason."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any

import asyncpg
import pytest
from alembic import command
from pydantic import SecretStr

from mcsync.core.db import migrations
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.core.start import require_start, unknown_names
from tests.support.organisations import Org


async def problems(settings: Settings, kind: Any = "api", **given: Any) -> str:
    """What is said, in a thread as a command would; empty where the process may start."""
    try:
        await asyncio.to_thread(require_start, settings, kind, {}, **given)
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


async def test_a_database_that_is_away_is_no_reason(settings: Settings) -> None:
    away = changed(settings, database_url=SecretStr("postgresql://mcsync@127.0.0.1:9/mcsync"))
    assert await problems(away, "worker") == ""


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("https://mcsync.example.com", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost", False),
        ("http://mcsync.example.com", True),
        ("mcsync.example.com", True),
        ("ftp://localhost", True),
    ],
)
async def test_a_public_url_is_https(settings: Settings, url: str, wrong: bool) -> None:
    assert ("MCSYNC_PUBLIC_URL" in await problems(changed(settings, public_url=url))) is wrong


def test_unknown_names_are_told_with_the_one_that_is_meant() -> None:
    names = {
        "MCSYNC_DATABSE_URL": "",
        "MCSYNC_COLOUR_OF_THE_DOOR": "",
        "MCSYNC_DATABASE_URL": "",
        "MCSYNC_ORG": "",
        "PATH": "",
        # what Kubernetes adds where Services are named mcsync and mcsync-api
        "MCSYNC_PORT": "tcp://10.0.0.1:80",
        "MCSYNC_SERVICE_HOST": "10.0.0.1",
        "MCSYNC_SERVICE_PORT_HTTP": "80",
        "MCSYNC_PORT_80_TCP_ADDR": "10.0.0.1",
        "MCSYNC_API_PORT_80_TCP": "tcp://10.0.0.1:80",
    }
    odd, misspelt = unknown_names(names)
    assert "MCSYNC_COLOUR_OF_THE_DOOR is no setting" in odd
    assert "Is MCSYNC_DATABASE_URL meant?" in misspelt


async def test_everything_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        await asyncio.to_thread(require_start, Settings(), "api", {"MCSYNC_ODD": json.dumps(1)})
    assert len(caught.value.problems) == 4
