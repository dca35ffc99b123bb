"""What the sync's machine does, with files as people have them: broken rows, zoneless times, blank addresses.

What a row states is judged by the row itself, before any sync: an opt-out must be on record whatever else is
wrong with it, a word that is not understood opts nobody in, and a time without a zone counts as the earliest
moment that it can be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from mcsync.features.contacts import service as contacts
from mcsync.features.preferences.service import PreferencesConsentSink
from mcsync.mailchimp import mailbox_of
from tests.features.sync.machine import (
    Machine,
    addresses,
    chosen,
    departments,
    follow_ups,
    people,
)

HEADER = "entityType,entityId,email,optStatus,consentGivenAt,consentSource,department\n"
CLEAR = ("opted_out", "Opted-Out", "unsubscribed", "OPT OUT")
"""Words that mean a withdrawal wherever they stand in a row."""
OUT = (*CLEAR, "false", "No", "0")
NOT_UNDERSTOOD = ("true", "yes", "1", "subscribed", "ja", "maybe", "opted in?")
FIRST_ZONE = timedelta(hours=14)
"""How far ahead of UTC the first place on earth is to see a moment of the clock."""


class FilesMachine(Machine):
    """The machine of the sync, with imports of files."""

    def __init__(self) -> None:
        super().__init__()
        self.files = 0
        self.said_shortly: set[str] = set()

    @rule(
        person=people, address=st.one_of(addresses, addresses, st.just("")), department=departments,
        then=follow_ups,
    )  # fmt: skip
    def whole_row(self, person: str, address: str, department: str, then: str) -> None:
        """Without a statement; the address may be blank."""
        self.tick()
        self.bring(f"employee,{person},{address},,,,{department}\n")
        (found,) = self.do(
            self.world.sql("select email, department from contacts where entity_id = :e", e=person)
        )
        assert (found.email or "", found.department) == (address, department)
        self.follow(then)

    @rule(
        person=people, address=addresses, word=chosen(*OUT), clear=chosen(*CLEAR),
        broken=chosen("short", "long", "over-long", "no kind", "no id", "bad address", "bad time"),
        then=follow_ups,
    )  # fmt: skip
    def opt_out_in_a_broken_row(
        self, person: str, address: str, word: str, clear: str, broken: str, then: str
    ) -> None:
        """Each with a source of its own, so that it repeats nothing; the short one has none."""
        self.tick()
        at, source = self.world.now().isoformat(), self.source()
        row = {
            "short": f"employee,{person},{clear}\n",
            "long": f"employee,{person},{address},Sales,{clear},{at},{source},Sales,more,yet more\n",
            "over-long": f"employee,{person},{address},{word},{at},{source},{'x' * 300}\n",
            "no kind": f"robot,{person},{address},{word},{at},{source},Sales\n",
            "no id": f"employee,,{address},{word},{at},{source},Sales\n",
            "bad address": f"employee,{person},no-address,{word},{at},{source},Sales\n",
            "bad time": f"employee,{person},{address},{word},soon,{source},Sales\n",
        }[broken]
        self.bring(row)
        states = self.states()
        if broken in ("no kind", "no id"):
            assert {s for _, box, s in states if box == mailbox_of(address)} <= {"opted_out"}, row
        elif broken != "short" or person not in self.said_shortly:
            # a refused row brings nobody back who had left
            assert {s for who, _, s in states if who == person} <= {"opted_out"}, row
        if broken == "short":
            self.said_shortly.add(person)
        self.follow(then)

    @rule(
        person=people, address=addresses, hours=chosen(-30.0, -13.0, -5.0, -0.5, 0.5, 20.0),
        word=chosen("opted_in", "opted_in", "Opt-In", *NOT_UNDERSTOOD), then=follow_ups,
    )  # fmt: skip
    def opt_in_without_a_zone(
        self, person: str, address: str, hours: float, word: str, then: str
    ) -> None:
        """The machine's judgement goes by what is recorded, so this must not be later than it can be."""
        self.tick()
        source = self.source()
        clock = (self.world.now() + timedelta(hours=hours)).replace(tzinfo=None, microsecond=0)
        self.bring(f"employee,{person},{address},{word},{clock.isoformat(' ')},{source},Sales\n")
        earliest = clock.replace(tzinfo=UTC) - FIRST_ZONE
        for event in self.do(
            self.world.sql(
                "select status, effective_at from preference_events where source = :s", s=source
            )
        ):
            assert word not in NOT_UNDERSTOOD
            assert event.status == "opted_in"
            assert event.effective_at <= min(earliest, self.world.now())
        self.follow(then)

    # --- how -------------------------------------------------------------------------------------

    def source(self) -> str:
        """A source of consent that no other row has."""
        self.files += 1
        return f"file {self.files}"

    def bring(self, row: str) -> None:
        """Imports a file of one row."""
        data = (HEADER + row).encode()

        async def body() -> AsyncIterator[bytes]:
            yield data

        async def send() -> None:
            await contacts.import_file(
                self.world.resources, self.world.actor, body(), "text/csv",
                PreferencesConsentSink(self.world.resources, self.world.actor),
                confirm_withdrawals=True,
            )  # fmt: skip

        self.do(send())

    def states(self) -> list[tuple[str, str, str]]:
        """Each living contact with its mailbox and its recorded consent."""
        rows = self.do(
            self.world.sql(
                """select c.entity_id, c.email, coalesce(p.status, 'unset') as status from contacts c
                   left join email_preferences p on p.org_id = c.org_id
                        and p.entity_type = c.entity_type and p.entity_id = c.entity_id
                   where c.deleted_at is null"""
            )
        )
        return [(row.entity_id, mailbox_of(row.email or ""), row.status) for row in rows]
