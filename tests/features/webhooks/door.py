"""What the tests do at the door: register, post, work off, look."""

from __future__ import annotations

import time
import urllib.parse
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from mcsync.features.preferences import service as preferences
from mcsync.features.webhooks import polling, registration, work
from tests.features.sync.world import World
from tests.support.sandbox import HookEntry


def form(kind: str, fired: float | None = None, **data: str) -> bytes:
    """A post as Mailchimp makes it."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(fired or time.time()))
    fields = {"type": kind, "fired_at": moment} | {f"data[{k}]": v for k, v in data.items()}
    return urllib.parse.urlencode(fields).encode()


@dataclass
class Door:
    """The world, and the API that Mailchimp posts to."""

    world: World
    url: str

    async def register(self) -> HookEntry:
        """What the watchdog does; answers the first audience's webhook."""
        await self.check()
        (hook,) = await self.hooks()
        return hook

    async def check(self) -> None:
        """All endpoints are due, and are looked at."""
        await self.world.sql(
            "update webhook_endpoints set next_check_at = now(), lease_until = null"
        )
        await registration.check_organisation(self.world.resources, self.world.org.id)

    async def hooks(self, list_id: str | None = None) -> list[HookEntry]:
        """Mailchimp's webhooks of the audience."""
        wanted = list_id or self.world.list_id
        return [hook for hook in await self.world.sandbox.webhooks() if hook["listId"] == wanted]

    async def audience(self, list_id: str | None = None) -> UUID:
        """Our id of the audience."""
        (row,) = await self.world.sql(
            "select id from audiences where list_id = :list", list=list_id or self.world.list_id
        )
        return UUID(str(row.id))

    async def work(self, list_id: str | None = None) -> int:
        """Waits for what Mailchimp posts, and works it off."""
        await self.world.sandbox.delivered()
        audience = await self.audience(list_id)
        return await work.work_off(self.world.resources, self.world.org.id, audience)

    async def pull(self) -> bool:
        """The pull between runs, as if it were due."""
        audience = await self.audience()
        await polling.pull_audience(self.world.resources, self.world.org.id, audience)
        await self.world.sql("update audience_pulls set next_pull_at = now()")
        return await polling.pull_audience(self.world.resources, self.world.org.id, audience)

    async def post(
        self, body: bytes, *, url: str, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> httpx.Response:
        """A post from anybody."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.request(method, url, content=body, headers=kind | (headers or {}))

    async def events(self) -> list[Any]:
        """The inbox."""
        return list(await self.world.sql("select * from webhook_events order by id"))

    async def endpoint(self) -> Any:
        """The endpoint's row."""
        (row,) = await self.world.sql("select * from webhook_endpoints")
        return row

    async def held(self, email: str) -> bool:
        """Whether nothing may be sent to the member now."""
        (row,) = await self.world.sql(
            """select coalesce(hold_until > now(), false) as held from audience_members
               where email = :email""",
            email=email,
        )
        return bool(row.held)

    async def consent(self, entity_id: str) -> tuple[str, str | None]:
        """Status and source as ``preferences.getForEntity`` shows them."""
        view = await preferences.get_for_entity(
            self.world.resources, self.world.actor, "employee", entity_id
        )
        return view.status, view.source
