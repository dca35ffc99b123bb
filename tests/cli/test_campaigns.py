"""``mcsync campaigns``: what it prints and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mcsync.cli.app import app
from mcsync.cli.campaigns import show_campaign, show_campaigns, show_history
from mcsync.core.settings import Settings
from mcsync.features.connection import service as connection
from tests.support.sandbox import ALL_STAFF, SandboxControl, SandboxProcess

Command = Callable[..., Any]
HOUR = 3600


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
def more_settings(sandbox: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": sandbox.url}


@pytest.fixture
def mcsync(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command as a script would: answers its JSON, or its text where that is none."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    monkeypatch.setenv("MCSYNC_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(keys))
    monkeypatch.setenv("MCSYNC_MAILCHIMP_URL", settings.mailchimp_url)
    runner = CliRunner()

    def command(*arguments: str, code: int = 0) -> Any:
        done = runner.invoke(app, list(arguments))
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        if code:
            return json.loads(done.stderr)
        return json.loads(done.stdout) if done.stdout[:1] in "[{" else done.stdout

    return command


def test_a_campaign_is_tracked_followed_and_let_go(
    mcsync: Command, settings: Settings, sandbox: SandboxProcess
) -> None:
    mcsync("org", "create", "Nordlicht")

    async def prepared() -> list[str]:
        from mcsync.cli.administration import choose_organisation, operator
        from mcsync.core.resources import Resources

        resources = await Resources.build(settings)
        actor = operator((await choose_organisation(resources, None)).id)
        await connection.connect(resources, actor, sandbox.api_key)
        await resources.close()
        async with SandboxControl(sandbox.control) as control:
            await control.seed(ALL_STAFF, 200)
            made = await control.make_campaigns(
                ALL_STAFF, count=2, status="sent", ago_seconds=HOUR, title="News"
            )
        return [one["id"] for one in made]

    async def later() -> None:
        async with SandboxControl(sandbox.control) as control:
            await control.advance_clock(5 * HOUR)

    first, second = asyncio.run(prepared())
    assert mcsync("campaigns", "list") == []
    assert [one["campaignId"] for one in mcsync("campaigns", "available")] == [second, first]
    one = mcsync("campaigns", "track", first)
    assert one["status"] == "sent"
    assert mcsync("campaigns", "track", first, code=4)["error"]["code"] == "already_tracked"
    assert mcsync("campaigns", "track", "0000000000", code=4)["error"]["code"] == (
        "campaign_not_found"
    )
    asyncio.run(later())
    done = mcsync("campaigns", "refresh")
    assert (done["seen"], done["moved"], done["error"]) == (1, 1, None)
    assert mcsync("campaigns", "refresh", first)["uniqueOpens"] > one["uniqueOpens"]
    history = mcsync("campaigns", "history", "news")
    assert len(history) == 2
    _one_title_of_two_names_none(mcsync, sandbox)
    (listed,) = mcsync("campaigns", "list", "--status", "sent")
    assert listed["lastOpens"] == [point["uniqueOpens"] for point in history]
    assert mcsync("campaigns", "list", "--status", "draft") == []
    assert mcsync("campaigns", "list", "--status", "odd", code=4)["error"]["code"] == "bad_request"
    ET.fromstring(mcsync("campaigns", "history", first, "--svg"))

    told = io.StringIO()
    console = Console(file=told, width=100)
    show_campaigns(console, [listed])
    show_campaign(console, listed)
    show_history(console, history)
    assert "█" in told.getvalue()
    assert "privacy" in told.getvalue()
    assert max(map(len, told.getvalue().splitlines())) <= 100

    mcsync("campaigns", "untrack", one["id"], "--yes")
    assert mcsync("campaigns", "list") == []
    assert mcsync("campaigns", "untrack", first, "--yes", code=4)["error"]["code"] == (
        "campaign_not_found"
    )


def _one_title_of_two_names_none(mcsync: Command, sandbox: SandboxProcess) -> None:
    """Newsletters often have one title each month: none of them is taken by chance."""

    async def another() -> str:
        async with SandboxControl(sandbox.control) as control:
            (made,) = await control.make_campaigns(
                ALL_STAFF, count=1, status="sent", ago_seconds=HOUR, title="News"
            )
        return made["id"]

    twin = asyncio.run(another())
    mcsync("campaigns", "track", twin)
    for command in (("history", "news"), ("refresh", "news"), ("untrack", "news", "--yes")):
        error = mcsync("campaigns", *command, code=4)["error"]
        assert error["code"] == "several_campaigns"
        assert twin in error["message"]
    mcsync("campaigns", "untrack", twin, "--yes")


def test_a_publishable_token_is_for_audiences_of_the_account(
    mcsync: Command, settings: Settings, sandbox: SandboxProcess
) -> None:
    mcsync("org", "create", "Nordlicht")

    async def connect() -> None:
        from mcsync.cli.administration import choose_organisation, operator
        from mcsync.core.resources import Resources

        resources = await Resources.build(settings)
        actor = operator((await choose_organisation(resources, None)).id)
        await connection.connect(resources, actor, sandbox.api_key)
        await resources.close()

    asyncio.run(connect())
    made = mcsync("token", "create", "site", "--publishable",
                  "--audience", ALL_STAFF, "--audience", ALL_STAFF)  # fmt: skip
    assert made["token"].startswith("mcp_")
    assert (made["role"], made["audiences"]) == ("publishable", [ALL_STAFF])
    (listed,) = mcsync("token", "list")
    assert (listed["role"], listed["audiences"]) == ("publishable", [ALL_STAFF])
    unknown = ("token", "create", "x", "--publishable", "--audience", "0000000000")
    assert mcsync(*unknown, code=4)["error"]["code"] == "audience_not_found"
    for wrong in (
        ("--publishable",),
        ("--audience", ALL_STAFF),
        ("--publishable", "--audience", ALL_STAFF, "--role", "owner"),
    ):
        assert mcsync("token", "create", "x", *wrong, code=2)["error"]["code"] == "usage"
