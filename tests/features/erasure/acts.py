"""What the erasure's tests do, and where they look for traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from redis.asyncio import Redis

from mcsync.features.audit import service as audit
from mcsync.features.erasure import receipt, service, work
from mcsync.features.erasure.schemas import ErasureInput, ErasureView, TargetView
from mcsync.mailchimp import subscriber_hash
from tests.features.sync.world import World

_COLUMNS = """
select c.table_name, c.column_name, c.data_type from information_schema.columns c
join information_schema.tables t using (table_schema, table_name)
where table_schema = 'public' and t.table_type = 'BASE TABLE'
order by 1, 2
"""


@dataclass
class Acts:
    """Erasures in a world."""

    world: World
    onlooker: asyncpg.Connection

    async def ask(self, entity_id: str | None = None, *, email: str | None = None) -> ErasureView:
        """Asks for an erasure."""
        given: dict[str, Any] = {"email": email} if email else {
            "entityType": "employee", "entityId": entity_id,
        }  # fmt: skip
        return await service.erase(
            self.world.resources, self.world.actor, ErasureInput.model_validate(given)
        )

    async def work(self, erasure_id: UUID, *, times: int = 1) -> ErasureView:
        """What workers do that were rung for it so often, whatever is due when."""
        for _ in range(times):
            await self.world.sql(
                "update erasures set next_attempt_at = now() - interval '1 day' where id = :id",
                id=erasure_id,
            )
            await self.world.sql(
                """update erasure_targets set next_attempt_at = now() - interval '1 day'
                   where erasure_id = :id""",
                id=erasure_id,
            )
            await work.work_on(
                self.world.resources, self.world.org.id, erasure_id, owner="test",
                stopping=self.world.stopping,
            )  # fmt: skip
            view = await self.get(erasure_id)
            if view.status == "done":
                break
        return await self.get(erasure_id)

    async def get(self, erasure_id: UUID) -> ErasureView:
        """The erasure as it stands."""
        return await service.get(self.world.resources, self.world.actor, erasure_id)

    async def erase(self, entity_id: str | None = None, *, email: str | None = None) -> ErasureView:
        """Asks, and works until it is done."""
        asked = await self.ask(entity_id, email=email)
        done = await self.work(asked.id, times=5)
        assert done.status == "done", done
        await self.is_sound(done)
        return done

    async def is_sound(self, done: ErasureView) -> None:
        """The receipt is genuine, by the organisation's own key, and the audit chain holds."""
        world = self.world
        key = receipt.public_key(world.org.hash_key, world.org.id)
        verdict = receipt.verify(done.model_dump(mode="json", by_alias=True), expected_key=key)
        assert verdict.valid, verdict.reason
        assert (await audit.verify(world.resources, world.org.id)).valid
        entries = await world.sql(
            """select action, count(*) from audit_entries where entity_id = :id
               and action in ('erasure.request', 'erasure.complete') group by 1 order by 1""",
            id=str(done.id),
        )
        assert [tuple(e) for e in entries] == [("erasure.complete", 1), ("erasure.request", 1)]

    async def traces(self, *texts: str) -> list[str]:
        """Where any of these still stands: every column of every table, and Redis."""
        wanted = [t.lower() for t in texts]
        for email in [t for t in texts if "@" in t]:
            digest = subscriber_hash(email)
            wanted += [digest, str(UUID(digest))]
        found = []
        for table, column, kind in await self.onlooker.fetch(_COLUMNS):
            read = f"{column}::text"
            if kind == "bytea":
                read = f"encode({column}, 'escape') || encode({column}, 'hex')"
            rows = await self.onlooker.fetch(
                f"select distinct {read} as t from {table} where {column} is not null"
            )
            found += [
                f"{table}.{column}: {row['t'][:200]}"
                for row in rows
                if any(word in row["t"].lower() for word in wanted)
            ]
        found += [
            line for line in await _all_of_redis(self.world.resources.redis)
            if any(word in line.lower() for word in wanted)
        ]  # fmt: skip
        return found

    async def at_mailchimp(self, email: str) -> list[str]:
        """The lists in which the sandbox has the address."""
        lists = (self.world.list_id, self.world.other_list_id)
        return [one for one in lists if await self.world.member(email, one) is not None]


def targets(view: ErasureView, address: int = 1) -> list[TargetView]:
    """The targets of one address."""
    return [t for t in view.targets if t.audience_id and t.address == address]


def states(view: ErasureView) -> set[str]:
    """The states of all targets."""
    return {t.state for t in view.targets}


def answers(view: ErasureView) -> list[int]:
    """All answers to deletes, in the order of the targets."""
    return [answer.status for t in view.targets for answer in t.delete_answers]


async def _all_of_redis(redis: Redis) -> Sequence[str]:
    found = []
    async for key in redis.scan_iter():
        kind = (await redis.type(key)).decode()
        read: Any = {
            "string": redis.get,
            "hash": redis.hgetall,
            "set": redis.smembers,
            "zset": lambda k: redis.zrange(k, 0, -1),
            "list": lambda k: redis.lrange(k, 0, -1),
        }[kind]
        found.append(f"{key!r} {await read(key)!r}")
    return found
