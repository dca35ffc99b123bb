"""An opt-out counts whatever else is wrong with its row, wherever the person can be told."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from mcsync.core.crypto import keyed_hash
from mcsync.core.resources import Resources
from tests.features.contacts.callers import PERSON, Caller, codes, counts
from tests.features.preferences.test_preferences import audience, orders
from tests.support.organisations import Org

HEAD = "entityType,entityId,email,optStatus,location,department"
EMAIL = PERSON["email"]
LONG = "x" * 300


@pytest.fixture
async def known(editor: Caller) -> Caller:
    """An editor whose contacts E-1 and E-2 opted in."""
    await editor.upserted(
        {"entityType": "employee", "entityId": "E-1", "email": EMAIL, "department": "R&D"},
        {"entityType": "employee", "entityId": "E-2", "email": "p2@corp.example"},
    )
    await editor.says("opted_in", "E-1")
    await editor.says("opted_in", "E-2")
    return editor


async def statuses(caller: Caller) -> list[str]:
    return [(await caller.preference(entity))["status"] for entity in ("E-1", "E-2")]


class TestCsv:
    @pytest.mark.parametrize(
        ("row", "code"),
        [
            # cells that are missing at the end are empty; the rest is taken
            (f"employee,E-1,{EMAIL},opted_out,IT", None),
            (f"employee,E-1,{EMAIL},opted_out", None),
            # surplus cells that are empty are dropped
            (f"employee,E-1,{EMAIL},opted_out,Roma,IT,,,", None),
            # shifted, and so refused
            (f"employee,E-1,{EMAIL},Roma,opted_out", "wrong_column_count"),
            (f"employee,E-1,opted_out,{EMAIL}", "wrong_column_count"),
            (f"employee,E-1,{EMAIL},opted_out,Roma,IT,Rome, Italy", "wrong_column_count"),
            (f"E-1,{EMAIL},Unsubscribed,a,b,c,d,e", "wrong_column_count"),
            ("1,employee,E-1,,do not contact,Roma,IT", "wrong_column_count"),
            (f'employee,E-1,{EMAIL},opted_out,"Roma,IT', "unclosed_quote"),
            # one value is wrong
            (f"employee,E-1,{EMAIL},opted_out,{LONG},IT", "too_long"),
            (f"employee,{LONG},{EMAIL},opted_out,Roma,IT", "too_long"),
            (f"robot,E-1,{EMAIL},opted_out,Roma,IT", "unknown_entity_type"),
            (f",E-1,{EMAIL},opted_out,Roma,IT", "missing_entity_type"),
            (f"employee,,{EMAIL},opted_out,Roma,IT", "missing_entity_id"),
            ("employee,E-1,ada(at)nordlicht-werke.example,opted_out,Roma,IT", "invalid_email"),
            (f"employee,E-1,Ada <{EMAIL}>,opted_out,Roma,IT", "invalid_email"),
            (f"employee,E-7,mailto:{EMAIL};x,opted_out,Roma,IT", "invalid_email"),
            ("employee,E-1,,opted_out,Roma,IT", None),
            (f"employee,E-\0,{EMAIL},opted_out,Roma,IT", "nul_character"),
        ],
    )
    async def test_it_counts(self, known: Caller, row: str, code: str | None) -> None:
        answer = await known.took(f"{HEAD}\n{row}\n")
        assert {one[2] for one in codes(answer)} == ({code} if code else set())
        assert await statuses(known) == ["opted_out", "opted_in"]
        assert (await known.preference("E-2"))["address"]["withdrawn"] is False
        assert answer["received"] == 1
        assert answer["consent"]["optedOut"] == 1

    @pytest.mark.parametrize(
        ("column", "value", "status"),
        [
            ("unsubscribed", "true", "opted_out"),
            ("Unsubscribed", "1", "opted_out"),
            ("Opted Out", "YES", "opted_out"),
            ("HasOptedOutOfEmail", "x", "opted_out"),
            ("do-not-mail", "2026-03-01 10:00", "opted_out"),
            ("opt_out", "unsubscribed", "opted_out"),
            ("unsubscribed", "false", "opted_in"),
            ("unsubscribed", "0", "opted_in"),
            ("unsubscribed", "", "opted_in"),
            ("unsubscribed_newsletters", "3", "opted_in"),
        ],
    )
    async def test_a_column_of_yes_and_no_is_one(
        self, known: Caller, column: str, value: str, status: str
    ) -> None:
        head = f"entityType,entityId,email,{column}"
        await known.took(f"{head}\nemployee,E-1,{EMAIL},{value}\nemployee,E-2,p2@corp.example,\n")
        assert await statuses(known) == [status, "opted_in"]

    async def test_such_a_column_that_repeats_itself_withdraws_once(self, known: Caller) -> None:
        file = f"entityType,entityId,email,unsubscribed\nemployee,E-1,{EMAIL},%s\n"
        await known.took(file % "true")
        await known.says("opted_in", "E-1")
        await known.took(file % "true")
        assert (await statuses(known))[0] == "opted_in"
        await known.took(file % "false")
        await known.took(file % "true")
        assert (await statuses(known))[0] == "opted_out"

    async def test_bytes_that_are_no_text_do_not_hide_it(self, known: Caller) -> None:
        rows = (
            f"{HEAD}\n".encode()
            + f"employee,E-1,{EMAIL},opted_out,M\xfcnchen,IT\n".encode("latin-1")
            + "employee,\xfc,p2@corp.example,opted_out,Roma,IT\n".encode("latin-1")
        )
        answer = await known.took(rows)
        assert codes(answer) == [(2, "location", "invalid_utf8"), (3, "entityId", "invalid_utf8")]
        assert [row["taken"] for row in answer["rejections"]] == [True, False]
        assert await statuses(known) == ["opted_out", "opted_out"]
        found = await known.contact()
        assert (found["location"], found["department"]) == (None, "IT")

    async def test_it_counts_in_any_row_about_the_contact(self, known: Caller) -> None:
        answer = await known.took(
            f"{HEAD}\n"
            f"employee,E-1,{EMAIL},opted_in,,\n"
            f"employee,E-1,{EMAIL},,,\n"
            f"employee,E-1,{EMAIL},Opt-out,,\n"
        )
        assert answer["rejected"] == 2
        assert (await statuses(known))[0] == "opted_out"

    async def test_an_address_that_no_contact_has_keeps_it_for_later(
        self, known: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        await audience(resources, organisation)
        answer = await known.took(f"{HEAD}\nrobot,9,later@corp.example,opted_out,,\n")
        assert (answer["rejected"], answer["consent"]["optedOut"]) == (1, 1)
        await known.took(f"{HEAD}\nemployee,E-9,later@corp.example,opted_in,,\n")
        found = await known.preference("E-9")
        assert (found["status"], found["address"]["status"]) == ("unset", "opted_out")
        history = (await known.query("preferences.history", email="later@corp.example")).json()
        assert [(e["entityId"], e["status"], e["proof"]["line"]) for e in history["items"]][-1] == (
            None, "opted_out", 2,
        )  # fmt: skip

    async def test_a_member_at_mailchimp_is_unsubscribed(
        self, known: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        subscribed = await audience(resources, organisation, "subscribed")
        await known.took(f"{HEAD}\n?,?,{EMAIL},unsubscribed,,\n")
        assert await orders(onlooker) == [subscribed]

    async def test_everybody_with_the_address_is_withdrawn(self, known: Caller) -> None:
        await known.upserted({"entityType": "vendor", "entityId": "V-1", "email": EMAIL.upper()})
        await known.took(f"{HEAD}\n,,{EMAIL},opted_out,,\n")
        assert (await known.preference("V-1", "vendor"))["status"] == "opted_out"
        assert await statuses(known) == ["opted_out", "opted_in"]

    async def test_a_shifted_row_without_a_clear_word_withdraws_nobody(self, known: Caller) -> None:
        for word in ("no", "false", "0", "opted_in", "on leave"):
            answer = await known.took(f"{HEAD}\nemployee,E-1,{EMAIL},Roma,IT,x,{word}\n")
            assert codes(answer) == [(2, None, "wrong_column_count")]
        assert await statuses(known) == ["opted_in", "opted_in"]

    async def test_an_erased_person_leaves_no_new_trace(
        self, known: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        for kind, what in (("address", "gone@corp.example"), ("entity", "employee\0E-7")):
            await onlooker.execute(
                "insert into suppressions (org_id, kind, key) values ($1, $2, $3)",
                organisation.id, kind, keyed_hash(organisation.hash_key, kind, what),
            )  # fmt: skip
        before = await onlooker.fetchval("select count(*) from address_consents")
        answer = await known.took(
            f"{HEAD}\n"
            "robot,1,gone@corp.example,opted_out,,\n"
            "employee,E-8,gone@corp.example,opted_out,,\n"
            "employee,E-7,other@corp.example,opted_out,,\n"
        )
        assert [code for _, _, code in codes(answer)] == [
            "unknown_entity_type", "suppressed", "suppressed",
        ]  # fmt: skip
        assert await onlooker.fetchval("select count(*) from address_consents") == before
        assert await onlooker.fetchval("select count(*) from stated_opt_outs") == 0


class TestObjects:
    @pytest.mark.parametrize(
        "given",
        [
            {"entityId": "E-1", "firstName": 5, "optStatus": "opted_out"},
            {"entityId": "E-1", "email": [EMAIL], "optStatus": "opted_out"},
            {"entityId": ["E-1"], "email": EMAIL, "optStatus": "opted_out"},
            {"entityId": None, "email": [EMAIL], "optStatus": "opted_out"},
            {"entityId": True, "email": {"work": EMAIL}, "optStatus": "opted_out"},
            {"entityId": "E-1", "optStatus": False},
            {"entityId": "E-1", "optStatus": 0},
            {"entityId": "E-1", "optStatus": 0.0},
            {"entityId": "E-1", "optStatus": ["unsubscribed"]},
            {"entityId": "E-1", "OptStatus": "opted_out"},
            {"entityId": "E-1", "opt_status": "opted_out", "attributes": [1]},
            {"entityId": "E-1", "optStatus": "opted_out", "consentSource": 5, "consentGivenAt": {}},
            {"entityType": 7, "entityId": "E-1", "email": EMAIL, "optStatus": "opted_out"},
            {"entityId": "E-1", "optStatus": "opted_out", "attributes": {"a": [1]}},
            {"entityId": "E-1\0", "email": f"mailto:{EMAIL}", "optStatus": "opted_out"},
        ],
    )
    async def test_a_wrong_type_does_not_hide_it(
        self, known: Caller, given: dict[str, Any]
    ) -> None:
        contact = {"entityType": "employee"} | given
        answer = await known.took(json.dumps(contact), "application/x-ndjson")
        assert (answer["received"], answer["consent"]["optedOut"]) == (1, 1)
        assert await statuses(known) == ["opted_out", "opted_in"]
        await known.says("opted_in", "E-1")
        answer = await known.upserted(
            contact, {"entityType": "vendor", "entityId": "V", "email": ""}
        )
        assert answer["created"] == 1
        assert await statuses(known) == ["opted_out", "opted_in"]

    async def test_a_number_as_id_tells_who(self, editor: Caller) -> None:
        await editor.upserted({"entityType": "employee", "entityId": "1042", "email": EMAIL})
        answer = await editor.upserted(
            {"entityType": "employee", "entityId": 1042.0, "optStatus": "opted_out"}
        )
        assert codes(answer) == [(0, "entityId", "invalid_type")]
        assert (await editor.preference("1042"))["status"] == "opted_out"

    @pytest.mark.parametrize(
        "line",
        [
            b'{"entityType":"employee","entityId":"E-1","optStatus":"opted_out"',
            b'{"entityType":"?","email":"ada@nordlicht-werke.example","optStatus":"opted_out",}',
            b"{'entityType':'employee','entityId':'E-1','optStatus':'opted_out'}",
            b'{"optStatus":"opted_out","email":"ada@nordlicht-werke.example","lastName":"M\xfcller"',
            b'{"entityType":"employee","entityId":"E-1","optStatus":false,"x":NaN}',
            b'[{"entityType":"employee","entityId":"E-1","optStatus":"opted_out"}]',
        ],
    )
    async def test_a_line_that_is_no_object_does_not_hide_it(
        self, known: Caller, line: bytes
    ) -> None:
        answer = await known.took(line, "application/x-ndjson")
        assert counts(answer) == (1, 0, 0, 0, 1)
        assert await statuses(known) == ["opted_out", "opted_in"]

    async def test_bytes_that_are_no_text_cost_their_field(self, known: Caller) -> None:
        line = (
            '{"entityType":"employee","entityId":"E-1","firstName":"J\xfcrgen","lastName":"New",'
            '"attributes":{"a":"\xfc","b":"x"},"optStatus":"opted_out"}'
        ).encode("latin-1")
        answer = await known.took(line, "application/x-ndjson")
        assert codes(answer) == [
            (1, "attributes.a", "invalid_utf8"), (1, "firstName", "invalid_utf8"),
        ]  # fmt: skip
        found = await known.contact()
        assert (found["lastName"], found["attributes"]) == ("New", {"b": "x"})
        assert await statuses(known) == ["opted_out", "opted_in"]


class TestStatements:
    HEAD = "entityType,entityId,optStatus,consentSource,consentGivenAt,evidence"

    @pytest.mark.parametrize(
        "row",
        [
            "employee,E-1,opted_out",
            "employee,E-1,unsubscribed by phone,,,,",
            "employee,E-1,FALSE,list,31.02.2026,",
            f"employee,E-1,opted_out,{LONG},,",
            f"employee,E-1,opted_out,,,{'x' * 5000}",
            "employee,E-1,letter,opted_out",
            "employee,E-1,opted_out,letter,,Rome, Italy",
            f"robot,E-1,opted_out,,,{EMAIL},x",
        ],
    )
    async def test_it_counts(self, known: Caller, row: str) -> None:
        answer = (await known.stated(f"{self.HEAD}\n{row}\n")).json()
        assert answer["received"] == 1
        assert await statuses(known) == ["opted_out", "opted_in"]
        assert answer["optedOut"] == 1
        assert answer["unchanged"] == 0

    async def test_objects(self, known: Caller) -> None:
        rows = [
            {"entityType": "employee", "entityId": "E-1", "optStatus": False},
            {"email": "p2@corp.example", "optStatus": "opted_out"},
        ]
        answer = (
            await known.stated("\n".join(map(json.dumps, rows)), "application/x-ndjson")
        ).json()
        assert (answer["optedOut"], answer["rejected"], answer["unchanged"]) == (2, 1, 0)
        assert await statuses(known) == ["opted_out", "opted_out"]


class TestGuard:
    @pytest.fixture
    def more_settings(self) -> dict[str, object]:
        return {"guard_removals_min": 3, "guard_removals_share": 0.1}

    @pytest.mark.parametrize(
        "row",
        ["robot,C{n},c{n}@n.example,opted_out,,", "employee,C{n},c{n}@n.example,x,,,,opted_out"],
    )
    async def test_refused_rows_count_too(self, editor: Caller, row: str) -> None:
        await editor.upserted(
            *({"entityType": "employee", "entityId": f"C{n}", "email": f"c{n}@n.example"}
              for n in range(20))
        )  # fmt: skip
        content = "\n".join([HEAD, *(row.format(n=n) for n in range(20)), ""])
        refused = await editor.send(content)
        assert (refused.status_code, refused.json()["withdrawals"]) == (409, 20)
        assert (await editor.preference("C1"))["status"] == "unset"
        answer = await editor.took(content, confirmWithdrawals=True)
        assert answer["consent"]["optedOut"] == 20
        assert (await editor.preference("C1"))["status"] == "opted_out"
