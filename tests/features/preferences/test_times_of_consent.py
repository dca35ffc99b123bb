"""A time that may be several moments, or that lies in the future, overrules no withdrawal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.features.contacts.callers import PERSON, Caller, codes
from tests.features.preferences.test_imported import file

EMAIL = PERSON["email"]
WITHDRAWN = "2026-06-01T12:00:00Z"
BERLIN = {"timeZone": "Europe/Berlin"}


@pytest.fixture
async def withdrawn(editor: Caller, onlooker: asyncpg.Connection) -> Caller:
    """An editor whose contact E-1 withdrew at noon UTC."""
    await editor.upserted(PERSON)
    await editor.says("opted_out")
    at = datetime.fromisoformat(WITHDRAWN)
    await onlooker.execute("update email_preferences set consent_withdrawn_at = $1", at)
    await onlooker.execute("update address_consents set withdrawn_at = $1", at)
    return editor


async def sent(caller: Caller, way: str, time: str, **given: Any) -> dict[str, Any]:
    row = PERSON | {"optStatus": "opted_in", "consentGivenAt": time}
    if way == "upsert":
        return await caller.upserted(row, **given)
    if way == "statements":
        answer = await caller.stated(
            f"entityType,entityId,optStatus,consentGivenAt\nemployee,E-1,opted_in,{time}\n", **given
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body
    return await caller.took(file(f"employee,E-1,{EMAIL},opted_in,,{time}"), **given)


WAYS = ("file", "upsert", "statements")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("time", "given", "status"),
    [
        ("2026-06-01 13:40:00", {}, "opted_out"),
        ("2026-06-02 01:59:59", {}, "opted_out"),
        ("2026-06-02 02:00:01", {}, "opted_in"),
        ("2026-06-01 13:40:00", BERLIN, "opted_out"),
        ("2026-06-01 14:00:01", BERLIN, "opted_in"),
        ("01.06.2026 14:01", BERLIN, "opted_in"),
        ("2026-06-01", BERLIN, "opted_out"),
        ("2026-06-02", {}, "opted_out"),
        ("2026-06-02", BERLIN, "opted_in"),
        ("2026-06-03", {}, "opted_in"),
    ],
)
async def test_it_lifts_only_a_withdrawal_that_is_older_in_any_case(
    withdrawn: Caller, way: str, time: str, given: dict[str, Any], status: str
) -> None:
    answer = await sent(withdrawn, way, time, **given)
    assert (await withdrawn.preference())["status"] == status
    told = [code for *_, code in codes(answer)]
    assert told == ([] if status == "opted_in" else ["opt_in_not_newer"])
    assert all(row["taken"] for row in answer["rejections"])


@pytest.mark.parametrize("way", WAYS)
async def test_a_time_in_the_future_lifts_nothing(withdrawn: Caller, way: str) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
    answer = await sent(withdrawn, way, ahead)
    assert [code for *_, code in codes(answer)] == ["opt_in_not_newer"]
    assert (await withdrawn.preference())["status"] == "opted_out"


async def test_nor_does_one_of_a_call(withdrawn: Caller) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=3)).isoformat()
    answer = await withdrawn.says("opted_in", consentGivenAt=ahead)
    assert (answer.status_code, answer.json()["code"]) == (409, "opt_in_not_newer")
    assert (await withdrawn.says("opted_in")).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_where_nothing_is_withdrawn_it_counts_as_now(editor: Caller, way: str) -> None:
    await editor.upserted(PERSON)
    ahead = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
    assert codes(await sent(editor, way, ahead)) == []
    found = await editor.preference()
    assert (found["status"], found["consentGivenAt"] < ahead) == ("opted_in", True)


@pytest.mark.parametrize("zone", ["CEST", "Europe/Atlantis", ""])
async def test_an_unknown_zone_is_refused_in_words(editor: Caller, zone: str) -> None:
    for answer in (
        await editor.send(file(), timeZone=zone),
        await editor.stated("entityType,entityId,optStatus\n", timeZone=zone),
        await editor.mutate("contacts.upsert", contacts=[PERSON], timeZone=zone),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_time_zone")
        assert "Europe/Berlin" in answer.json()["detail"]


@pytest.mark.parametrize("word", ["yes", "true", "1", "subscribed"])
async def test_a_word_that_is_not_understood_opts_nobody_in_and_the_row_is_taken(
    editor: Caller, word: str
) -> None:
    answer = await editor.took(file(f"employee,E-1,{EMAIL},{word},,"))
    assert codes(answer) == [(2, "optStatus", "invalid_consent")]
    assert (answer["created"], answer["rejections"][0]["taken"]) == (1, True)
    assert (await editor.preference())["status"] == "unset"


async def test_an_opt_in_with_an_unusable_address_is_not_taken(editor: Caller) -> None:
    await editor.upserted(PERSON)
    row = PERSON | {"email": "no address", "optStatus": "opted_in", "lastName": "New"}
    answer = await editor.upserted(row)
    assert codes(answer) == [(0, "email", "invalid_email")]
    found = await editor.contact()
    assert (found["email"], found["lastName"]) == (EMAIL, "New")
    assert (await editor.preference())["status"] == "unset"
