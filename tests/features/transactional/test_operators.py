"""The operator's side: commands, master keys, and what may be forgotten."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from mcsync.cli.app import app as commands
from mcsync.core.settings import Settings
from mcsync.features.transactional import dispatch
from tests.features.transactional.conftest import Mail

Command = Callable[..., Any]


@pytest.fixture
def mcsync(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command as a script would, beside this loop; answers its JSON."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    for name, value in {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MASTER_KEYS": json.dumps(keys),
        "MANDRILL_URL": settings.mandrill_url,
    }.items():
        monkeypatch.setenv(f"MCSYNC_{name}", value)

    def command(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(commands, list(arguments))
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return json.loads(done.stderr if code else done.stdout)

    async def apart(*arguments: str, code: int = 0) -> Any:
        return await asyncio.to_thread(command, *arguments, code=code)

    return apart


class TestCommands:
    async def test_send_list_show_and_take_back(
        self, mail: Mail, mcsync: Command, tmp_path: Path
    ) -> None:
        page, file = tmp_path / "page.html", tmp_path / "notes.txt"
        page.write_text("<p>Hello *|NAME|*</p>")
        file.write_text("notes")
        made = await mcsync(
            "transactional", "send", "--to", "ada@corp.example", "--cc", "bob@corp.example",
            "--from", "us@corp.example", "--subject", "Hi", "--html-file", str(page),
            "--var", "NAME=Ada", "--tag", "news", "--attach", str(file), "--key", "k1",
        )  # fmt: skip
        again = await mcsync("transactional", "list", "--tag", "news")
        assert [each["id"] for each in again] == [made["id"]]
        await mail.work(made["id"])
        shown = await mcsync("transactional", "show", made["id"])
        assert [(p["type"], p["status"]) for p in shown["people"]] == [
            ("to", "queued"),
            ("cc", "queued"),
        ]
        sent = (await mail.sandbox.mails(key=mail.key))[0]
        assert (sent["html"], sent["attachments"]) == ("<p>Hello Ada</p>", ["notes.txt"])
        later = await mcsync(
            "transactional", "send", "--to", "ada@corp.example", "--template", "none",
            "--at", "2026-12-24T08:00:00",
        )  # fmt: skip
        cancelled = await mcsync("transactional", "cancel", later["id"], "--yes")
        assert cancelled["status"] == "cancelled"
        refused = await mcsync("transactional", "resend", later["id"], "--yes", code=4)
        assert refused["error"]["code"] == "not_unconfirmed"
        wrong = await mcsync("transactional", "send", "--to", "nobody", code=4)
        assert wrong["error"]["code"] == "invalid_request"
        page.write_bytes(b"\xff\xfe")
        unreadable = await mcsync(
            "transactional", "send", "--to", "ada@corp.example", "--html-file", str(page), code=2
        )
        assert unreadable["error"]["code"] == "no_file"
        odd = await mcsync("transactional", "list", "--status", "odd", code=4)
        assert "unconfirmed" in odd["error"]["message"]

    async def test_templates(self, mail: Mail, mcsync: Command) -> None:
        slug = await mail.sandbox.add_mail_template("Welcome", "<p>x</p>", key=mail.key)
        assert [t["template"] for t in await mcsync("transactional", "templates")] == [slug]


class TestMasterKeys:
    async def test_a_rotation_reaches_keys_and_contents(
        self, mail: Mail, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        message_id = await mail.send(to=[{"email": "ada@corp.example", "name": "Ada"}])
        old = json.loads(os.environ["MCSYNC_MASTER_KEYS"])
        new = {"next": base64.b64encode(os.urandom(32)).decode()}
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(old | new))
        monkeypatch.setenv("MCSYNC_MASTER_KEY_ACTIVE", "next")
        # the organisation's hash key, the Transactional key, the message, what is Ada's of it
        assert (await mcsync("keys", "rotate"))["renewed"] == 4
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(new))
        states = {row["key"]: row for row in await mcsync("keys", "doctor")}
        assert (states["next"]["secrets"], states["next"]["unreadable"]) == (4, 0)
        # this process holds the old key alone: it waits for an operator, and loses nothing
        waiting = await mail.work(message_id)
        assert (waiting["status"], waiting["errorCode"]) == ("queued", "api_key_unreadable")
        assert (await mail.ask("getConnection"))["statusCode"] == "api_key_unreadable"


async def test_what_is_no_longer_needed_is_forgotten(mail: Mail) -> None:
    message_id = await mail.send()
    await mail.onlooker.execute(
        """update transactional_messages set status = 'unconfirmed',
                  handed_in_at = now() - interval '31 days' where id = $1""",
        UUID(message_id),
    )
    await mail.onlooker.execute(
        """insert into transactional_events (org_id, digest, event, provider_id, worked_at)
           values ($1, 'a', 'open', 'x', now() - interval '8 days'), ($1, 'b', 'open', 'x', now())""",
        mail.org.id,
    )
    await dispatch.tidy(mail.resources)
    assert await mail.onlooker.fetchval("select count(*) from transactional_events") == 1
    refused = await mail.post("resend", id=message_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "content_gone")
