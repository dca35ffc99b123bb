"""A machine that does what organisations, people and admins do, in any order, and judges what came of it.

Everything is real: services, PostgreSQL, the sandbox. What must never happen is read from the sandbox's
history of members, and from the consent events that were recorded at our side; not from the mirror or
the plan, which are what is on trial.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from mcsync.core.crypto import keyed_hash
from mcsync.core.errors import ConflictError, NotFoundError
from mcsync.features.sync import service
from mcsync.features.sync.schemas import RunView
from tests.features.sync.world import World
from tests.support.sandbox import HistoryEntry

T = TypeVar("T")

PEOPLE = ("E1", "E2", "E3", "E4")
ADDRESSES = tuple(f"{name}@acme.example" for name in ("ada", "bob", "cyd", "dan", "eve", "fay"))
DEPARTMENTS = ("Sales", "Support", "Elsewhere")
MEMBER = ("subscribed", "pending")
FORM = ("subscribe_form", "resubscribe_form", "confirm")

people = st.sampled_from(PEOPLE)
addresses = st.sampled_from(ADDRESSES)
departments = st.sampled_from(DEPARTMENTS)


class Story:
    """What the sandbox's history says of one audience's members, entry by entry."""

    def __init__(self) -> None:
        self.owned: dict[str, bool] = {}
        self.left_by_person: dict[str, float | None] = {}
        self.chain: dict[str, set[str]] = {}
        self.outs: dict[str, list[float]] = defaultdict(list)
        self.ins: dict[str, list[float]] = defaultdict(list)
        self._moving: tuple[bool, float | None, set[str]] = (False, None, set())

    def add(self, entry: HistoryEntry) -> None:
        """Takes over one entry."""
        email, kind, origin, at = entry["email"], entry["kind"], entry["origin"], entry["at"]
        before, after = entry["from_status"], entry["to_status"]
        if kind == "email":
            if after == "absent":
                self._moving = (
                    self.owned.pop(email, False),
                    self.left_by_person.pop(email, None),
                    self.chain.pop(email, set()) | {email},
                )
            else:
                owned, left, chain = self._moving
                self.owned[email], self.left_by_person[email], self.chain[email] = owned, left, chain
            return
        if after in ("absent", "deleted"):
            for known in (self.owned, self.left_by_person, self.chain):
                known.pop(email, None)
            return
        if kind == "created":
            self.owned[email] = origin == "api"
        elif entry["via"] == "subscribe_form" or (origin == "admin" and after in MEMBER != before):
            self.owned[email] = False
        if origin == "form":
            self.ins[email].append(at)
        if origin == "person" and after == "unsubscribed":
            self.outs[email].append(int(at) + 0.999999)
            self.left_by_person[email] = int(at) + 0.999999
        elif after in MEMBER and before not in MEMBER:
            self.left_by_person[email] = None


class Machine(RuleBasedStateMachine):
    """One organisation with four people, six addresses, and at most two segments on one audience."""

    runner: asyncio.Runner
    make: Callable[[], Awaitable[World]]

    segments = Bundle("segments")
    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.seq = 0
        self.story = Story()
        self.live: list[UUID] = []
        self.known: set[str] = set()

    def do(self, coroutine: Awaitable[T]) -> T:
        """Runs it in the machine's loop."""

        async def run() -> T:
            return await coroutine

        return self.runner.run(run())

    @initialize()
    def begin(self) -> None:
        self.world = self.do(self.make())
        self.seq = self.do(self.world.sandbox.seq())

    # --- time -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1, 90, 86_400, 3 * 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.do(self.world.wait(seconds))

    def tick(self) -> None:
        """Mailchimp tells whole seconds: what people do after another is a second apart."""
        self.do(self.world.wait(1))

    # --- contacts and consent -------------------------------------------------------------------

    @rule(
        person=people, address=addresses, department=departments,
        says=st.sampled_from((None, None, "opted_in", "opted_out", "unset")),
        dated=st.sampled_from((None, None, -3600.0, 0.0)),
    )  # fmt: skip
    def upsert(
        self, person: str, address: str, department: str, says: str | None, dated: float | None
    ) -> None:
        self.tick()
        given: dict[str, Any] = {"email": address, "department": department}
        if says:
            given |= {"optStatus": says, "consentSource": "import"}
        if says == "opted_in" and dated is not None:
            at = self.world.now() + timedelta(seconds=dated)
            given |= {"consentGivenAt": at.isoformat(), "consentSource": "form of ours"}
        self.do(self.world.upsert(person, **given))
        self.known.add(person)

    @precondition(lambda self: self.known)
    @rule(person=people)
    def delete_contact(self, person: str) -> None:
        self.tick()
        if person in self.known:
            self.do(self.world.delete(person))

    @precondition(lambda self: self.known)
    @rule(
        person=people, status=st.sampled_from(("in", "in", "out")),
        ago=st.sampled_from((None, None, None, 2.0, 3600.0, 200_000.0)),
    )  # fmt: skip
    def opt(self, person: str, status: str, ago: float | None) -> None:
        self.tick()
        at = None if ago is None else self.world.now() - timedelta(seconds=ago)
        if person not in self.known:
            return
        try:
            self.do(self.world.opt(person, status, at=at))
        except ConflictError as error:
            note(f"refused: {error.code}")

    # --- segments -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.live) < 2)
    @rule(
        target=segments, department=st.sampled_from(DEPARTMENTS[:2]),
        basis=st.sampled_from(("consent", "consent", "legitimate_interest")),
        on_leave=st.sampled_from(("archive", "unsubscribe", "keep")),
        opt_in=st.sampled_from(("single", "single", "double")),
    )  # fmt: skip
    def create_segment(self, department: str, basis: str, on_leave: str, opt_in: str) -> UUID:
        name = next(n for n in ("One", "Two") if n not in self.names)
        segment = self.do(
            self.world.segment(
                name, filters={"department": [department]}, legalBasis=basis, onLeave=on_leave,
                optIn=opt_in,
            )
        )  # fmt: skip
        self.live.append(segment)
        self.names[name] = segment
        return segment

    @property
    def names(self) -> dict[str, UUID]:
        """Names of live segments."""
        return self.__dict__.setdefault("_names", {})

    @rule(segment=segments, wanted=st.sets(st.sampled_from(DEPARTMENTS)))
    def change_filter(self, segment: UUID, wanted: set[str]) -> None:
        self.do(
            self.world.update_segment(segment, filters={"department": sorted(wanted)})
        )

    @rule(
        segment=segments, on_leave=st.sampled_from(("archive", "unsubscribe", "keep")),
        opt_in=st.sampled_from(("single", "double")),
    )  # fmt: skip
    def change_manners(self, segment: UUID, on_leave: str, opt_in: str) -> None:
        self.do(self.world.update_segment(segment, onLeave=on_leave, optIn=opt_in))

    @rule(segment=consumes(segments), leave=st.booleans())
    def delete_segment(self, segment: UUID, leave: bool) -> None:
        self.tick()
        self.live.remove(segment)
        name = next(n for n, s in self.names.items() if s == segment)
        del self.names[name]
        run = self.do(self.world.delete_segment(segment, leave=leave))
        note(f"leave run: {run and (run.status, run.error, run.counts)}")

    # --- runs -----------------------------------------------------------------------------------

    @rule(target=waiting, segment=segments)
    def sync(self, segment: UUID) -> UUID | None:
        self.tick()
        run = self.do(self.world.sync(segment))
        self.judge_run(run)
        self.look()
        if run.status != "awaiting_approval":
            self.do(self.world.nothing_left(segment))
            self.nobody_withdrawn_is_a_member()
        return run.id

    @rule(segment=segments)
    def sync_again(self, segment: UUID) -> None:
        self.sync(segment)

    @rule(segment=segments)
    def dry_run(self, segment: UUID) -> None:
        before = self.do(self.world.sandbox.seq())
        run = self.do(self.world.sync(segment, dry_run=True))
        assert run.status == "succeeded", run
        assert self.do(self.world.writes(before)) == []

    @rule(run=waiting, segment=segments)
    def approve(self, run: UUID, segment: UUID) -> None:
        try:
            self.do(service.approve(self.world.resources, self.world.actor, run))
        except (ConflictError, NotFoundError) as error:
            note(f"not approved: {error.code}")
            return
        self.judge_run(self.do(self.world.work(run)))

    @rule(run=waiting)
    def cancel_waiting(self, run: UUID) -> None:
        try:
            self.do(service.cancel(self.world.resources, self.world.actor, run))
        except ConflictError as error:
            note(f"not cancelled: {error.code}")

    @rule(segment=segments)
    def cancel_queued(self, segment: UUID) -> None:
        async def start_and_cancel() -> None:
            run = await service.start(
                self.world.resources, self.world.actor, segment, dry_run=False
            )
            await service.cancel(self.world.resources, self.world.actor, run.id)

        self.do(start_and_cancel())

    @rule()
    def orders(self) -> None:
        self.do(self.world.orders())

    # --- people and admins at Mailchimp ---------------------------------------------------------

    @rule(
        address=addresses,
        act=st.sampled_from(
            ("subscribe_form", "confirm", "unsubscribe", "unsubscribe", "abuse", "bounce")
        ),
    )
    def person_acts(self, address: str, act: Any) -> None:
        self.tick()
        self.try_act(self.world.sandbox.person(self.world.list_id, address, act))

    @rule(address=addresses, new=addresses)
    def person_moves(self, address: str, new: str) -> None:
        self.tick()
        if address != new:
            self.try_act(
                self.world.sandbox.person(
                    self.world.list_id, address, "change_email", new_email=new
                )
            )

    @rule(
        address=addresses,
        act=st.sampled_from(
            ("unsubscribe", "archive", "delete_permanent", "pending_lapse", "subscribe")
        ),
    )
    def admin_acts(self, address: str, act: Any) -> None:
        self.tick()
        self.try_act(self.world.sandbox.admin(self.world.list_id, address, act))

    @rule(address=addresses, name=st.sampled_from(("One", "Two")))
    def admin_untags(self, address: str, name: str) -> None:
        self.try_act(
            self.world.sandbox.admin(self.world.list_id, address, "untag", tag=f"mcsync: {name}")
        )

    def try_act(self, act: Awaitable[Any]) -> None:
        """What is not possible does not happen."""
        try:
            self.do(act)
        except httpx.HTTPStatusError as error:
            note(f"not possible: {error.response.status_code}")

    # --- judgement ------------------------------------------------------------------------------

    def judge_run(self, run: RunView) -> None:
        """A run ends well here: nothing disturbs it."""
        note(f"{run.status} {run.counts} {run.skipped_by_reason} {run.error}")
        assert run.status in ("succeeded", "succeeded_with_errors", "awaiting_approval"), run
        undecided = self.do(
            self.world.sql("select count(*) as n from sync_changes where reason = 'undecided'")
        )
        assert undecided[0].n == 0

    @invariant()
    def look(self) -> None:
        """Reads what the sandbox's history has to say, and judges every change made by us."""
        if not hasattr(self, "world"):
            return
        entries = self.do(
            self.world.sandbox.history(list_id=self.world.list_id, since=self.seq)
        )
        if not entries:
            return
        consent = self.do(self.consent())
        for entry in entries:
            self.seq = entry["seq"]
            if entry["origin"] == "api":
                self.judge(entry, consent)
            self.story.add(entry)
        metrics = self.do(self.world.sandbox.metrics())
        assert metrics["maxInFlight"] <= 10

    def judge(self, entry: HistoryEntry, consent: Consent) -> None:
        """One change that the API made."""
        email, before, after = entry["email"], entry["from_status"], entry["to_status"]
        note(f"api: {email} {before} -> {after} ({entry['kind']})")
        story = self.story
        if entry["kind"] == "archived":
            assert story.owned.get(email), f"{email} was not ours to archive"
        if after not in MEMBER or before in MEMBER:
            return
        outs = consent.outs[email] + story.outs[email]
        ins = consent.ins[email] + story.ins[email]
        if outs:
            assert ins, f"{email} -> {after} after a withdrawal"
            assert max(ins) > max(outs), f"{email} -> {after} after a later withdrawal"
        for address in story.chain.get(email, set()) | {email}:
            for person, last_in, last_out in consent.holders[address]:
                assert last_out is None or (last_in or 0) > last_out, f"{person} has withdrawn"
        left = story.left_by_person.get(email)
        if left is not None:
            assert after == "pending", f"{email} unsubscribed in person"
            assert max([0.0, *consent.explicit[email]]) > left, f"{email} did not opt in again"

    async def consent(self) -> Consent:
        """What was recorded of people and addresses: the events, as they were appended."""
        key_of = {
            keyed_hash(self.world.org.hash_key, "address", address): address
            for address in ADDRESSES
        }
        events = await self.world.sql(
            """select entity_id, address_key, status, effective_at, source from preference_events
               where applied order by id"""
        )
        consent = Consent()
        last: dict[tuple[str, str], float] = {}
        for event in events:
            at = event.effective_at.timestamp()
            address = key_of.get(event.address_key, "")
            if event.status == "opted_in":
                consent.ins[address].append(at)
                if event.source != "import":
                    consent.explicit[address].append(at)
            elif event.status == "opted_out":
                consent.outs[address].append(at)
            place = (event.entity_id, event.status)
            last[place] = max(at, last.get(place, 0.0))
        for row in await self.world.sql(
            "select entity_id, email from contacts where deleted_at is null"
        ):
            consent.holders[row.email].append(
                (
                    row.entity_id,
                    last.get((row.entity_id, "opted_in")),
                    last.get((row.entity_id, "opted_out")),
                )
            )
        return consent

    def nobody_withdrawn_is_a_member(self) -> None:
        """After a run that pulled and pushed, a withdrawal holds at Mailchimp too."""
        consent = self.do(self.consent())
        members = self.do(self.world.sandbox.members(self.world.list_id))
        for member in members:
            if member["status"] not in MEMBER:
                continue
            email = member["email"]
            outs = consent.outs[email] + self.story.outs[email]
            ins = consent.ins[email] + self.story.ins[email]
            signed = max([0.0, *self.story.ins[email]])
            known = bool(consent.holders[email])
            assert not outs or max([0.0, *ins]) > max(outs) or not known, f"{email} is a member still"
            for person, last_in, last_out in consent.holders[email]:
                assert last_out is None or max(last_in or 0, signed) > last_out, (
                    f"{person} has withdrawn, {email} is a member still"
                )

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.look()


class Consent:
    """Recorded withdrawals and opt-ins by address, and who holds which address now."""

    def __init__(self) -> None:
        self.outs: dict[str, list[float]] = defaultdict(list)
        self.ins: dict[str, list[float]] = defaultdict(list)
        self.explicit: dict[str, list[float]] = defaultdict(list)
        self.holders: dict[str, list[tuple[str, float | None, float | None]]] = defaultdict(list)


__all__ = ["Machine", "UTC", "datetime", "uuid4"]
