"""``mcsync probe``: what it prints, how it ends, what it leaves, and what ``mcsync doctor`` then says."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mcsync.cli import probe as command
from mcsync.cli.app import app
from mcsync.core.settings import Settings
from mcsync.features.connection import service as connection
from mcsync.features.connection.questions import QUESTIONS
from mcsync.features.probe import service
from mcsync.features.probe.service import Finding, Report
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl, SandboxProcess

Command = Callable[..., Any]
DOMAIN = "probe-domain.test"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess({"bulkTags": "replaced"}) as running:
        yield running


@pytest.fixture
def more_settings(sandbox: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": sandbox.url}


@pytest.fixture
def mcsync(settings: Settings, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxProcess) -> Command:
    """Runs a command as a script would, for an organisation that is connected to the sandbox."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    monkeypatch.setenv("MCSYNC_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(keys))
    monkeypatch.setenv("MCSYNC_MAILCHIMP_URL", settings.mailchimp_url)
    monkeypatch.setattr(service, "PAUSE_SECONDS", 1.1)
    runner = CliRunner()

    def run(*arguments: str, code: int = 0) -> Any:
        done = runner.invoke(app, list(arguments))
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return json.loads(done.stderr if code not in (0, 6) else done.stdout)

    async def connect() -> None:
        from mcsync.cli.administration import choose_organisation, operator
        from mcsync.core.resources import Resources

        resources = await Resources.build(settings)
        actor = operator((await choose_organisation(resources, None)).id)
        await connection.connect(resources, actor, sandbox.api_key)
        await resources.close()

    run("org", "create", "Nordlicht")
    asyncio.run(connect())
    return run


def lists(sandbox: SandboxProcess) -> list[str]:
    async def ask() -> list[str]:
        async with SandboxControl(sandbox.control) as control:
            return [each["id"] for each in (await control.state())[0]["lists"]]

    return asyncio.run(ask())


def test_it_tells_keeps_and_leaves_nothing(mcsync: Command, sandbox: SandboxProcess) -> None:
    assert "never probed" in _mailchimp(mcsync("doctor"))["detail"]
    told = mcsync("probe", "--domain", DOMAIN)
    assert [each["question"] for each in told["questions"]] == [q.name for q in QUESTIONS]
    assert {each["question"] for each in told["questions"] if each["differs"]} == {"bulk_tags"}
    own = next(each for each in told["questions"] if each["question"] == "own_reason")
    assert own["answer"] == "unknown"
    assert own["seen"].startswith("unknown: nobody has unsubscribed")
    assert told["leftovers"] == []
    assert lists(sandbox) == [ALL_STAFF, SUPPLIERS]
    finding = _mailchimp(mcsync("doctor"))
    assert finding["state"] == "ok"
    assert finding["detail"].endswith(": bulk_tags is replaced")


def test_refusals_say_what_to_do(mcsync: Command) -> None:
    said = mcsync("probe", "--domain", "no domain", code=4)["error"]
    assert said["code"] == "domain_invalid"
    said = mcsync("probe", "--domain", DOMAIN, "--audience", "0123456789", code=4)["error"]
    assert said["code"] == "audience_not_found"


def test_ctrl_c_cleans_up(mcsync: Command, sandbox: SandboxProcess) -> None:
    python = Path(sys.executable)
    running = subprocess.Popen(
        [python, "-m", "mcsync", "probe", "--domain", DOMAIN],
        env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while len(lists(sandbox)) == 2 and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert lists(sandbox) == [ALL_STAFF, SUPPLIERS]


def test_people_get_a_table() -> None:
    first, second, *_ = QUESTIONS
    findings = (Finding(first, first.assumed), Finding(second, None, "no time was left"))
    report = Report("account", "audience", (*findings, Finding(second, "replaced")), ())
    stream = io.StringIO()
    command._show(Console(file=stream, width=200), report)
    shown = " ".join(stream.getvalue().split())
    assert "as assumed" in shown
    assert "unknown: no time was left" in shown
    assert "3 questions: 1 differ from what mcsync assumes, 1 unknown." in shown


def test_the_docs_have_every_question() -> None:
    page = (Path(__file__).parents[2] / "docs" / "probe.md").read_text(encoding="utf-8")
    for question in QUESTIONS:
        part = page.split(f"### `{question.name}`")[1].split("###")[0]
        assert question.asks in part
        assert question.follows in part
        for answer, says in question.answers.items():
            assumed = " (assumed)" if answer == question.assumed else ""
            assert f"- `{answer}`{assumed}: {says}" in part


def _mailchimp(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in report["checks"] if c["check"].startswith("Mailchimp"))
    return found
