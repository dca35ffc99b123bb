"""Short words for what the tests do to one audience. Raw HTTP: nothing of mcsync's client is used here."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import md5
from typing import Any

import httpx

from tests.support.sandbox import InternalMember, SandboxControl


def subscriber_hash(email: str) -> str:
    """MC 4.1."""
    return md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and title of a refusal."""
    return response.status_code, response.json()["title"]


@dataclass
class Audience:
    """One audience, by the API and by the control API."""

    api: httpx.AsyncClient
    control: SandboxControl
    id: str

    @property
    def path(self) -> str:
        return f"/lists/{self.id}"

    def member_path(self, email: str) -> str:
        return f"{self.path}/members/{subscriber_hash(email)}"

    async def bulk(
        self, *rows: dict[str, Any], query: dict[str, Any] | None = None, **envelope: Any
    ) -> dict[str, Any]:
        """POST /lists/{id} with `update_existing` unless told otherwise; the answer's body."""
        body = {"members": list(rows), "update_existing": True, **envelope}
        answer = await self.api.post(self.path, json=body, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def post(self, **body: Any) -> httpx.Response:
        return await self.api.post(f"{self.path}/members", json=body)

    async def put(self, email: str, **body: Any) -> httpx.Response:
        return await self.api.put(self.member_path(email), json={"email_address": email, **body})

    async def patch(self, email: str, **body: Any) -> httpx.Response:
        return await self.api.patch(self.member_path(email), json=body)

    async def get(self, email: str) -> httpx.Response:
        return await self.api.get(self.member_path(email))

    async def delete(self, email: str) -> httpx.Response:
        return await self.api.delete(self.member_path(email))

    async def forget(self, email: str) -> httpx.Response:
        return await self.api.post(f"{self.member_path(email)}/actions/delete-permanent")

    async def add(self, email: str, status: str = "subscribed", **more: Any) -> dict[str, Any]:
        """A member added through the API."""
        answer = await self.put(email, status_if_new=status, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def held(self, email: str) -> InternalMember:
        """The member as the sandbox holds it."""
        found = await self.control.member(self.id, email)
        assert found is not None
        return found

    async def status(self, email: str) -> str:
        """The status, "absent" or "forgotten"."""
        found = await self.control.member(self.id, email)
        if found is not None:
            return found["status"]
        return "forgotten" if await self.control.forgotten(self.id, email) else "absent"

    async def listing(self, **params: Any) -> dict[str, Any]:
        """GET members."""
        answer = await self.api.get(f"{self.path}/members", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def tag(self, name: str) -> int:
        """A new empty tag; its id."""
        answer = await self.api.post(
            f"{self.path}/segments", json={"name": name, "static_segment": []}
        )
        assert answer.status_code == 200, answer.text
        ident: int = answer.json()["id"]
        return ident

    async def prepare(self, email: str, state: str) -> None:
        """Bring an address into one of the states of MC 4.4, by the acts that lead there."""
        if state == "absent":
            return
        started = state if state in ("pending", "transactional") else "subscribed"
        await self.add(email, started)
        if state == "unsubscribed by api":
            await self.patch(email, status="unsubscribed")
        elif state == "unsubscribed by admin":
            await self.control.admin(self.id, email, "unsubscribe")
        elif state == "unsubscribed by person":
            await self.control.person(self.id, email, "unsubscribe")
        elif state == "complained":
            await self.control.person(self.id, email, "abuse")
        elif state == "cleaned":
            await self.control.person(self.id, email, "bounce")
        elif state == "archived":
            await self.delete(email)
        elif state == "forgotten":
            await self.forget(email)
