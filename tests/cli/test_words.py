"""What people read: it fits a terminal of 80 columns, and says what they need to go on."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from mcsync.cli.console import Output
from mcsync.cli.contacts import show_explanation
from mcsync.cli.demo import Demo
from mcsync.cli.dev import _say
from mcsync.features.sync.explain_schemas import Explanation
from mcsync.stack import Ready

COUNTS = ("matched", "add", "update", "unsubscribe", "unchanged", "skipped")


@pytest.fixture
def out() -> Output:
    made = Output()
    made.json = False
    made.console = Console(file=io.StringIO(), width=80)
    return made


def _said(out: Output) -> str:
    assert isinstance(out.console.file, io.StringIO)
    return out.console.file.getvalue()


@pytest.mark.parametrize("failed", [0, 12])
def test_the_tables_of_the_demo_fit(out: Output, failed: int) -> None:
    with httpx.Client() as client:
        demo = Demo(out, client, client, Path(), lambda: False)
        names = ["Staff newsletter", "Engineering notices", "Supplier updates"]
        run = {
            "counts": dict.fromkeys(COUNTS, 2000) | {"failed": failed},
            "calls": 40,
            "skippedByReason": {"no_consent": 1200},
        }
        demo._show_runs("What happened", [{"name": name} for name in names], [run] * 3)
    lines = _said(out).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith(tuple(names))]
    assert len(rows) == 3
    assert all(row.count("2000") == len(COUNTS) for row in rows)
    assert all(heading in _said(out) for heading in ("match", "unsub", "same", "skip", "calls"))
    assert ("fail" in _said(out)) is bool(failed)


@pytest.mark.parametrize("key", ["0123456789abcdef0123456789abcdef-us1", None])
def test_dev_tells_the_key_of_its_sandbox(out: Output, key: str | None) -> None:
    ready = Ready(
        url="http://127.0.0.1:8000", token="mcs_x", organisation="o", database_url="d",
        redis_url="r", mailchimp_url="http://127.0.0.1:9/3.0", pids={}, mailchimp_key=key,
        mailchimp_control=None, shell=Path("/data/env"),
    )  # fmt: skip
    _say(out, ready)
    assert ". /data/env" in _said(out)
    assert ("API key" in _said(out)) is (key is not None)
    assert key is None or key in _said(out)
    assert "mailchimpKey" not in ready.line()


def test_an_explanation_says_it_all_in_eighty_columns(out: Output) -> None:
    (example,) = Explanation.model_json_schema()["examples"]
    show_explanation(out.console, example)
    said = _said(out)
    assert max(map(len, said.splitlines())) <= 80
    plain = " ".join(said.split())
    for text in (example["summary"], example["audiences"][0]["summary"], "[row 16]", "E-1042"):
        assert text in plain
