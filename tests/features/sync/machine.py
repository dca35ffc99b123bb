"""A machine that does what organisations, people and admins do, in any order, and judges what came of it.

Everything is real: services, PostgreSQL, the sandbox. What must never happen is read from the sandbox's
history of members, and from the consent events that were recorded at our side; not from the mirror or
the plan, which are what is on trial.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import httpx
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from mcsync.core.crypto import keyed_hash
from mcsync.core.errors import ConflictError
from mcsync.features.sync import service
from mcsync.features.sync.schemas import RunView
from mcsync.mailchimp import mailbox_of
from tests.features.sync.world import World
from tests.support.sandbox import HistoryEntry

T = TypeVar("T")

PEOPLE = ("E1", "E2", "E3", "E4")
ADDRESSES = (
    *(f"{name}@acme.example" for name in ("ada", "bob", "cyd", "dan", "eve")),
    # one mailbox, in both spellings of its domain
    "fay@bücher.example",
    "fay@xn--bcher-kva.example",
)
DEPARTMENTS = ("Sales", "Support", "Elsewhere")
MEMBER = ("subscribed", "pending")
FORM = ("subscribe_form", "resubscribe_form", "confirm")


def chosen(*options: T) -> st.SearchStrategy[T]:
    """Any of them, as likely as they are often named; what is first is not favoured."""
    return st.randoms(use_true_random=True).map(lambda random: random.choice(options))


people = chosen(*PEOPLE)
addresses = chosen(*ADDRESSES)
departments = chosen("Sales", "Sales", "Sales", "Support", "Support", "Elsewhere")
names = chosen("One", "One", "Two")
follow_ups = chosen(
    "sync", "sync", "sync backwards", "sync backwards", "orders", "opt-ins", "nothing", "nothing", "nothing",
    "dry run", "approve", "cancel", "cancel queued",
)  # fmt: skip
segment_definitions: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "filters": chosen("Sales", "Sales", "Support").map(lambda d: {"department": [d]}),
        "legalBasis": chosen("consent", "consent", "legitimate_interest"),
        "onLeave": chosen("archive", "archive", "unsubscribe", "keep"),
        "optIn": chosen("single", "single", "double"),
    }
)
PERSON_ACTS = (
    "subscribe_form", "confirm", "unsubscribe", "unsubscribe", "abuse", "bounce", "change_email",
)  # fmt: skip
ADMIN_ACTS = (
    "unsubscribe", "archive", "delete_permanent", "pending_lapse", "subscribe", "untag",
)  # fmt: skip


class Story:
    """What the sandbox's history says of one audience's members, entry by entry."""

    def __init__(self) -> None:
        self.owned: dict[str, bool] = {}
        self.left_by_person: dict[str, float | None] = {}
        self.chain: dict[str, set[str]] = {}
        self.outs: dict[str, list[float]] = defaultdict(list)
        self.ins: dict[str, list[float]] = defaultdict(list)
        self.there: set[str] = set()
        self._moving: tuple[bool, float | None, set[str]] = (False, None, set())

    def add(self, entry: HistoryEntry) -> None:
        """Takes over one entry."""
        email, kind, origin, at = entry["email"], entry["kind"], entry["origin"], entry["at"]
        before, after = entry["from_status"], entry["to_status"]
        (self.there.discard if after in ("absent", "deleted") else self.there.add)(email)
        if kind == "email":
            if after == "absent":
                self._moving = (
                    self.owned.pop(email, False),
                    self.left_by_person.pop(email, None),
                    self.chain.pop(email, set()) | {email},
                )
            else:
                owned, left, chain = self._moving
                self.owned[email], self.left_by_person[email], self.chain[email] = (
                    owned,
                    left,
                    chain,
                )
            return
        if after in ("absent", "deleted"):
            for known in (self.owned, self.left_by_person, self.chain):
                known.pop(email, None)
            return
        if kind == "created":
            self.owned[email] = origin == "api"
        elif before != "subscribed" and entry["via"] in ("subscribe_form", "subscribe"):
            self.owned[email] = False
        if origin == "form":
            self.ins[mailbox_of(email)].append(at)
        if origin == "person" and after == "unsubscribed":
            self.outs[mailbox_of(email)].append(int(at) + 0.999999)
            self.left_by_person[email] = int(at) + 0.999999
        elif after in MEMBER and before not in MEMBER:
            self.left_by_person[email] = None


class Machine(RuleBasedStateMachine):
    """One organisation with four people, six addresses, and at most two segments on one audience."""

    runner: asyncio.Runner
    make: Callable[[], Awaitable[World]]

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.seq = 0
        self.story = Story()
        self.live: dict[str, UUID] = {}
        self.waiting: UUID | None = None

    def do(self, coroutine: Awaitable[T]) -> T:
        """Runs it in the machine's loop."""

        async def run() -> T:
            return await coroutine

        return self.runner.run(run())

    @initialize(
        population=st.lists(
            st.tuples(departments, chosen("in", "in", "in", None, "out")),
            min_size=len(PEOPLE), max_size=len(PEOPLE),
        ),
        first=segment_definitions,
        foreign=st.lists(addresses, max_size=2),
    )  # fmt: skip
    def begin(
        self,
        population: list[tuple[str, str | None]],
        first: dict[str, Any],
        foreign: list[str],
    ) -> None:
        self.world = self.do(self.make())
        self.seq = self.do(self.world.sandbox.seq())
        for number, (department, opted) in enumerate(population):
            person, address = PEOPLE[number], ADDRESSES[number]
            self.do(self.world.upsert(person, email=address, department=department))
            if opted:
                self.do(self.world.opt(person, opted))
        # some who stay: a source that is empty is the guard's matter
        for department in DEPARTMENTS:
            self.do(self.world.contact(f"{department.lower()}@acme.example", department=department))
        for address in foreign:
            self.try_act(self.world.sandbox.admin(self.world.list_id, address, "subscribe"))
        self.create_segment("One", first)
        self.follow("sync")

    # --- time -----------------------------------------------------------------------------------

    @rule(seconds=chosen(1, 90, 3600, 86_400, 8 * 86_400), then=follow_ups)
    def time_passes(self, seconds: int, then: str) -> None:
        self.do(self.world.wait(seconds))
        self.follow(then)

    def tick(self) -> None:
        """Mailchimp tells whole seconds: what people do after another is a second apart."""
        self.do(self.world.wait(1))

    # --- contacts and consent -------------------------------------------------------------------

    @rule(
        person=people, address=addresses, department=departments,
        says=chosen(None, None, None, "opted_in", "opted_in", "opted_out", "unset"),
        dated=chosen(None, None, -3600.0, 0.0), then=follow_ups,
    )  # fmt: skip
    def upsert(
        self, person: str, address: str, department: str, says: str | None, dated: float | None,
        then: str,
    ) -> None:  # fmt: skip
        self.tick()
        given: dict[str, Any] = {"email": address, "department": department}
        if says:
            given |= {"optStatus": says, "consentSource": "import"}
        if says == "opted_in" and dated is not None:
            at = self.world.now() + timedelta(seconds=dated)
            given |= {"consentGivenAt": at.isoformat(), "consentSource": "form of ours"}
        self.do(self.world.upsert(person, **given))
        self.follow(then)

    @rule(person=people, then=follow_ups)
    def delete_contact(self, person: str, then: str) -> None:
        self.tick()
        self.do(self.world.delete(person))
        self.follow(then)

    @rule(person=people, department=departments, then=follow_ups)
    def change_department(self, person: str, department: str, then: str) -> None:
        self.tick()
        self.do(self.world.change(person, department=department))
        self.follow(then)

    @rule(
        person=people, status=chosen("in", "in", "out"),
        ago=chosen(None, None, None, None, 2.0, 3600.0, 200_000.0), then=follow_ups,
    )  # fmt: skip
    def opt(self, person: str, status: str, ago: float | None, then: str) -> None:
        self.tick()
        at = None if ago is None else self.world.now() - timedelta(seconds=ago)
        try:
            self.do(self.world.opt(person, status, at=at))
        except ConflictError as error:
            note(f"refused: {error.code}")
        self.follow(then)

    # --- segments -------------------------------------------------------------------------------

    @rule(
        name=names, definition=segment_definitions, wanted=st.sets(departments),
        what=chosen("filter", "filter", "manners", "manners", "delete", "leave"), then=follow_ups,
    )  # fmt: skip
    def segment_changes(
        self, name: str, definition: dict[str, Any], wanted: set[str], what: str, then: str
    ) -> None:
        """Makes the segment where there is none of the name, else changes or deletes it."""
        self.tick()
        segment = self.live.get(name)
        if segment is None:
            self.create_segment(name, definition)
        elif what == "filter":
            filters = {"department": sorted(wanted)}
            self.do(self.world.update_segment(segment, filters=filters))
        elif what == "manners":
            manners = {k: definition[k] for k in ("onLeave", "optIn", "legalBasis")}
            self.do(self.world.update_segment(segment, **manners))
        else:
            del self.live[name]
            run = self.do(self.world.delete_segment(segment, leave=what == "leave"))
            if run:
                self.judge_run(run)
        self.follow(then)

    def create_segment(self, name: str, definition: dict[str, Any]) -> None:
        self.live[name] = self.do(self.world.segment(name, **definition))

    # --- runs -----------------------------------------------------------------------------------

    @rule(what=follow_ups)
    def work(self, what: str) -> None:
        self.follow(what)

    def follow(self, what: str) -> None:
        """What the service does next."""
        if what == "orders":
            self.do(self.world.orders())
        elif what == "opt-ins":
            self.do(self.world.live())
        elif what == "approve" and self.waiting:
            self.approve(self.waiting)
        elif what == "cancel" and self.waiting:
            run, self.waiting = self.waiting, None
            try:
                self.do(service.cancel(self.world.resources, self.world.actor, run))
            except ConflictError as error:
                note(f"not cancelled: {error.code}")
        elif what == "cancel queued":
            for segment in self.live.values():
                self.do(self.start_and_cancel(segment))
        elif what == "dry run":
            self.dry_runs()
        elif what in ("sync", "sync backwards"):
            for segment in list(self.live.values())[:: 1 if what == "sync" else -1]:
                self.sync(segment)

    def sync(self, segment: UUID) -> None:
        """A run, with all that must be true after it."""
        run = self.do(self.world.sync(segment))
        self.judge_run(run)
        self.look()
        if run.status == "awaiting_approval":
            self.waiting = run.id
        else:
            self.do(self.world.nothing_left(segment))
            self.nobody_withdrawn_is_a_member()

    def dry_runs(self) -> None:
        """They change nothing at Mailchimp."""
        for segment in self.live.values():
            before = self.do(self.world.sandbox.seq())
            run = self.do(self.world.sync(segment, dry_run=True))
            assert run.status == "succeeded", run
            assert self.do(self.world.writes(before)) == []

    def approve(self, run: UUID) -> None:
        """Lets held rows go, if they are still waiting."""
        self.waiting = None
        try:
            self.do(service.approve(self.world.resources, self.world.actor, run))
        except ConflictError as error:
            note(f"not approved: {error.code}")
            return
        self.judge_run(self.do(self.world.work(run)))

    async def start_and_cancel(self, segment: UUID) -> None:
        """A run that is cancelled before anybody works on it."""
        run = await service.start(self.world.resources, self.world.actor, segment, dry_run=False)
        await service.cancel(self.world.resources, self.world.actor, run.id)

    # --- people and admins at Mailchimp ---------------------------------------------------------

    @rule(
        address=addresses, act=chosen(*PERSON_ACTS), new=addresses, then=follow_ups,
        reason=chosen(None, "", "Unspecified"),
    )  # fmt: skip
    def person_acts(
        self, address: str, act: Any, new: str, then: str, reason: str | None
    ) -> None:  # fmt: skip
        self.tick()
        sandbox, list_id = self.world.sandbox, self.world.list_id
        moved = new if act == "change_email" else None
        if moved != address:
            self.try_act(sandbox.person(list_id, address, act, new_email=moved, reason=reason))
        self.follow(then)

    @rule(address=addresses, act=chosen(*ADMIN_ACTS), name=names, then=follow_ups)
    def admin_acts(self, address: str, act: Any, name: str, then: str) -> None:
        self.tick()
        tag = f"mcsync: {name}" if act == "untag" else None
        self.try_act(self.world.sandbox.admin(self.world.list_id, address, act, tag=tag))
        self.follow(then)

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
        entries = self.do(self.world.sandbox.history(list_id=self.world.list_id, since=self.seq))
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
        box = mailbox_of(email)
        if before in ("absent", "deleted") and entry["kind"] != "email":
            twins = {each for each in story.there if mailbox_of(each) == box} - {email}
            assert not twins, f"{email} is a second member beside {twins}"
        outs = consent.outs[box] + story.outs[box]
        ins = consent.ins[box] + story.ins[box]
        if outs:
            assert ins, f"{email} -> {after} after a withdrawal"
            assert max(ins) > max(outs), f"{email} -> {after} after a later withdrawal"
        for address in story.chain.get(email, set()) | {email}:
            for person, last_in, last_out in consent.holders[mailbox_of(address)]:
                assert last_out is None or (last_in or 0) > last_out, f"{person} has withdrawn"
        left = story.left_by_person.get(email)
        if left is not None:
            assert after == "pending", f"{email} unsubscribed in person"
            assert max([0.0, *consent.explicit[box]]) > left, f"{email} did not opt in again"

    async def consent(self) -> Consent:
        """What was recorded of people and addresses: the events, as they were appended."""
        key_of = {
            keyed_hash(self.world.org.hash_key, "address", mailbox_of(each)): mailbox_of(each)
            for each in ADDRESSES
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
            consent.holders[mailbox_of(row.email or "")].append(
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
            email, box = member["email"], mailbox_of(member["email"])
            outs = consent.outs[box] + self.story.outs[box]
            ins = consent.ins[box] + self.story.ins[box]
            signed = max([0.0, *self.story.ins[box]])
            known = bool(consent.holders[box])
            assert not outs or max([0.0, *ins]) > max(outs) or not known, (
                f"{email} is a member still"
            )
            for person, last_in, last_out in consent.holders[box]:
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
