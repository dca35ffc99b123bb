"""Finding messages again: the index, its lag, and what of metadata it knows (MC 17.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.sandbox.mandrill import Mandrill
from tests.support.sandbox import SandboxControl, SandboxProcess

DAY = 86_400


@pytest.fixture
async def mandrill(process: SandboxProcess, control: SandboxControl) -> AsyncIterator[Mandrill]:
    async with httpx.AsyncClient(base_url=process.mandrill_url, timeout=30) as client:
        yield Mandrill(client, control, process.mandrill_key)


async def found(mandrill: Mandrill, query: str = "*", **narrowed: Any) -> list[str]:
    """The addresses that a search finds, sorted."""
    rows = await mandrill.ask("messages/search", query=query, **narrowed)
    return sorted(row["email"] for row in rows)


class TestMetadata:
    async def test_it_is_searched_only_once_declared(self, mandrill: Mandrill) -> None:
        await mandrill.one(metadata={"ref": "m1"})
        assert await found(mandrill, "u_ref:m1") == []
        assert (await mandrill.ask("metadata/add", name="ref"))["state"] == "active"
        assert await found(mandrill, "u_ref:m1") == ["a@corp.test"]
        assert await found(mandrill, "u_ref:m2") == []
        assert await mandrill.refused("metadata/add", name="ref") == (422, "ValidationError")
        assert await mandrill.refused("metadata/add", name="_x") == (422, "ValidationError")

    async def test_declaring_takes_its_time(self, mandrill: Mandrill) -> None:
        await mandrill.control.configure(mandrill={"metadataIndexSeconds": 60})
        await mandrill.one(metadata={"ref": "m1"})
        assert (await mandrill.ask("metadata/add", name="ref"))["state"] == "index"
        assert await found(mandrill, "u_ref:m1") == []
        await mandrill.control.advance_clock(61)
        [field] = await mandrill.ask("metadata/list")
        assert field["state"] == "active"
        assert await found(mandrill, "u_ref:m1") == ["a@corp.test"]

    async def test_a_recipients_own_wins(self, mandrill: Mandrill) -> None:
        await mandrill.ask("metadata/add", name="ref")
        await mandrill.send(
            "a@corp.test",
            "b@corp.test",
            metadata={"ref": "all"},
            recipient_metadata=[{"rcpt": "B@corp.test", "values": {"ref": "own"}}],
        )
        assert await found(mandrill, "u_ref:all") == ["a@corp.test"]
        assert await found(mandrill, "u_ref:own") == ["b@corp.test"]


class TestIndex:
    async def test_it_can_lag_behind(self, mandrill: Mandrill) -> None:
        await mandrill.control.configure(
            mandrill={"indexLagSeconds": 300, "metadataAlwaysIndexed": True}
        )
        ident = await mandrill.one(metadata={"ref": "m1"})
        assert await found(mandrill, "u_ref:m1") == []
        assert await mandrill.refused("messages/info", id=ident) == (404, "Unknown_Message")
        await mandrill.control.advance_clock(301)
        assert await found(mandrill, "u_ref:m1") == ["a@corp.test"]
        assert await mandrill.state(ident) == "sent"

    async def test_a_minute_has_twenty_searches(self, mandrill: Mandrill) -> None:
        for _ in range(20):
            await found(mandrill)
        refused = await mandrill.refused("messages/search", query="*")
        assert refused == (429, "RequestLimitExceeded")
        await mandrill.control.advance_clock(61)
        assert await found(mandrill) == []

    async def test_a_week_is_looked_at_unless_told(self, mandrill: Mandrill) -> None:
        await mandrill.one()
        await mandrill.control.advance_clock(8 * DAY)
        await mandrill.one("b@corp.test")
        assert await found(mandrill) == ["b@corp.test"]
        assert await found(mandrill, date_from="2020-01-01") == ["a@corp.test", "b@corp.test"]
        assert await found(mandrill, date_from="2020-01-01", date_to="2020-01-02") == []
        refused = await mandrill.refused("messages/search", date_from="soon")
        assert refused == (422, "ValidationError")

    async def test_the_newest_come_first_up_to_a_limit(self, mandrill: Mandrill) -> None:
        for number in range(3):
            await mandrill.one(f"p{number}@corp.test")
        rows = await mandrill.ask("messages/search", limit=2)
        assert [row["email"] for row in rows] == ["p2@corp.test", "p1@corp.test"]
        assert (await mandrill.refused("messages/search", limit=1001))[0] == 422


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("*", "abc"),
        ("hello", "ab"),
        ("subject:hello", "ab"),
        ('subject:"hello world"', "b"),
        ("hello AND subject:world", "b"),
        ("hello AND NOT subject:world", "a"),
        ("email:a@corp.test OR email:c@corp.test", "ac"),
        ("email:a@corp.test email:b@corp.test", "ab"),
        ("tags:news", "c"),
        ("hel*", "ab"),
        ("state:sent", "abc"),
        ("state:bounced", ""),
        ("sender:us@corp.test", "abc"),
        ("u_ref:x", ""),
        ("nothing:here", ""),
    ],
)
async def test_the_language(mandrill: Mandrill, query: str, wanted: str) -> None:
    await mandrill.one("a@corp.test", subject="Hello", metadata={"ref": "x"})
    await mandrill.one("b@corp.test", subject="Hello world")
    await mandrill.one("c@corp.test", subject="Bye", tags=["news"])
    assert await found(mandrill, query) == [f"{name}@corp.test" for name in wanted]


async def test_tags_and_senders_narrow(mandrill: Mandrill) -> None:
    await mandrill.one("a@corp.test", tags=["x", "y"])
    await mandrill.one("b@corp.test", from_email="other@corp.test")
    assert await found(mandrill, tags=["y", "z"]) == ["a@corp.test"]
    assert await found(mandrill, senders=["Other@corp.test"]) == ["b@corp.test"]
