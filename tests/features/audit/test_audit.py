"""The audit: complete, in order, and told when somebody touched it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import before_commit
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction, service
from mcsync.features.audit.chain import entry_hash, plain
from mcsync.features.audit.schemas import AuditFilter
from tests.core.api import client_of, make_token
from tests.support.organisations import Org

AWKWARD = {
    "text": 'Ünï "quoted" \\ \u2028 \0 end',
    "numbers": [0, -1, 2**70, 0.1, 1e22, 1e-9, -0.0, 12345678.9],
    "when": datetime(2026, 3, 1, tzinfo=UTC),
    "id": uuid4(),
    "set": {"b", "a"},
    "nested": {"b": {"a": None}, "": [True, [], {}]},
}


@pytest.fixture
def actor(organisation: Org) -> Actor:
    return Actor.cli(organisation.id, "ada")


async def _record(
    resources: Resources, actor: Actor, count: int = 1, diff: dict[str, object] | None = None
) -> None:
    async with resources.db.transaction(actor.org_id) as session:
        for number in range(count):
            audit.record(
                session,
                actor,
                AuditAction.SEGMENTS_UPDATE,
                entity="segment",
                entity_id=str(number),
                diff=diff,
            )


class TestRecord:
    async def test_writes_with_the_transaction(
        self, resources: Resources, actor: Actor, onlooker: asyncpg.Connection
    ) -> None:
        await _record(resources, actor, 3, {"optIn": "single"})
        rows = await onlooker.fetch("select * from audit_entries order by seq")
        assert [row["seq"] for row in rows] == [1, 2, 3]
        assert rows[1]["previous_hash"] == rows[0]["hash"]
        assert (rows[0]["actor_kind"], rows[0]["actor_label"]) == ("cli", "ada")

    async def test_vanishes_with_it(
        self, resources: Resources, actor: Actor, onlooker: asyncpg.Connection
    ) -> None:
        async def fail() -> None:
            async with resources.db.transaction(actor.org_id) as session:
                audit.record(session, actor, AuditAction.SYNC_START, entity="run", entity_id=None)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert await onlooker.fetchval("select count(*) from audit_entries") == 0

    async def test_takes_in_what_other_callbacks_record(
        self, resources: Resources, actor: Actor, onlooker: asyncpg.Connection
    ) -> None:
        async def late(session: AsyncSession) -> None:
            audit.record(session, actor, AuditAction.SYNC_FINISH, entity="run", entity_id=None)

        async with resources.db.transaction(actor.org_id) as session:
            audit.record(session, actor, AuditAction.SYNC_START, entity="run", entity_id=None)
            before_commit(session, late)
        assert await onlooker.fetchval("select count(*) from audit_entries") == 2

    async def test_many_at_once_make_one_chain(
        self, resources: Resources, actor: Actor, onlooker: asyncpg.Connection
    ) -> None:
        await asyncio.gather(*(_record(resources, actor, 2) for _ in range(15)))
        assert await onlooker.fetchval("select max(seq) from audit_entries") == 30
        assert (await service.verify(resources, actor.org_id)).valid

    async def test_does_not_hold_up_others_before_the_end(
        self, resources: Resources, actor: Actor
    ) -> None:
        """A long import and an opt-out: the second commits while the first is still at work."""
        async with resources.db.transaction(actor.org_id) as long:
            audit.record(long, actor, AuditAction.CONTACTS_IMPORT, entity="import", entity_id=None)
            await long.execute(text("select 1"))
            await asyncio.wait_for(_record(resources, actor), 60)
        assert (await service.verify(resources, actor.org_id)).entries == 2

    async def test_belongs_to_the_transactions_organisation(
        self, resources: Resources, actor: Actor, other_organisation: Org
    ) -> None:
        with pytest.raises(AssertionError):
            async with resources.db.transaction(other_organisation.id) as session:
                audit.record(session, actor, AuditAction.SYNC_START, entity="run", entity_id=None)

    @pytest.mark.parametrize(
        "statement", ["update audit_entries set seq = 9", "delete from audit_entries"]
    )
    async def test_the_service_itself_may_not_change_it(
        self, resources: Resources, actor: Actor, statement: str
    ) -> None:
        await _record(resources, actor)
        with pytest.raises(DBAPIError, match="permission denied"):
            async with resources.db.transaction(actor.org_id) as session:
                await session.execute(text(statement))


class TestVerify:
    async def test_of_an_empty_chain(self, resources: Resources, organisation: Org) -> None:
        outcome = await service.verify(resources, organisation.id)
        assert (outcome.valid, outcome.entries) == (True, 0)

    async def test_survives_every_kind_of_value(self, resources: Resources, actor: Actor) -> None:
        await _record(resources, actor, 2, AWKWARD)
        assert (await service.verify(resources, actor.org_id)).valid

    @pytest.mark.parametrize(
        ("tampering", "seq", "reason"),
        [
            ("update audit_entries set diff = '{\"a\": 2}' where seq = 2", 2, "changed"),
            ("update audit_entries set actor_label = 'eve' where seq = 1", 1, "changed"),
            ("update audit_entries set at = at + interval '1 us' where seq = 4", 4, "changed"),
            ("delete from audit_entries where seq = 3", 3, "missing"),
            ("delete from audit_entries where seq = 1", 1, "missing"),
            ("delete from audit_entries where seq = 5", 5, "missing"),
            ("delete from audit_entries", 1, "missing"),
            ("update audit_heads set seq = 4", 4, "head_changed"),
            ("update audit_heads set hash = '\\x00'", 5, "head_changed"),
            ("delete from audit_heads", 1, "head_changed"),
        ],
    )
    async def test_finds_tampering(
        self,
        resources: Resources,
        actor: Actor,
        onlooker: asyncpg.Connection,
        tampering: str,
        seq: int,
        reason: str,
    ) -> None:
        await _record(resources, actor, 5, {"a": 1})
        assert (await service.verify(resources, actor.org_id)).valid
        await onlooker.execute(tampering)
        outcome = await service.verify(resources, actor.org_id)
        assert (outcome.valid, outcome.broken_at, outcome.reason) == (False, seq, reason)

    async def test_finds_an_entry_rewritten_with_a_hash_of_its_own(
        self, resources: Resources, actor: Actor, onlooker: asyncpg.Connection
    ) -> None:
        await _record(resources, actor, 3)
        await onlooker.execute(
            "update audit_entries set actor_label = 'eve', hash = sha256('eve') where seq = 2"
        )
        outcome = await service.verify(resources, actor.org_id)
        assert (outcome.valid, outcome.broken_at) == (False, 2)

    async def test_goes_over_many_pieces(
        self, resources: Resources, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_CHUNK", 3)
        await _record(resources, actor, 10)
        outcome = await service.verify(resources, actor.org_id)
        assert (outcome.valid, outcome.entries) == (True, 10)


class TestHash:
    def test_never_changes(self) -> None:
        """Old chains are verified with it for ever."""
        entry = {
            "org_id": "0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11",
            "seq": 1,
            "at": datetime(2026, 3, 1, 9, 30, 0, 1, tzinfo=UTC),
            "actor_kind": "cli",
            "actor_id": None,
            "actor_label": "ada",
            "action": "segments.create",
            "entity_type": "segment",
            "entity_id": "s1",
            "request_id": None,
            "diff": {"b": [1, 0.5], "a": "ü"},
        }
        assert (
            entry_hash(bytes(32), entry).hex()
            == "2c446e440d3ca19c6726577560fcee46802647272a455109d62f0c5c7b5cb158"
        )

    def test_plain_values_are_json(self) -> None:
        assert plain({"a": (1, {2.5})}) == {"a": [1, [2.5]]}


class TestProcedures:
    async def test_list_pages_newest_first(
        self, resources: Resources, actor: Actor, owner: httpx.AsyncClient
    ) -> None:
        await _record(resources, actor, 5)
        seen, cursor = [], None
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await owner.get("/mailchimp/audit/list", params=params)).json()
            seen += [item["seq"] for item in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == [5, 4, 3, 2, 1]

    async def test_list_filters(
        self, resources: Resources, actor: Actor, owner: httpx.AsyncClient
    ) -> None:
        await _record(resources, actor, 3)
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for params, count in (
            ({"entityId": "1"}, 1),
            ({"entityType": "segment"}, 3),
            ({"entityType": "run"}, 0),
            ({"action": "segments.update"}, 3),
            ({"action": "segments.create"}, 0),
            ({"actorId": "nobody"}, 0),
            ({"since": later}, 0),
            ({"until": later}, 3),
        ):
            answer = await owner.get("/mailchimp/audit/list", params=params)
            assert len(answer.json()["items"]) == count, params

    async def test_an_action_that_does_not_exist_is_refused(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.get("/mailchimp/audit/list", params={"action": "x.y"})
        assert answer.status_code == 422

    async def test_entries_carry_the_request(self, owner: httpx.AsyncClient) -> None:
        made = await owner.post("/mailchimp/probe/act", json={"name": "x"})
        (entry,) = (await owner.get("/mailchimp/audit/list")).json()["items"]
        assert entry["requestId"] == made.headers["x-request-id"]
        assert (entry["action"], entry["actorKind"]) == ("segments.create", "token")
        assert entry["at"].endswith("Z")

    async def test_verify(self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection) -> None:
        await owner.post("/mailchimp/probe/act", json={"name": "x"})
        answer = (await owner.get("/mailchimp/audit/verify")).json()
        assert answer["valid"] is True
        assert len(answer["head"]) == 64
        await onlooker.execute("update audit_entries set entity_id = 'y'")
        answer = (await owner.get("/mailchimp/audit/verify")).json()
        assert (answer["valid"], answer["brokenAt"], answer["reason"]) == (False, 1, "changed")

    async def test_other_organisations_see_nothing(
        self,
        app: FastAPI,
        resources: Resources,
        actor: Actor,
        owner: httpx.AsyncClient,
        other_organisation: Org,
    ) -> None:
        await _record(resources, actor, 2)
        token = await make_token(resources, other_organisation)
        async with client_of(app, token.token) as stranger:
            assert (await stranger.get("/mailchimp/audit/list")).json()["items"] == []
            assert (await stranger.get("/mailchimp/audit/verify")).json()["entries"] == 0

    async def test_anonymous_callers_are_refused(self, anonymous: httpx.AsyncClient) -> None:
        for procedure in ("list", "verify"):
            assert (await anonymous.get(f"/mailchimp/audit/{procedure}")).status_code == 401


class TestExport:
    async def test_the_file_says_everything_in_order_and_verifies_by_itself(
        self, resources: Resources, actor: Actor
    ) -> None:
        await _record(resources, actor, 30, dict(AWKWARD))
        pieces = [p async for p in service.export(resources, actor, "ndjson", AuditFilter())]
        entries = [json.loads(line) for line in b"".join(pieces).splitlines()]
        assert [entry["seq"] for entry in entries] == list(range(1, 31))
        previous = bytes(32)
        for entry in entries:
            assert entry["previousHash"] == previous.hex()
            columns = {_snake(name): value for name, value in entry.items()}
            columns |= {"org_id": actor.org_id, "at": datetime.fromisoformat(entry["at"])}
            previous = entry_hash(previous, columns)
            assert entry["hash"] == previous.hex()

    async def test_as_csv_no_cell_is_a_formula(self, resources: Resources, actor: Actor) -> None:
        async with resources.db.transaction(actor.org_id) as session:
            for entity_id in ("=1+1", "plain", 'quo"te, comma'):
                audit.record(
                    session, actor, AuditAction.SEGMENTS_UPDATE, entity="segment",
                    entity_id=entity_id,
                )  # fmt: skip
        pieces = [p async for p in service.export(resources, actor, "csv", AuditFilter())]
        rows = list(csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline="")))
        assert [row["entityId"] for row in rows] == ["'=1+1", "plain", 'quo"te, comma']
        assert list(rows[0])[:3] == ["seq", "at", "actorKind"]

    async def test_in_several_pieces_with_the_filters_of_the_list(
        self, resources: Resources, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_CHUNK", 2)
        await _record(resources, actor, 5)
        pieces = [p async for p in service.export(resources, actor, "ndjson", AuditFilter())]
        assert len(pieces) == 3
        wanted = AuditFilter(entity_id="3")
        pieces = [p async for p in service.export(resources, actor, "ndjson", wanted)]
        assert [json.loads(p)["entityId"] for p in pieces] == ["3"]

    @pytest.mark.parametrize(
        ("query", "accept", "kind"),
        [
            ("", "", "application/x-ndjson"),
            ("?format=csv", "", "text/csv; charset=utf-8"),
            ("", "text/csv", "text/csv; charset=utf-8"),
            ("?format=ndjson", "text/csv", "application/x-ndjson"),
        ],
    )
    async def test_csv_or_ndjson_as_asked(
        self, api: httpx.AsyncClient, resources: Resources, actor: Actor, query: str, accept: str,
        kind: str,
    ) -> None:  # fmt: skip
        await _record(resources, actor)
        answer = await api.get(f"/mailchimp/audit/export{query}", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        assert "attachment" in answer.headers["content-disposition"]
        assert b"segments.update" in answer.content


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()
