"""preferences.import: statements of consent with their proof, from a file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from tests.features.contacts.callers import Caller, codes
from tests.features.preferences.test_preferences import days_ago
from tests.support.organisations import Org

HEAD = "entityType,entityId,optStatus,consentSource,consentGivenAt,form,wordingVersion,ipAddress,evidence"


def file(*rows: str, head: str = HEAD) -> str:
    return "\n".join([head, *rows, ""])


def told(answer: dict[str, Any]) -> dict[str, int]:
    """The counts that are not 0."""
    names = (
        "received", "optedIn", "optedOut", "unset", "unchanged", "notNewer", "rejected",
    )  # fmt: skip
    return {name: answer[name] for name in names if answer[name]}


@pytest.fixture
async def known(editor: Caller) -> Caller:
    """An editor whose organisation has contacts E-1 to E-6."""
    await editor.upserted(
        *({"entityType": "employee", "entityId": f"E-{n}", "email": f"p{n}@acme.example"}
          for n in range(1, 7))
    )  # fmt: skip
    return editor


async def took(
    caller: Caller, content: str, kind: str = "text/csv", **given: Any
) -> dict[str, Any]:
    answer = await caller.stated(content, kind, **given)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_statements_are_recorded_with_their_proof(
    known: Caller, onlooker: asyncpg.Connection
) -> None:
    given = days_ago(10)
    answer = await took(
        known,
        file(
            f'employee,E-1,opted_in,intranet,{given},/news,2026-03,192.0.2.7,"ticket 4711, page 2"',
            "employee,E-2,opted_out,letter,,,,,",
            "EMPLOYEE,E-3,Opted In,,,,,,",
            "employee,E-4,unset,,,,,,",
        ),
    )
    assert told(answer) == {"received": 4, "optedIn": 2, "optedOut": 1, "unchanged": 1}
    assert answer["rejections"] == []
    first = await known.preference()
    assert (first["status"], first["source"]) == ("opted_in", "intranet")
    assert datetime.fromisoformat(first["consentGivenAt"]) == datetime.fromisoformat(given)
    assert first["proof"] == {
        "importId": answer["id"], "line": 2, "form": "/news", "wordingVersion": "2026-03",
        "ipAddress": "192.0.2.7", "evidence": "ticket 4711, page 2",
    }  # fmt: skip
    assert (await known.preference("E-2"))["status"] == "opted_out"
    assert (await known.preference("E-3"))["source"] == "import"
    assert (await known.history())[-1]["proof"] == first["proof"]
    entry = await onlooker.fetchrow(
        "select action, entity_id, diff::text as diff from audit_entries order by seq desc limit 1"
    )
    assert entry is not None
    assert (entry["action"], entry["entity_id"]) == ("preferences.import", answer["id"])
    assert json.loads(entry["diff"])["opted_in"] == 2
    assert "4711" not in entry["diff"]


async def test_ndjson_too(known: Caller) -> None:
    rows = [
        {"entityType": "employee", "entityId": "E-1", "optStatus": "opted_in",
         "ipAddress": "2001:db8::1", "evidence": 'Zoë said "yes"\tand\\or so'},
        {"entityType": "employee", "entityId": "E-2", "optStatus": "opted_in", "consent": "x"},
        {"entityType": "employee", "entityId": "E-3", "optStatus": 1},
    ]  # fmt: skip
    answer = await took(
        known, "\n".join(json.dumps(row) for row in rows), "application/x-ndjson; charset=utf-8"
    )
    assert told(answer) == {"received": 3, "optedIn": 1, "rejected": 2}
    assert codes(answer) == [(2, None, "unknown_field"), (3, "optStatus", "invalid_consent")]
    assert (await known.preference())["proof"]["evidence"] == 'Zoë said "yes"\tand\\or so'


async def test_what_is_wrong_is_reported_row_by_row_and_keeps_no_other_out(known: Caller) -> None:
    answer = await took(
        known,
        file(
            "employee,E-1,opted_in,,,,,,",
            "employee,E-2,maybe,,,,,,",
            "employee,E-3,,,,,,,",
            "employee,nobody,opted_in,,,,,,",
            "employee,E-4,opted_in,,2099-01-01T00:00:00Z,,,,",
            f"employee,E-5,opted_in,,,{'x' * 501},,300.1.1.1,",
            "employee,E-1,opted_in,,,,,,",
            "robot,,opted_in,,,,,,",
            "employee,E-6,opted_in,,,,,,,more",
        ),
    )
    assert told(answer) == {"received": 9, "optedIn": 1, "rejected": 8}
    assert codes(answer) == [
        (3, "optStatus", "invalid_consent"),
        (4, "optStatus", "missing_opt_status"),
        (5, "entityId", "contact_not_found"),
        (6, "consentGivenAt", "invalid_consent"),
        (7, "form", "too_long"),
        (7, "ipAddress", "invalid_ip_address"),
        (8, "entityId", "duplicate_entity_id"),
        (9, "entityId", "missing_entity_id"),
        (9, "entityType", "unknown_entity_type"),
        (10, None, "wrong_column_count"),
    ]
    assert "300.1.1.1" not in json.dumps(answer)
    report = (await known.query("preferences.getImport", id=answer["id"], limit=2)).json()
    assert (report["kind"], report["rejected"], len(report["items"])) == ("csv", 8, 2)
    assert report["nextCursor"]
    elsewhere = await known.query("contacts.getImport", id=answer["id"])
    assert elsewhere.status_code == 404


async def test_an_opt_out_counts_even_in_a_row_that_is_wrong(known: Caller) -> None:
    await known.says("opted_in", "E-1")
    answer = await took(
        known,
        file(
            "employee,E-1,opted_out,,,,,not-an-address,",
            "employee,E-2,opted_in,,,,,,",
            "employee,E-2,opted_out,,,,,,",
        ),
    )
    # the opt-in of row 3 is no later than the withdrawal of row 4
    assert told(answer) == {"received": 3, "optedOut": 2, "notNewer": 1, "rejected": 2}
    assert (await known.preference("E-1"))["status"] == "opted_out"
    assert (await known.preference("E-2"))["status"] == "opted_out"


async def test_an_opt_in_that_is_not_newer_is_kept_and_not_applied(known: Caller) -> None:
    await known.says("opted_out")
    answer = await took(known, file(f"employee,E-1,opted_in,,{days_ago(3)},,,,"))
    assert told(answer) == {"received": 1, "notNewer": 1}
    assert codes(answer) == [(2, "consentGivenAt", "opt_in_not_newer")]
    assert (await known.preference())["status"] == "opted_out"
    assert [e["applied"] for e in await known.history()] == [True, False]


async def test_the_same_file_again_says_nothing_new(known: Caller) -> None:
    content = file(
        f"employee,E-1,opted_in,,{days_ago(3)},,,,",
        "employee,E-2,opted_out,,,,,,",
        "employee,E-3,opted_in,,,,,,",
    )
    await took(known, content)
    history = await known.history()
    assert told(await took(known, content)) == {"received": 3, "unchanged": 3}
    assert await known.history() == history


async def test_suspiciously_many_withdrawals_ask_for_confirmation(known: Caller) -> None:
    people = [
        {"entityType": "vendor", "entityId": f"V-{n}", "email": f"v{n}@acme.example"}
        for n in range(40)
    ]
    await known.upserted(*people)
    content = file(*(f"vendor,V-{n},opted_out,,,,,," for n in range(40)))
    refused = await known.stated(content)
    assert (refused.status_code, refused.json()["code"]) == (409, "confirm_withdrawals")
    assert (await known.preference("V-0", "vendor"))["status"] == "unset"
    answer = await took(known, content, confirmWithdrawals="true")
    assert told(answer) == {"received": 40, "optedOut": 40}


async def test_others_who_share_the_address_count_for_the_guard(known: Caller) -> None:
    people = [
        {"entityType": "vendor", "entityId": f"V-{n}", "email": "shared@acme.example"}
        for n in range(40)
    ]
    await known.upserted(*people)
    refused = await known.stated(file("vendor,V-1,opted_out,,,,,,"))
    assert refused.json()["code"] == "confirm_withdrawals"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "missing_columns"),
        ("entityType,entityId\n", "missing_columns"),
        ("entityType,entityId,optStatus,consentGivenDate\n", "unknown_columns"),
    ],
)
async def test_a_file_that_is_no_such_file_is_refused(
    known: Caller, content: str, code: str
) -> None:
    answer = await known.stated(content)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "Date" not in answer.text


async def test_only_csv_and_ndjson(known: Caller, viewer: Caller, stranger: Caller) -> None:
    assert (await known.stated("{}", "application/json")).status_code == 415
    content = file("employee,E-1,opted_in,,,,,,")
    assert (await viewer.stated(content)).status_code == 403
    assert codes((await stranger.stated(content)).json()) == [(2, "entityId", "contact_not_found")]


async def test_an_erased_person_stays_away(
    known: Caller, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    from mcsync.core.crypto import keyed_hash

    key = keyed_hash(organisation.hash_key, "entity", "employee\0E-1")
    await onlooker.execute(
        "insert into suppressions (org_id, kind, key) values ($1, 'entity', $2)",
        organisation.id, key,
    )  # fmt: skip
    answer = await took(known, file("employee,E-1,opted_in,,,,,,"))
    assert codes(answer) == [(2, "entityId", "suppressed")]


async def test_contacts_import_counts_the_consent_in_it(editor: Caller) -> None:
    await editor.upserted(
        {"entityType": "employee", "entityId": "E-4", "email": "d@acme.example",
         "optStatus": "opted_out"}
    )  # fmt: skip
    answer = await editor.took(
        "entityType,entityId,email,optStatus,consentGivenAt\n"
        "employee,E-1,a@acme.example,opted_in,\n"
        "employee,E-2,b@acme.example,opted_out,\n"
        f"employee,E-4,d@acme.example,opted_in,{days_ago(9)}\n"
    )
    consent = {"optedIn": 1, "optedOut": 1, "unset": 0, "notNewer": 1}
    assert answer["consent"] == consent
    report = (await editor.query("contacts.getImport", id=answer["id"])).json()
    assert report["consent"] == consent
