"""A small world: one organisation, its contacts, and the sandbox. Everything real but the people."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams
from mcsync.features.audiences import repository as audiences
from mcsync.features.audiences import service as audience_service
from mcsync.features.connection import service as connection
from mcsync.features.contacts import service as contacts
from mcsync.features.contacts.schemas import ContactInput, UpsertResult
from mcsync.features.preferences import by_address
from mcsync.features.preferences import service as preferences
from mcsync.features.preferences.service import PreferencesConsentSink
from mcsync.features.segments import service as segments
from mcsync.features.segments.schemas import (
    CreateSegmentInput,
    DeleteSegmentInput,
    UpdateSegmentInput,
)
from mcsync.features.segments.service import LeaveHook
from mcsync.features.sync import execute, opt_ins, service, withdrawals
from mcsync.features.sync.schemas import ChangeView, RunView
from tests.support.organisations import Org, contact_row, insert_contacts
from tests.support.sandbox import AdminAct, InternalMember, PersonAct, SandboxControl
from tests.support.travel import Travel


@dataclass
class World:
    """Acts as the organisation, its people and its workers."""

    resources: Resources
    org: Org
    sandbox: SandboxControl
    api_key: str
    list_id: str
    other_list_id: str
    numbers: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    travel: Travel | None = None

    async def wait(self, seconds: float = 1.0, *, days: float = 0.0) -> None:
        """Lets time pass for everybody: the service, its database, Mailchimp."""
        assert self.travel is not None
        await self.travel.wait(seconds + days * 86_400)

    def now(self) -> datetime:
        """The moment it is for everybody."""
        return self.resources.clock()

    @property
    def actor(self) -> Actor:
        return Actor.cli(self.org.id, "test")

    # contacts and consent

    async def contact(self, email: str, *, opted: str | None = "in", **given: Any) -> str:
        """A new contact; answers its entityId."""
        self.numbers += 1
        row = contact_row(self.numbers, email=email, **{"department": "Sales"} | given)
        await insert_contacts(self.resources, self.org, [row])
        if opted:
            await self.opt(row["entity_id"], opted)
        return str(row["entity_id"])

    async def opt(
        self, entity_id: str, status: str, *, at: datetime | None = None, source: str = "console"
    ) -> None:
        """Records an opt-in or opt-out."""
        async with self.resources.db.transaction(self.org.id) as session:
            await preferences.record(
                session, self.actor, entity_type="employee", entity_id=entity_id,
                status="opted_in" if status == "in" else "opted_out", effective_at=at, source=source,
                proof={}, jobs=None,
            )  # fmt: skip

    async def unsubscribe(self, email: str, *, source: str, **proof: str) -> None:
        """A withdrawal by address, whoever has it."""
        hash_keys = self.resources.hash_keys
        async with self.resources.db.transaction(self.org.id) as session:
            await by_address.withdraw(
                session, self.actor, await by_address.address_of(session, hash_keys, email),
                source=source, proof=proof, jobs=self.resources.jobs,
            )  # fmt: skip

    async def change(self, entity_id: str, **columns: Any) -> None:
        """Changes columns of a contact as an upsert would."""
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        await self.sql(
            f"update contacts set {assignments}, updated_at = now(), version = version + 1 "
            "where entity_id = :entity",
            entity=entity_id, **columns,
        )  # fmt: skip

    async def move(self, entity_id: str, email: str) -> None:
        """Gives a contact another address, in our own system."""
        row = contact_row(0, email=email)
        probe = await insert_contacts(
            self.resources, self.org, [row | {"entity_id": f"x{uuid4()}"}]
        )
        await self.sql(
            """insert into contact_addresses (org_id, contact_id, address_hash, address_key, email)
               select org_id, id, address_hash, address_key, email from contacts
               where entity_id = :entity""",
            entity=entity_id,
        )
        await self.sql(
            """update contacts c set email = n.email, address_hash = n.address_hash,
                   address_key = n.address_key, updated_at = now()
               from contacts n where c.entity_id = :entity and n.id = :probe""",
            entity=entity_id, probe=probe[0],
        )  # fmt: skip
        await self.sql("delete from contacts where id = :probe", probe=probe[0])

    async def leave(self, entity_id: str) -> None:
        """The contact is deleted: it left."""
        await self.change(entity_id, deleted_at=datetime.now(UTC))

    async def upsert(self, entity_id: str, *, refused: bool = False, **fields: Any) -> UpsertResult:
        """What the organisation's own system says of a contact, through ``contacts.upsert``."""
        given = {"entityType": "employee", "entityId": entity_id} | fields
        result = await contacts.upsert(
            self.resources, self.actor, [ContactInput.model_validate(given)],
            PreferencesConsentSink(self.resources, self.actor), confirm_withdrawals=True,
        )  # fmt: skip
        unheard = {"opt_in_not_newer", "suppressed"}
        assert refused or all(r.code in unheard for r in result.rejections), result
        return result

    async def crowd(self, count: int, *, start: int = 0, **fields: Any) -> None:
        """Contacts ``C<n>`` at ``c<n>@acme.example``, opted in, of Sales."""
        given = {"department": "Sales", "optStatus": "opted_in"} | fields
        rows = [
            {"entityType": "employee", "entityId": f"C{n}", "email": f"c{n}@acme.example"} | given
            for n in range(start, start + count)
        ]
        await contacts.upsert(
            self.resources, self.actor, [ContactInput.model_validate(row) for row in rows],
            PreferencesConsentSink(self.resources, self.actor), confirm_withdrawals=True,
        )  # fmt: skip

    async def statuses(self, list_id: str | None = None) -> dict[str, int]:
        """How many members the audience has in each status."""
        members = await self.sandbox.members(list_id or self.list_id)
        return dict(Counter(member["status"] for member in members))

    async def approve(self, run_id: UUID) -> RunView:
        """Approves a run and works on it to its end."""
        await service.approve(self.resources, self.actor, run_id)
        return await self.work(run_id)

    async def delete(self, entity_id: str) -> None:
        """The contact left, through ``contacts.delete``."""
        await contacts.delete(self.resources, self.actor, "employee", entity_id)

    # segments and runs

    async def segment(self, name: str = "Sales", **given: Any) -> UUID:
        """A segment on the first audience (``audience_id=`` for another), by default of Sales."""
        body = {
            "name": name, "segmentType": "mixed", "audienceId": self.list_id,
            "filters": {"department": ["Sales"]},
        } | given  # fmt: skip
        view = await segments.create(
            self.resources, self.actor, CreateSegmentInput.model_validate(body)
        )
        return view.id

    async def update_segment(self, segment_id: UUID, **given: Any) -> None:
        """Changes a segment."""
        await segments.update(
            self.resources, self.actor,
            UpdateSegmentInput.model_validate({"id": segment_id} | given), self._leave_hook,
        )  # fmt: skip

    async def delete_segment(self, segment_id: UUID, *, leave: bool = False) -> RunView | None:
        """Deletes a segment; with ``leave`` answers its last run as it ended."""
        await segments.delete(
            self.resources, self.actor,
            DeleteSegmentInput.model_validate({"id": segment_id, "leave": leave}), self._leave_hook,
        )  # fmt: skip
        if not leave:
            return None
        found = await self.sql(
            """select id from sync_runs where segment_id = :segment and leave
               order by id desc limit 1""",
            segment=segment_id,
        )
        return await self.work(found[0].id)

    @property
    def _leave_hook(self) -> LeaveHook:
        return partial(service.leave_audience, self.resources)

    async def sync(self, segment_id: UUID, *, dry_run: bool = False) -> RunView:
        """Syncs and answers the run as it ended."""
        run = await service.start(self.resources, self.actor, segment_id, dry_run=dry_run)
        return await self.work(run.id)

    async def work(self, run_id: UUID) -> RunView:
        """Works on a run until it has ended or waits for somebody."""
        for _ in range(50):
            await execute.work_on(
                self.resources, self.org.id, run_id, owner="test", stopping=self.stopping
            )
            run = await service.get(self.resources, self.actor, run_id)
            if run.status not in ("queued", "pulling", "planning", "pushing"):
                return run
            await self.sql(
                "update sync_runs set next_attempt_at = now() where id = :run", run=run_id
            )
        message = f"run does not end: {run}"
        raise AssertionError(message)

    async def orders(self) -> None:
        """Carries out what orders are due."""
        for row in await self.sql(
            "select distinct audience_id from audience_orders where status = 'open'"
        ):
            await withdrawals.carry_out(self.resources, self.org.id, row.audience_id)

    async def live(self) -> int:
        """Carries out what opt-ins are due; answers how many were looked at."""
        worked = 0
        for row in await self.sql(
            "select distinct audience_id from audience_orders where status = 'open'"
        ):
            worked += await opt_ins.carry_out(
                self.resources, self.org.id, row.audience_id, owner="test", stopping=self.stopping
            )
        return worked

    async def changes(self, run: RunView, **only: Any) -> list[ChangeView]:
        """The run's changes."""
        page = await service.list_changes(
            self.resources, self.actor, PageParams(200, None), run.id,
            action=only.get("action"), state=only.get("state"), reason=only.get("reason"),
        )  # fmt: skip
        return list(page.items)

    async def planned(self, run: RunView) -> dict[str, tuple[str, str]]:
        """What the run decided to do, by address: action and reason."""
        changes = await self.changes(run)
        return {c.email or "": (c.action, c.reason) for c in changes if c.action != "skip"}

    async def nothing_left(self, segment_id: UUID) -> None:
        """A full plan finds nothing to do: what an incremental plan left out was really unchanged."""
        await self.sql("update contact_segments set planned_xid = null where id = :s", s=segment_id)
        run = await self.sync(segment_id, dry_run=True)
        left = [c for c in await self.changes(run) if c.action != "skip"]
        assert left == []

    # people and staff at Mailchimp

    async def person(self, email: str, act: PersonAct, **given: Any) -> None:
        """The subscriber does something, a moment later than all before."""
        await self.wait()
        await self.sandbox.person(given.pop("list_id", self.list_id), email, act, **given)

    async def admin(self, email: str, act: AdminAct, **given: Any) -> None:
        """The owner's staff does something at Mailchimp, a moment later than all before."""
        await self.wait()
        await self.sandbox.admin(given.pop("list_id", self.list_id), email, act, **given)

    async def program(self, member: dict[str, Any]) -> None:
        """Any other program adds a member."""
        await self._staff("POST", "members", member)

    async def touch_tags(self, email: str) -> None:
        """Somebody tags the member, a moment later than all before."""
        await self.wait()
        member = hashlib.md5(email.encode(), usedforsecurity=False).hexdigest()
        body = {"tags": [{"name": f"Tag {uuid4()}", "status": "active"}]}
        await self._staff("POST", f"members/{member}/tags", body)

    async def delete_tag(self, tag_id: int) -> None:
        """The staff deletes a tag at Mailchimp."""
        await self._staff("DELETE", f"segments/{tag_id}")

    async def make_tag(self, name: str) -> None:
        """The staff makes a tag."""
        await self._staff("POST", "segments", {"name": name, "static_segment": []})

    async def make_field(
        self, tag: str, kind: str, *, choices: Sequence[str] = (), **options: Any
    ) -> None:
        """The staff makes a merge field."""
        given = options | ({"choices": list(choices)} if choices else {})
        await self._staff(
            "POST", "merge-fields", {"tag": tag, "name": tag, "type": kind, "options": given}
        )

    async def require_field(self, tag: str) -> None:
        """The staff makes a merge field required."""
        await self.change_field(tag, required=True)

    async def change_field(self, tag: str, /, **given: Any) -> None:
        """The staff changes a merge field."""
        field = await self._field(tag)
        body = {"name": field["name"]} | given
        await self._staff("PATCH", f"merge-fields/{field['merge_id']}", body)

    async def delete_field(self, tag: str) -> None:
        """The staff deletes a merge field."""
        field = await self._field(tag)
        await self._staff("DELETE", f"merge-fields/{field['merge_id']}")

    async def _field(self, tag: str) -> dict[str, Any]:
        fields = (await self._staff("GET", "merge-fields?count=100"))["merge_fields"]
        return dict(next(field for field in fields if field["tag"] == tag))

    async def map_fields(self, fields: dict[str, str]) -> None:
        """Says which source feeds which merge field."""
        await audience_service.set_merge_fields(self.resources, self.actor, self.list_id, fields)

    async def changed_since(self, moment: datetime) -> list[dict[str, Any]]:
        """The members that Mailchimp lists as changed after a moment."""
        since = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        found = await self._staff("GET", f"members?count=1000&since_last_changed={since}")
        return list(found["members"])

    async def _staff(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.resources.settings.mailchimp_url}/lists/{self.list_id}/{path}"
        answer = await self.resources.http.request(
            method, url, json=body, auth=("any", self.api_key)
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # looking

    async def member(self, email: str, list_id: str | None = None) -> InternalMember | None:
        """The member as the sandbox holds it."""
        return await self.sandbox.member(list_id or self.list_id, email)

    async def status(self, email: str, list_id: str | None = None) -> str:
        """The member's status, or ``absent``."""
        member = await self.member(email, list_id)
        return member["status"] if member else "absent"

    async def writes(self, since: int) -> list[str]:
        """The write calls since then, as ``METHOD last/path``."""
        calls = await self.sandbox.calls(since=since, write=True)
        return [
            f"{c['method']} {c['path'].partition('/lists/')[2].partition('/')[2]}" for c in calls
        ]

    async def sql(self, statement: str, **params: Any) -> Sequence[Any]:
        """Runs one statement as the service, in the organisation."""
        async with self.resources.db.transaction(self.org.id) as session:
            result = await session.execute(text(statement), params)
            return result.all() if result.returns_rows else []  # type: ignore[attr-defined]


def counted(run: RunView) -> dict[str, int]:
    """The run's counts that are not 0, those of contacts aside."""
    every = run.counts.model_dump()
    return {k: v for k, v in every.items() if v and k not in ("matched", "unchanged", "skipped")}


def ago(**delta: float) -> datetime:
    """A moment in the past."""
    return datetime.now(UTC) - timedelta(**delta)


async def make_world(resources: Resources, org: Org, sandbox: SandboxControl) -> World:
    """An account of its own in the sandbox, connected."""
    api_key = f"{uuid4().hex}-us1"
    account = await sandbox.open_account(api_key, lists=["People", "Partners"])
    world = World(
        resources, org, sandbox, api_key, account["lists"][0]["id"], account["lists"][1]["id"]
    )
    await connection.connect(resources, world.actor, api_key)
    await audience_service.list_audiences(resources, world.actor)
    assert audiences is not None
    return world
