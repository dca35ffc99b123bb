"""Consent that comes with an import."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from mcsync.core.resources import Resources
from tests.features.contacts.callers import PERSON, Caller, codes, counts
from tests.features.preferences.test_preferences import audience, days_ago, orders
from tests.support.organisations import Org

HEAD = "entityType,entityId,email,optStatus,consentSource,consentGivenAt"
EMAIL = PERSON["email"]


def file(*rows: str) -> str:
    return "\n".join([HEAD, *rows, ""])


def crowd(count: int, status: str, start: int = 0) -> str:
    return file(
        *(f"employee,C{n},c{n}@n.example,{status},list," for n in range(start, start + count))
    )


class TestOptIn:
    async def test_new_contacts_come_with_their_consent(self, editor: Caller) -> None:
        given = days_ago(10)
        answer = await editor.took(
            file(
                f"employee,E-1,{EMAIL},opted_in,intranet,{given}",
                "employee,E-2,b@n.example,opted_out,letter,",
                "employee,E-3,c@n.example,opted_in,,",
                "employee,E-4,d@n.example,,ignored,nonsense",
                "employee,E-5,e@n.example,unset,,",
            )
        )
        assert counts(answer) == (5, 5, 0, 0, 0)
        first = await editor.preference()
        assert (first["status"], first["source"]) == ("opted_in", "intranet")
        assert datetime.fromisoformat(first["consentGivenAt"]) == datetime.fromisoformat(given)
        assert first["proof"] == {"importId": answer["id"], "line": 2}
        assert (await editor.preference("E-2"))["status"] == "opted_out"
        assert (await editor.preference("E-3"))["source"] == "import"
        for entity in ("E-4", "E-5"):
            assert (await editor.preference(entity))["status"] == "unset"

    async def test_the_same_file_again_adds_nothing(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON | {"entityId": "E-9", "email": "z@n.example"})
        await editor.says("opted_out", "E-9")
        content = file(
            f"employee,E-1,{EMAIL},opted_in,intranet,{days_ago(3)}",
            "employee,E-2,b@n.example,opted_out,letter,",
            "employee,E-3,c@n.example,opted_in,,",
            f"employee,E-9,z@n.example,opted_in,,{days_ago(3)}",
            "employee,E-8,z@n.example,opted_in,,",
        )
        state = (
            "select entity_id, status, consent_given_at, consent_withdrawn_at, changed_xid, proof"
            " from email_preferences order by 1"
        )
        addresses = "select address_key, withdrawn_at, given_at, changed_xid from address_consents order by 1"
        events = "select id, applied from preference_events order by id"
        first = await editor.took(content)
        before = [await onlooker.fetch(query) for query in (state, addresses, events)]
        second = await editor.took(content)
        assert [await onlooker.fetch(query) for query in (state, addresses, events)] == before
        expected = [
            (5, "consentGivenAt", "opt_in_not_newer"),
            (6, "consentGivenAt", "opt_in_not_newer"),
        ]
        assert codes(first) == codes(second) == expected
        assert counts(first) == (5, 4, 0, 1, 0)
        assert counts(second) == (5, 0, 0, 5, 0)

    async def test_an_opt_in_that_is_not_newer_leaves_the_withdrawal_but_takes_the_row(
        self, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_out")
        withdrawn = (await editor.preference())["consentWithdrawnAt"]
        for given in (days_ago(1), withdrawn, ""):
            answer = await editor.took(
                HEAD + f",firstName\nemployee,E-1,{EMAIL},opted_in,x,{given},N{given}\n"
            )
            assert codes(answer) == [(2, "consentGivenAt", "opt_in_not_newer")]
            assert answer["rejected"] == 0
            assert (await editor.contact())["firstName"] == f"N{given}"
            assert (await editor.preference())["status"] == "opted_out"
        newer = datetime.now(UTC).isoformat()
        answer = await editor.took(file(f"employee,E-1,{EMAIL},opted_in,x,{newer}"))
        assert codes(answer) == []
        assert (await editor.preference())["status"] == "opted_in"

    async def test_a_withdrawn_address_binds_whoever_is_imported_with_it(
        self, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_out")
        await editor.mutate("contacts.delete", entityType="employee", entityId="E-1")
        answer = await editor.took(
            file(
                f"employee,E-2,{EMAIL},opted_in,x,{days_ago(1)}",
                f"employee,E-3,{EMAIL},opted_in,x,",
                f"employee,E-4,{EMAIL},,,",
            )
        )
        assert counts(answer) == (3, 3, 0, 0, 0)
        assert [code for *_, code in codes(answer)] == ["opt_in_not_newer"] * 2
        found = await editor.preference("E-4")
        assert (found["status"], found["address"]["status"]) == ("unset", "opted_out")

    async def test_a_time_ahead_of_our_clock_counts_as_now(self, editor: Caller) -> None:
        ahead = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
        await editor.took(file(f"employee,E-1,{EMAIL},opted_in,x,{ahead}"))
        assert (await editor.says("opted_out")).json()["status"] == "opted_out"
        found = await editor.preference()
        assert (found["status"], found["address"]["withdrawn"]) == ("opted_out", True)

    async def test_later_is_by_the_time_of_consent_not_of_recording(self, editor: Caller) -> None:
        await editor.took(file(f"employee,E-1,{EMAIL},opted_in,x,{days_ago(1)}"))
        await editor.took(file(f"employee,E-1,{EMAIL},opted_in,y,{days_ago(9)}"))
        assert (await editor.preference())["source"] == "x"


class TestOptOut:
    async def test_it_holds_at_once_whatever_was_recorded_and_orders_its_way(
        self, editor: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        subscribed = await audience(resources, organisation, "subscribed")
        await audience(resources, organisation)
        await editor.upserted(PERSON)
        await editor.says("opted_in")
        await editor.took(file(f"employee,E-1,{EMAIL},opted_out,list,{days_ago(30)}"))
        found = await editor.preference()
        assert (found["status"], found["source"]) == ("opted_out", "list")
        assert found["consentWithdrawnAt"] >= found["consentGivenAt"]
        assert found["address"]["withdrawn"] is True
        assert await orders(onlooker) == [subscribed]

    async def test_it_holds_even_where_its_row_is_refused(self, editor: Caller) -> None:
        await editor.upserted(PERSON, PERSON | {"entityId": "E-2", "email": "b@n.example"})
        answer = await editor.took(
            file(
                "employee,E-1,,opted_out,,",
                "employee,E-2,b@n.example,opted_in,,",
                "employee,E-2,b@n.example,opted_out,,",
                "employee,E-3,bad,opted_out,,",
            )
        )
        assert (
            answer["rejected"] == 2
        )  # a blank address is taken, as that of a contact who has none
        assert (await editor.preference())["status"] == "opted_out"
        assert (await editor.preference("E-2"))["status"] == "opted_out"

    async def test_unset_in_a_file_takes_back_an_opt_in_only(self, editor: Caller) -> None:
        await editor.upserted(PERSON, PERSON | {"entityId": "E-2", "email": "b@n.example"})
        await editor.says("opted_in")
        await editor.says("opted_out", "E-2")
        await editor.took(file(f"employee,E-1,{EMAIL},unset,,", "employee,E-2,b@n.example,unset,,"))
        assert (await editor.preference())["status"] == "unset"
        assert (await editor.preference("E-2"))["status"] == "opted_out"

    async def test_an_upsert_follows_the_same_rules(self, editor: Caller) -> None:
        await editor.upserted(PERSON | {"optStatus": "opted_out"})
        answer = await editor.upserted(
            PERSON | {"optStatus": "opted_in", "consentGivenAt": days_ago(1)}
        )
        assert codes(answer) == [(0, "consentGivenAt", "opt_in_not_newer")]
        assert (await editor.preference())["source"] == "api"


class TestGuard:
    @pytest.fixture
    def more_settings(self) -> dict[str, object]:
        return {"guard_removals_min": 3, "guard_removals_share": 0.1}

    async def test_a_file_that_withdraws_too_many_changes_nothing_until_confirmed(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.took(crowd(60, "opted_in"))
        audited = await onlooker.fetchval("select count(*) from audit_entries")
        content = crowd(7, "opted_out") + "employee,new,n@n.example,,,\n"
        refused = await editor.send(content)
        body = refused.json()
        assert (refused.status_code, body["code"]) == (409, "confirm_withdrawals")
        assert (body["withdrawals"], body["contacts"], body["limit"]) == (7, 60, 6)
        assert await onlooker.fetchval("select count(*) from contacts") == 60
        assert await onlooker.fetchval("select count(*) from audit_entries") == audited
        assert (await editor.preference("C0"))["status"] == "opted_in"
        answer = await editor.took(content, confirmWithdrawals=True)
        assert counts(answer) == (8, 1, 0, 7, 0)
        assert (await editor.preference("C0"))["status"] == "opted_out"
        assert counts(await editor.took(content)) == (8, 0, 0, 8, 0)

    async def test_as_many_as_the_limit_pass(self, editor: Caller) -> None:
        await editor.took(crowd(60, "opted_in"))
        await editor.took(crowd(6, "opted_out"))
        assert (await editor.preference("C5"))["status"] == "opted_out"

    async def test_new_contacts_that_come_opted_out_withdraw_nobody(self, editor: Caller) -> None:
        assert counts(await editor.took(crowd(50, "opted_out"))) == (50, 50, 0, 0, 0)

    async def test_unless_their_addresses_are_those_of_others(self, editor: Caller) -> None:
        await editor.took(crowd(20, "opted_in"))
        renamed = crowd(20, "opted_out").replace("employee,C", "vendor,X")
        assert (await editor.send(renamed)).json()["code"] == "confirm_withdrawals"

    async def test_an_upsert_is_guarded_too(self, editor: Caller) -> None:
        await editor.took(crowd(20, "opted_in"))
        contacts = [
            PERSON | {"entityId": f"C{n}", "email": f"c{n}@n.example", "optStatus": "opted_out"}
            for n in range(4)
        ]
        refused = await editor.mutate("contacts.upsert", contacts=contacts)
        assert refused.json()["code"] == "confirm_withdrawals"
        await editor.upserted(*contacts, confirmWithdrawals=True)
