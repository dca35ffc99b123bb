"""Logs: what must never be in them."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from mcsync.core.auth.token_format import make_token
from mcsync.core.logging import redact

KEY = "0123456789abcdef0123456789abcdef-us6"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlLWhlcmU"
ADDRESS = "Bob.Hope+news@Example.org"


def _canaries() -> list[str]:
    from uuid6 import uuid7

    return [KEY, JWT, ADDRESS, make_token(uuid7()), "postgresql://u:pass-word@h/d"]


@pytest.mark.parametrize(
    "canary",
    _canaries(),
    ids=["key", "jwt", "address", "token", "url"],  # the same in each process
)
def test_no_way_of_logging_lets_a_secret_through(log: io.StringIO, canary: str) -> None:
    ours = structlog.get_logger("ours")
    ours.info("event", detail=f"about {canary}", nested={"list": [canary], canary: 1})
    ours.info("as the event %s", canary)
    logging.getLogger("theirs").warning("with %s", canary)
    logging.getLogger("theirs").info("extra", extra={"found": canary})
    try:
        raise ValueError(canary)
    except ValueError:
        ours.exception("failed")
        logging.getLogger("theirs").exception("failed too")
    text = log.getvalue()
    assert len(text.splitlines()) == 6
    secret = "pass-word" if "pass-word" in canary else canary
    assert secret not in text
    assert secret.split("@")[0] not in text


def test_what_is_meant_for_terminals_alone_is_left_out(log: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Up", extra={"color_message": "\x1b[1mUp\x1b[0m"})
    assert "color" not in log.getvalue()
    assert json.loads(log.getvalue())["event"] == "Up"


def test_lines_are_json_with_what_was_bound(log: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(request_id="r1")
    structlog.get_logger("ours").info("thing_done", count=3)
    structlog.contextvars.clear_contextvars()
    line = json.loads(log.getvalue())
    assert line.items() >= {"event": "thing_done", "count": 3, "request_id": "r1"}.items()
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["logger"]) == ("info", "ours")


def test_values_under_telling_names_are_hidden(log: io.StringIO) -> None:
    structlog.get_logger("ours").info("x", api_key="anything", Authorization="anything")
    assert "anything" not in log.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        'duplicate key value violates unique constraint "u"\nDETAIL:  Key (name)=(Bob) exists.',
        "1 validation error for X\nname\n  bad [type=x, input_value='Bob', input_type=str]",
    ],
)
def test_messages_of_others_lose_the_values_they_quote(text: str) -> None:
    assert "Bob" not in redact(text)


@pytest.mark.parametrize(
    "text", ["run 7 took 3 s", "0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11", "us-east"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text
