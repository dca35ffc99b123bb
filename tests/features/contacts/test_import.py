"""contacts.import through the API: files in, contacts and reports out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from mcsync.core.resources import Resources
from tests.features.contacts.callers import PERSON, Caller, codes, counts
from tests.support.organisations import Org

HEAD = "entityType,entityId,email"
CONTACTS = (
    "select entity_type, entity_id, email, address_hash, address_key, first_name, last_name, department,"
    " location, employment_type, employment_status, attributes from contacts order by 1, 2"
)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def people(count: int, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "entityType": chance.choice(["employee", "vendor"]),
            "entityId": f"P{number:05}",
            "email": f"p{number}@n{number % 7}.example",
            "firstName": chance.choice(["Zoë", "Ада", 'Jo "J" Ann', "Li,Wei", "line\nbreak", ""]),
            "department": chance.choice(["R&D", "Sales", ""]),
            "tag": chance.choice(["a\\b", "tab\there", "x", ""]),
        }
        for number in range(count)
    ]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if set(value) & set('",\n') else value

    lines = [",".join(rows[0])] + [",".join(cell(value) for value in row.values()) for row in rows]
    return ("\r\n".join(lines) + "\r\n").encode()


class TestAccess:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.send(f"{HEAD}\n")).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.send(f"{HEAD}\n")).status_code == 403

    async def test_another_organisation_gets_rows_of_its_own(
        self, editor: Caller, stranger: Caller
    ) -> None:
        await editor.took(f"{HEAD},firstName\nemployee,E-1,a@n.example,Ada\n")
        answer = await stranger.took(f"{HEAD},firstName\nemployee,E-1,b@n.example,Bo\n")
        assert counts(answer) == (1, 1, 0, 0, 0)
        assert (await editor.contact())["firstName"] == "Ada"


class TestFile:
    async def test_created_then_unchanged_then_updated(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        rows = people(300)
        assert counts(await editor.took(as_csv(rows))) == (300, 300, 0, 0, 0)
        stamped = await onlooker.fetch(
            "select id, version, updated_at, changed_xid from contacts order by id"
        )
        assert counts(await editor.took(as_csv(rows))) == (300, 0, 0, 300, 0)
        assert stamped == await onlooker.fetch(
            "select id, version, updated_at, changed_xid from contacts order by id"
        )
        for row in rows[:20]:
            row["tag"] = "new"
        assert counts(await editor.took(as_csv(rows))) == (300, 0, 20, 280, 0)
        versions = await onlooker.fetch(
            "select version, count(*) from contacts group by 1 order by 1"
        )
        assert [tuple(row) for row in versions] == [(1, 280), (2, 20)]

    async def test_ids_are_version_7_and_unique(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.took(as_csv(people(50)))
        ids = [row["id"] for row in await onlooker.fetch("select id from contacts")]
        assert len(set(ids)) == 50
        assert {(one.version, one.variant) for one in map(_uuid, ids)} == {
            (7, "specified in RFC 4122")
        }

    @pytest.mark.parametrize("size", [1, 13, 100_000])
    async def test_the_size_of_the_pieces_does_not_matter(self, editor: Caller, size: int) -> None:
        data = as_csv(people(40))
        answer = await editor.send(pieces(data, size))
        assert counts(answer.json()) == (40, 40, 0, 0, 0)

    async def test_row_by_row_csv_ndjson_and_upsert_give_the_same(
        self, editor: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        rows = people(60)
        rows[5]["email"], rows[9]["entityId"] = "bad", ""
        head = as_csv(rows).split(b"\r\n", 1)[0]
        results = []
        for way in ("whole", "row by row", "ndjson", "upsert"):
            rejected = 0
            if way == "whole":
                rejected = (await editor.took(as_csv(rows)))["rejected"]
            elif way == "row by row":
                for row in rows:
                    answer = await editor.took(as_csv([row]))
                    assert as_csv([row]).startswith(head)
                    rejected += answer["rejected"]
            elif way == "ndjson":
                body = b"\n".join(map(orjson.dumps, rows))
                rejected = (await editor.took(body, "application/x-ndjson"))["rejected"]
            else:
                objects = [
                    {key: value for key, value in row.items() if key != "tag"}
                    | {"attributes": {"tag": row["tag"]}}
                    for row in rows
                ]
                rejected = (await editor.upserted(*objects))["rejected"]
            assert rejected == 2
            results.append([tuple(row) for row in await onlooker.fetch(CONTACTS)])
            await onlooker.execute("delete from contacts")
        assert len(results[0]) == 58
        assert all(result == results[0] for result in results)

    async def test_columns_it_lacks_keep_their_values_and_empty_cells_clear(
        self, editor: Caller
    ) -> None:
        await editor.took(f"{HEAD},firstName,lastName,a,b\nemployee,E-1,a@n.example,Ada,L,1,2\n")
        await editor.took(f"{HEAD},lastName,b\nemployee,E-1,a@n.example,,\n")
        found = await editor.contact()
        assert (found["firstName"], found["lastName"]) == ("Ada", None)
        assert found["attributes"] == {"a": "1"}

    async def test_an_address_is_kept_by_objects_without_one_but_not_by_empty_cells(
        self, editor: Caller
    ) -> None:
        await editor.took(f"{HEAD}\nemployee,E-1,a@n.example\n")
        answer = await editor.took(
            b'{"entityType":"employee","entityId":"E-1","lastName":"L","optStatus":"opted_out"}\n'
            b'{"entityType":"employee","entityId":"E-2","lastName":"L"}',
            "application/x-ndjson",
        )
        assert counts(answer) == (2, 0, 1, 0, 1)
        assert codes(answer) == [(2, "email", "missing_email")]
        found = await editor.contact()
        assert (found["lastName"], found["email"]) == ("L", "a@n.example")
        answer = await editor.took(f"{HEAD},lastName\nemployee,E-1,,X\n")
        assert counts(answer) == (1, 0, 1, 0, 0)
        found = await editor.contact()
        assert (found["lastName"], found["email"]) == ("X", None)

    async def test_of_rows_about_the_same_contact_the_first_right_one_is_taken(
        self, editor: Caller
    ) -> None:
        answer = await editor.took(
            f"{HEAD},firstName\n"
            "employee,E-1,bad,Zero\n"
            "employee,E-1,a@n.example,One\n"
            "employee,E-1,a@n.example,Two\n"
            "employee,E-1,bad,Three\n"
        )
        assert counts(answer) == (4, 1, 0, 0, 3)
        assert codes(answer) == [
            (2, "email", "invalid_email"),
            (4, "entityId", "duplicate_entity_id"),
            (5, "email", "invalid_email"),
        ]
        assert (await editor.contact())["firstName"] == "One"

    async def test_a_changed_address_is_kept_as_a_former_one(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.took(f"{HEAD}\nemployee,E-1,a@n.example\nemployee,E-2,b@n.example\n")
        await editor.took(f"{HEAD}\nemployee,E-1,b@n.example\nemployee,E-2,a@n.example\n")
        rows = await onlooker.fetch("select email from contact_addresses order by email")
        assert [row["email"] for row in rows] == ["a@n.example", "b@n.example"]

    async def test_what_is_no_such_file_is_refused_as_a_whole(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        for content, kind, status, code in (
            ("", "text/csv", 400, "missing_columns"),
            ("a,b\n1,2\n", "text/csv", 400, "missing_columns"),
            ("{}", "application/json", 415, "unsupported_media_type"),
            ("x" * (3 << 20), "text/csv", 400, "line_too_long"),
        ):
            answer = await editor.send(content, kind)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await onlooker.fetchval("select count(*) from contact_imports") == 0
        assert await onlooker.fetchval("select count(*) from audit_entries") == 0

    async def test_a_file_that_turns_hopeless_in_the_middle_leaves_nothing(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        data = as_csv(people(2000)) + b"x" * (3 << 20)
        answer = await editor.send(pieces(data, 65536))
        assert answer.json()["code"] == "line_too_long"
        assert await onlooker.fetchval("select count(*) from contacts") == 0
        assert counts(await editor.took(as_csv(people(10)))) == (10, 10, 0, 0, 0)

    async def test_an_empty_file_with_a_header_is_fine(self, editor: Caller) -> None:
        assert counts(await editor.took(f"{HEAD}\n")) == (0, 0, 0, 0, 0)

    async def test_it_is_audited_once_with_its_counts(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        answer = await editor.took(as_csv(people(30)))
        row = await onlooker.fetchrow("select action, entity_id, diff::text from audit_entries")
        assert row is not None
        assert (row["action"], row["entity_id"]) == ("contacts.import", answer["id"])
        assert '"created": 30' in row["diff"]
        assert "example" not in row["diff"]

    async def test_two_files_at_once_do_not_disturb_each_other(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        rows = people(400)
        answers = await asyncio.gather(
            editor.took(as_csv(rows)), editor.took(as_csv(rows[::-1])), editor.took(as_csv(rows))
        )
        assert sum(answer["created"] for answer in answers) == 400
        assert sum(answer["unchanged"] for answer in answers) == 800

    async def test_a_rejection_never_repeats_the_value(self, editor: Caller) -> None:
        answer = await editor.send(f"{HEAD}\nRobot-secret,E,secret@@x\n{'secret,' * 5}\n")
        assert answer.json()["rejected"] == 2
        assert "secret" not in answer.text


def _uuid(value: Any) -> Any:
    return UUID(str(value))


async def test_a_contact_of_an_import_is_found_by_the_others(
    editor: Caller, resources: Resources
) -> None:
    await editor.took(f"{HEAD},Employment Status\nemployee,E-1,{PERSON['email']},active\n")
    assert (await editor.contact())["employmentStatus"] == "active"
