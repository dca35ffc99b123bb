"""What the sync's machine does, and posts of webhooks (true, late, doubled, forged), erasures, crashes, weather.

An erasure deletes the events by which the machine judges, so it remembers them itself. From then on no
call of ours may make a member of an erased address, whatever happens: nobody lifts a suppression here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID, uuid4

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import rule

from mcsync.core.errors import ConflictError, NotFoundError
from mcsync.features.erasure import service as erasures
from mcsync.features.erasure import work as erasure_work
from mcsync.features.erasure.schemas import ErasureInput
from mcsync.features.sync import execute, service
from mcsync.features.webhooks import polling
from mcsync.features.webhooks import work as webhook_work
from mcsync.features.webhooks.intake import Endpoint, Intake
from mcsync.mailchimp import mailbox_of
from tests.features.sync.machine import (
    ADDRESSES,
    MEMBER,
    Consent,
    Machine,
    addresses,
    chosen,
    follow_ups,
    people,
)
from tests.features.webhooks.door import form
from tests.support.sandbox import HistoryEntry

T = TypeVar("T")


class SecondLook(asyncio.Event):
    """Set from the second look on: whoever works under it is stopped in the middle."""

    looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks > 1


class ConsentMachine(Machine):
    """The machine of the sync, with all that issues a person's rights."""

    def __init__(self) -> None:
        super().__init__()
        self.erased: set[str] = set()
        self.open: list[UUID] = []
        self.remembered = Consent()

    def do(self, coroutine: Awaitable[T]) -> T:
        """Who was erased is not found any more: then nothing happens."""
        try:
            return super().do(coroutine)
        except NotFoundError as error:
            note(f"not there: {error.code}")
            return None  # type: ignore[return-value]

    # --- webhooks -------------------------------------------------------------------------------

    @rule(
        kind=chosen("unsubscribe", "unsubscribe", "cleaned", "subscribe", "profile", "upemail"),
        address=addresses, new=addresses, late=chosen(0, 0, 5, 90_000), twice=st.booleans(),
        worked=chosen(True, True, False), then=follow_ups,
    )  # fmt: skip
    def somebody_posts(
        self, kind: str, address: str, new: str, late: int, twice: bool, worked: bool, then: str
    ) -> None:
        """As Mailchimp would, whether it is true or not."""
        self.tick()
        fired = self.world.now().timestamp() - late
        about = {"list_id": self.world.list_id, "id": "0a1b2c3d4e"}
        if kind == "upemail":
            about |= {"old_email": address, "new_email": new, "new_id": "1a1b2c3d4e"}
        else:
            about |= {"email": address}
        if kind in ("unsubscribe", "cleaned"):
            about |= {"reason": "manual" if kind == "unsubscribe" else "hard", "action": "unsub"}
        body = form(kind, fired, **about)
        audience = self.audience()
        endpoint = Endpoint(
            uuid4(), self.world.org.id, audience, self.world.list_id, live=True, secret=None
        )
        for _ in range(1 + twice):
            self.do(Intake().receive(self.world.resources, endpoint, None, body))
        if worked:
            self.work_off()
        self.follow(then)

    @rule()
    def work_off(self) -> None:
        """What is in the inbox."""
        self.do(webhook_work.work_off(self.world.resources, self.world.org.id, self.audience()))

    @rule()
    def pull_between_runs(self) -> None:
        self.do(polling.pull_audience(self.world.resources, self.world.org.id, self.audience()))

    def audience(self) -> UUID:
        """Our id of the audience."""
        (row,) = self.do(
            self.world.sql("select id from audiences where list_id = :l", l=self.world.list_id)
        )
        return UUID(str(row.id))

    # --- erasure --------------------------------------------------------------------------------

    @rule(person=people, at_once=st.booleans(), then=follow_ups)
    def erase(self, person: str, at_once: bool, then: str) -> None:
        self.tick()
        self.do(self.consent())  # remembered before it goes
        held = self.do(self.held_by(person))
        given = ErasureInput.model_validate({"entityType": "employee", "entityId": person})
        asked = []

        async def ask() -> None:
            asked.append(await erasures.erase(self.world.resources, self.world.actor, given))

        try:
            self.do(ask())
        except ConflictError as error:
            note(f"refused: {error.code}")
        if not asked:
            return
        (view,) = asked
        note(f"erased: {held}")
        self.erased |= held
        if view.status != "done" and view.id not in self.open:
            self.open.append(view.id)
        if at_once:
            self.work_on_erasures(stop=False)
        self.follow(then)

    @rule(stop=st.booleans())
    def work_on_erasures(self, stop: bool) -> None:
        """To the end, or until it is stopped in the middle."""
        for erasure in list(self.open):
            self.do(self.work_on(erasure, SecondLook() if stop else asyncio.Event()))
            view = self.do(erasures.get(self.world.resources, self.world.actor, erasure))
            if view.status == "done":
                self.open.remove(erasure)
                assert {t.state for t in view.targets} <= {"confirmed", "audience_gone"}, view

    async def work_on(self, erasure: UUID, stopping: asyncio.Event) -> None:
        for table, column in (("erasures", "id"), ("erasure_targets", "erasure_id")):
            await self.world.sql(
                f"update {table} set next_attempt_at = now() - interval '1 day' where {column} = :id",
                id=erasure,
            )
        await erasure_work.work_on(
            self.world.resources, self.world.org.id, erasure, owner="test", stopping=stopping
        )

    async def held_by(self, person: str) -> set[str]:
        """The mailboxes that are known of a person."""
        rows = await self.world.sql(
            """select c.email from contacts c where c.entity_id = :person
               union select f.email from contacts c join contact_addresses f on f.contact_id = c.id
               where c.entity_id = :person
               union select x.email from contacts c
               join audience_aliases x on x.source_hash = c.address_hash
               where c.entity_id = :person""",
            person=person,
        )
        return {mailbox_of(row.email) for row in rows if row.email}

    # --- crashes and weather --------------------------------------------------------------------

    @rule()
    def a_run_is_stopped_in_the_middle(self) -> None:
        """And goes on when somebody takes it over."""
        for segment in self.live.values():
            run = self.do(
                service.start(self.world.resources, self.world.actor, segment, dry_run=False)
            )
            self.do(
                execute.work_on(
                    self.world.resources, self.world.org.id, run.id, owner="dead",
                    stopping=SecondLook(),
                )
            )  # fmt: skip

    @rule(kind=chosen("504_after", "504_after", "reset_after", "429_json", "500", "502_html"))
    def weather(self, kind: str) -> None:
        """The next write meets it."""
        self.do(self.world.sandbox.fault(kind, method="POST", path="/lists/", times=1))

    # --- judgement ------------------------------------------------------------------------------

    def judge(self, entry: HistoryEntry, consent: Consent) -> None:
        before, after = entry["from_status"], entry["to_status"]
        if after in MEMBER and before not in MEMBER:
            assert mailbox_of(entry["email"]) not in self.erased, f"{entry['email']} was erased"
        super().judge(entry, consent)

    async def consent(self) -> Consent:
        """All that was ever recorded, erased since or not; who was erased is judged apart."""
        now = await super().consent()
        for mine, theirs in (
            (self.remembered.outs, now.outs),
            (self.remembered.ins, now.ins),
            (self.remembered.explicit, now.explicit),
        ):
            for address in map(mailbox_of, ADDRESSES):
                mine[address] = sorted({*mine[address], *theirs[address]})
        self.remembered.holders = now.holders
        for address in self.erased:
            now.holders.pop(address, None)
        return self.remembered
