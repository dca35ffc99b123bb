"""A statement that an import merely repeats is no new statement; it counts when it appears or changes."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from tests.features.contacts.callers import PERSON, Caller
from tests.features.preferences.test_imported import file

EMAIL = PERSON["email"]
OUT = file(f"employee,E-1,{EMAIL},opted_out,,")


@pytest.fixture
async def back(editor: Caller) -> Caller:
    """An editor whose nightly export opted E-1 out, who then opted in again."""
    await editor.took(OUT)
    assert (await editor.says("opted_in")).status_code == 200
    return editor


async def status(caller: Caller) -> tuple[str, str]:
    found = await caller.preference()
    return found["status"], found["address"]["status"]


IN = ("opted_in", "opted_in")
WITHDRAWN = ("opted_out", "opted_out")


class TestRepeated:
    async def test_an_unchanged_export_withdraws_nothing_again(
        self, back: Caller, onlooker: asyncpg.Connection
    ) -> None:
        for _ in range(3):
            answer = await back.took(OUT)
            assert answer["consent"]["optedOut"] == 0
            assert await status(back) == IN
        assert len(await back.history()) == 2
        assert await onlooker.fetchval("select count(*) from audience_orders") == 0

    async def test_other_fields_may_change(self, back: Caller) -> None:
        await back.took(OUT.replace(EMAIL, EMAIL.upper()))
        assert await status(back) == IN
        await back.took(file(f"EMPLOYEE,E-1,{EMAIL},opted out,,", "employee,E-2,b@n.example,,,"))
        assert await status(back) == IN

    async def test_the_opt_in_may_come_with_another_import(self, editor: Caller) -> None:
        await editor.took(OUT)
        given = datetime.now(UTC).isoformat()
        answer = await editor.upserted(PERSON | {"optStatus": "opted_in", "consentGivenAt": given})
        assert answer["rejections"] == []
        await editor.took(OUT)
        assert await status(editor) == IN

    @pytest.mark.parametrize("between", ["opted_in", "", "unset", "perhaps"])
    async def test_it_counts_again_after_anything_else(self, back: Caller, between: str) -> None:
        await back.took(OUT.replace("opted_out", between))
        if between == "unset":
            await back.says("opted_in")
        assert await status(back) == IN
        await back.took(OUT)
        assert await status(back) == WITHDRAWN

    @pytest.mark.parametrize("changed", ["opted_out,letter,", "opted_out,,2026-05-01"])
    async def test_it_counts_where_it_changes(self, back: Caller, changed: str) -> None:
        content = file(f"employee,E-1,{EMAIL},{changed}")
        await back.took(content)
        assert await status(back) == WITHDRAWN
        await back.says("opted_in")
        await back.took(content)
        assert await status(back) == IN

    async def test_it_counts_where_it_first_appears(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_in")
        await editor.took(OUT)
        assert await status(editor) == WITHDRAWN

    async def test_what_another_way_of_import_said_is_another_statement(self, back: Caller) -> None:
        await back.stated("entityType,entityId,optStatus\nemployee,E-1,opted_out\n")
        assert await status(back) == WITHDRAWN

    async def test_a_file_without_the_column_says_nothing_of_consent(self, back: Caller) -> None:
        await back.took(f"entityType,entityId,email\nemployee,E-1,{EMAIL}\n")
        await back.took(OUT)
        assert await status(back) == IN

    async def test_an_object_without_the_member_says_nothing_either(self, editor: Caller) -> None:
        await editor.upserted(PERSON | {"optStatus": "opted_out"})
        await editor.says("opted_in")
        await editor.upserted(PERSON)
        await editor.upserted(PERSON | {"optStatus": "opted_out"})
        assert await status(editor) == IN
        await editor.upserted(PERSON | {"optStatus": None})
        await editor.upserted(PERSON | {"optStatus": "opted_out"})
        assert await status(editor) == WITHDRAWN

    async def test_statements_with_proof_are_compared_with_it(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        head = "entityType,entityId,optStatus,evidence\nemployee,E-1,opted_out,"
        await editor.stated(f"{head}letter 1\n")
        await editor.says("opted_in")
        await editor.stated(f"{head}letter 1\n")
        assert await status(editor) == IN
        await editor.stated(f"{head}letter 2\n")
        assert await status(editor) == WITHDRAWN

    async def test_rows_about_one_contact_are_one_statement(self, back: Caller) -> None:
        content = file(
            f"employee,E-1,{EMAIL},opted_out,list a,", f"employee,E-1,{EMAIL},opted_out,list b,"
        )
        await back.took(content)
        assert await status(back) == WITHDRAWN
        await back.says("opted_in")
        await back.took(content)
        assert await status(back) == IN

    async def test_a_row_that_names_an_address_is_remembered_by_it(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        broken = file(f"robot,E-1,{EMAIL},opted_out,,")
        await editor.took(broken)
        assert await status(editor) == WITHDRAWN
        await editor.says("opted_in")
        await editor.took(broken)
        assert await status(editor) == IN
        await editor.took(file(f"robot,E-1,{EMAIL},opted_out,phone,"))
        assert await status(editor) == WITHDRAWN

    async def test_a_withdrawal_that_stands_follows_the_contact_to_its_new_address(
        self, editor: Caller
    ) -> None:
        await editor.took(OUT)
        await editor.took(OUT.replace(EMAIL, "new@n.example"))
        assert await status(editor) == WITHDRAWN
        assert (await editor.preference())["address"]["withdrawn"] is True


class TestGuard:
    @pytest.fixture
    def more_settings(self) -> dict[str, object]:
        return {"guard_removals_min": 3, "guard_removals_share": 0.1}

    async def test_repetitions_withdraw_nobody(self, editor: Caller) -> None:
        content = file(*(f"employee,C{n},c{n}@n.example,opted_out,," for n in range(20)))
        await editor.took(content)
        for n in range(20):
            await editor.says("opted_in", f"C{n}")
        assert (await editor.took(content))["consent"]["optedOut"] == 0
        assert (await editor.preference("C7"))["status"] == "opted_in"
