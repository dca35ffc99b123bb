"""What an experiment works with: an audience, made-up addresses of one domain, and calls on them.

No call here ever asks for ``pending``, which would send a mail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from mcsync.mailchimp import MailchimpClient, Observation, path, subscriber_hash

_ANY_FIELDS = {"skip_merge_validation": "true"}
"""Required merge fields of a named audience do not matter here."""


class UndecidedError(Exception):
    """The experiment cannot tell the answer; its text says why, without an address."""


@dataclass(slots=True)
class Bench:
    """The place of one probe.

    ``made`` holds every address that was sent, from before the call; ``ids`` every member that was answered.
    """

    client: MailchimpClient
    list_id: str
    domain: str
    token: str
    pause: Callable[[], Awaitable[None]]
    """Lets more than a second pass at Mailchimp, whose times are whole seconds."""
    made: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def address(self, name: str, *, under: str = "") -> str:
        """A made-up address, unique to this probe; ``under`` names a subdomain of the domain."""
        domain = f"{under}.{self.domain}" if under else self.domain
        email = f"{self.prefix}-{name}@{domain}"
        self.made.append(email)
        return email

    @property
    def prefix(self) -> str:
        """How every address and tag of this probe begins."""
        return f"mcsync-probe-{self.token}"

    def tag(self, name: str) -> str:
        """The name of a tag, unique to this probe."""
        return f"{self.prefix}-{name}"

    # --- calls ------------------------------------------------------------------------------------

    async def put(self, email: str, **body: object) -> Observation:
        """Adds or changes a member by the hash of its address."""
        return await self._member("PUT", email, {"email_address": email, **body})

    async def patch(self, email: str, **body: object) -> Observation:
        """Changes a member."""
        return await self._member("PATCH", email, body)

    async def post(self, email: str, **body: object) -> Observation:
        """Adds a member."""
        target = path("lists", self.list_id, "members")
        row = {"email_address": email, **body}
        return self._noted(await self.client.observe("POST", target, params=_ANY_FIELDS, body=row))

    async def archive(self, email: str) -> None:
        """Archives a member."""
        self.accepted(await self._member("DELETE", email, None))

    async def delete_permanently(self, email: str) -> Observation:
        """Deletes a member for good."""
        target = f"{self._target(email)}/actions/delete-permanent"
        return await self.client.observe("POST", target)

    async def put_tag(self, email: str, name: str) -> None:
        """Activates a tag on a member."""
        tags = [{"name": name, "status": "active"}]
        body = {"tags": tags, "is_syncing": True}  # fires no automation
        target = f"{self._target(email)}/tags"
        self.accepted(await self.client.observe("POST", target, body=body))

    async def bulk(self, row: Mapping[str, object], **options: bool) -> Observation:
        """The bulk call with one row."""
        body = {"members": [row], "update_existing": True, **options}
        target = path("lists", self.list_id)
        return self._noted(await self.client.observe("POST", target, params=_ANY_FIELDS, body=body))

    async def listed(self, member: Mapping[str, Any], **params: str) -> Mapping[str, Any] | None:
        """The member as a listing of what changed since shows it; None where it is not listed."""
        query = {"count": "1000", "since_last_changed": _before(member), **params}
        target = path("lists", self.list_id, "members")
        page = self.accepted(await self.client.observe("GET", target, params=query))
        rows = page.get("members") or []
        return next((row for row in rows if row.get("id") == member.get("id")), None)

    # --- steps ------------------------------------------------------------------------------------

    async def subscribed(self, email: str, **more: object) -> dict[str, Any]:
        """A new subscribed member, as Mailchimp answers it."""
        member = self.accepted(await self.put(email, status="subscribed", **more))
        if member.get("status") != "subscribed":
            self.undecided("a new member is not subscribed")
        return member

    async def unsubscribed(self, email: str) -> dict[str, Any]:
        """A new member that the API has unsubscribed."""
        await self.subscribed(email)
        return self.accepted(await self.patch(email, status="unsubscribed"))

    async def read(self, email: str) -> dict[str, Any]:
        """A member as it is now."""
        return self.accepted(await self._member("GET", email, None))

    def accepted(self, seen: Observation) -> dict[str, Any]:
        """The body of an accepted call. Raises :class:`UndecidedError` for a refusal."""
        if not seen.accepted:
            self.undecided(f"Mailchimp refused a step: {seen.status} {seen.words}")
        return seen.body

    def undecided(self, why: str) -> NoReturn:
        """Ends an experiment; addresses are taken out of its reason."""
        for email in sorted(self.made, key=len, reverse=True):
            why = why.replace(email, "(the address)")
        raise UndecidedError(why[:300])

    # ----------------------------------------------------------------------------------------------

    def _target(self, email: str) -> str:
        return path("lists", self.list_id, "members", subscriber_hash(email))

    async def _member(
        self, method: str, email: str, body: Mapping[str, object] | None
    ) -> Observation:
        params = None if body is None else _ANY_FIELDS
        return self._noted(
            await self.client.observe(method, self._target(email), params=params, body=body)
        )

    def _noted(self, seen: Observation) -> Observation:
        """Keeps the ids of the members that an answer shows."""
        members = [seen.body]
        for name in ("new_members", "updated_members"):
            members += seen.body.get(name) or []
        self.ids |= {str(member["id"]) for member in members if member.get("id")}
        return seen


def _before(member: Mapping[str, Any]) -> str:
    """A moment before the member's last change: the filter is exclusive, at the grain of a second."""
    try:
        changed = datetime.fromisoformat(str(member.get("last_changed")))
    except ValueError as error:
        raise UndecidedError("a member shows no last_changed") from error
    return (changed - timedelta(seconds=2)).isoformat()


def tag_names(member: Mapping[str, Any]) -> set[str]:
    """The names of the tags that a member shows, in lower case."""
    return {str(tag.get("name", "")).lower() for tag in member.get("tags") or []}
