"""The procedures of contacts, on PostgreSQL through row-level security."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from mcsync.core.crypto import keyed_hash
from mcsync.core.resources import Resources
from mcsync.mailchimp import normalise_address, subscriber_hash
from tests.features.contacts.callers import PERSON, Caller, codes, counts
from tests.support.organisations import Org

HEAD = "entityType,entityId,email"


async def suppress(
    resources: Resources, org: Org, kind: str, value: str, *, lifted: bool = False
) -> None:
    """As an erasure does."""
    async with resources.db.transaction(org.id) as session:
        await session.execute(
            text(
                "insert into suppressions (org_id, kind, key, lifted_at)"
                " values (:org, :kind, :key, case when :lifted then now() end)"
            ),
            {"org": org.id, "kind": kind, "key": keyed_hash(org.hash_key, kind, value),
             "lifted": lifted},
        )  # fmt: skip


class TestUpsert:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.mutate("contacts.upsert", contacts=[PERSON])).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.mutate("contacts.upsert", contacts=[PERSON])).status_code == 403

    async def test_a_new_contact_is_created_with_all_it_says(self, editor: Caller) -> None:
        given = PERSON | {
            "firstName": "Ada", "lastName": "Łukasz", "department": "R&D", "location": "Åbo",
            "employmentType": "full_time", "employmentStatus": "active",
            "attributes": {"costCentre": "4711", "level": 3, "remote": True, "none": None},
        }  # fmt: skip
        assert counts(await editor.upserted(given)) == (1, 1, 0, 0, 0)
        found = await editor.contact()
        assert found["attributes"] == {"costCentre": "4711", "level": 3, "remote": True}
        assert found["version"] == 1
        assert found["leftAt"] is None
        same = {key: value for key, value in given.items() if key != "attributes"}
        assert {key: found[key] for key in same} == same

    async def test_the_hashes_are_those_of_mailchimp_and_of_the_organisation(
        self, editor: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON | {"email": " Ada@Nordlicht-Werke.EXAMPLE "})
        row = await onlooker.fetchrow("select email, address_hash, address_key from contacts")
        assert row is not None
        address = normalise_address(row["email"])
        assert address == "ada@nordlicht-werke.example"
        assert row["address_hash"] == UUID(subscriber_hash(address))
        assert row["address_key"] == keyed_hash(organisation.hash_key, "address", address)

    async def test_the_second_time_nothing_changes(self, editor: Caller) -> None:
        await editor.upserted(PERSON | {"attributes": {"a": "1"}})
        before = await editor.contact()
        again = await editor.upserted(PERSON | {"attributes": {"a": "1"}})
        assert counts(again) == (1, 0, 0, 1, 0)
        assert await editor.contact() == before

    async def test_fields_left_out_keep_their_value_and_null_clears(self, editor: Caller) -> None:
        await editor.upserted(
            PERSON | {"firstName": "Ada", "lastName": "L", "attributes": {"a": "1", "b": "2"}}
        )
        changed = await editor.upserted(PERSON | {"lastName": None, "attributes": {"b": None}})
        assert counts(changed) == (1, 0, 1, 0, 0)
        found = await editor.contact()
        assert (found["firstName"], found["lastName"]) == ("Ada", None)
        assert found["attributes"] == {"a": "1"}
        assert found["version"] == 2

    async def test_an_address_left_out_is_kept(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        names = {key: value for key, value in PERSON.items() if key != "email"}
        changed = await editor.upserted(names | {"firstName": "Ada"}, names | {"entityId": "new"})
        assert counts(changed) == (2, 0, 1, 0, 1)
        assert codes(changed) == [(1, "email", "missing_email")]
        found = await editor.contact()
        assert (found["firstName"], found["email"]) == ("Ada", PERSON["email"])
        assert counts(await editor.upserted(names)) == (1, 0, 0, 1, 0)

    @pytest.mark.parametrize("blank", [None, "", " \u00a0"])
    async def test_a_blank_address_clears_it(
        self, editor: Caller, onlooker: asyncpg.Connection, blank: str | None
    ) -> None:
        await editor.upserted(PERSON | {"employmentStatus": "active"})
        left = PERSON | {"email": blank, "employmentStatus": "terminated"}
        assert counts(await editor.upserted(left)) == (1, 0, 1, 0, 0)
        found = await editor.contact()
        assert (found["email"], found["employmentStatus"]) == (None, "terminated")
        former = await onlooker.fetch("select email from contact_addresses")
        assert [row["email"] for row in former] == [PERSON["email"]]
        assert counts(await editor.upserted(left)) == (1, 0, 0, 1, 0)
        names = {key: value for key, value in PERSON.items() if key != "email"}
        assert counts(await editor.upserted(names | {"firstName": "Ada"})) == (1, 0, 1, 0, 0)
        assert counts(await editor.upserted(PERSON)) == (1, 0, 1, 0, 0)
        assert (await editor.contact())["email"] == PERSON["email"]
        assert await onlooker.fetchval("select count(*) from contact_addresses") == 0

    async def test_contacts_may_differ_in_what_they_leave_out(self, editor: Caller) -> None:
        other = PERSON | {"entityId": "E-2", "email": "bo@nordlicht-werke.example"}
        await editor.upserted(
            PERSON | {"firstName": "A", "lastName": "A"},
            other | {"firstName": "B", "lastName": "B"},
        )
        await editor.upserted(PERSON | {"firstName": "X"}, other | {"lastName": "Y"})
        first, second = await editor.contact(), await editor.contact("E-2")
        assert (first["firstName"], first["lastName"]) == ("X", "A")
        assert (second["firstName"], second["lastName"]) == ("B", "Y")

    async def test_what_is_wrong_is_reported_and_the_rest_goes_in(self, editor: Caller) -> None:
        answer = await editor.upserted(
            PERSON,
            PERSON | {"entityId": "E-2", "email": "no address"},
            {"entityType": "robot", "entityId": " ", "email": None},
            PERSON | {"entityId": "E-4", "firstName": "x" * 256},
            PERSON,
        )
        assert counts(answer) == (5, 2, 0, 0, 3)
        assert codes(answer) == [
            (1, "email", "invalid_email"),
            (2, "entityId", "missing_entity_id"),
            (2, "entityType", "unknown_entity_type"),
            (3, "firstName", "too_long"),
            (4, "entityId", "duplicate_entity_id"),
        ]
        assert [row["taken"] for row in answer["rejections"]] == [False, False, False, True, False]
        assert "no address" not in str(answer)

    async def test_a_body_of_the_wrong_shape_is_422(self, editor: Caller) -> None:
        for wrong in (
            [],
            [PERSON, "E-2"],
            [PERSON, None],
            [[PERSON]],
            PERSON,
            None,
            [PERSON] * 1001,
        ):
            answer = await editor.mutate("contacts.upsert", contacts=wrong)
            assert answer.status_code == 422, wrong
        for more in ({"unknown": 1}, {"confirmWithdrawals": "yes"}, {"timeZone": 2}):
            answer = await editor.mutate("contacts.upsert", {"contacts": [PERSON]} | more)
            assert answer.status_code == 422, more

    async def test_a_wrong_type_is_the_problem_of_its_contact_and_of_its_field(
        self, editor: Caller
    ) -> None:
        others = [PERSON | {"entityId": f"E-{n}", "email": f"p{n}@n.example"} for n in range(2, 9)]
        await editor.upserted(*(other | {"firstName": "Old"} for other in others))
        answer = await editor.upserted(
            PERSON,
            others[0] | {"firstName": 5, "lastName": "New"},
            others[1] | {"email": 5, "lastName": "New"},
            others[2] | {"attributes": {"nested": {"a": 1}, "b": 1}, "lastName": "New"},
            others[3] | {"attributes": [1], "lastName": "New"},
            others[4] | {"firstname": "Known", "unknown": 1, "lastName": "New"},
            others[5] | {"firstName": "NUL\0", "attributes": {"big": 10**30}, "lastName": "New"},
            others[6] | {"entityId": ["E-8"]},
            {"entityType": True, "entityId": "E-9", "email": "p9@n.example"},
        )
        assert counts(answer) == (9, 1, 6, 0, 2)
        assert codes(answer) == [
            (1, "firstName", "invalid_type"),
            (2, "email", "invalid_type"),
            (3, "attributes.nested", "invalid_attribute"),
            (4, "attributes", "invalid_type"),
            (5, None, "unknown_field"),
            (6, "attributes.big", "invalid_attribute"),
            (6, "firstName", "nul_character"),
            (7, "entityId", "invalid_type"),
            (8, "entityType", "invalid_type"),
        ]
        assert [row["taken"] for row in answer["rejections"]] == [True] * 7 + [False] * 2
        for n in range(2, 8):
            found = await editor.contact(f"E-{n}")
            assert found["lastName"] == "New"
            assert found["firstName"] == ("Known" if n == 6 else "Old")
            assert found["email"] == f"p{n}@n.example"
        assert (await editor.contact("E-4"))["attributes"] == {"b": 1}

    async def test_a_thousand_with_much_in_them_fit(self, editor: Caller) -> None:
        people = [
            PERSON | {"entityId": f"E-{n}", "email": f"p{n}@nordlicht-werke.example",
                      "attributes": {f"a{k}": "x" * 90 for k in range(10)}}
            for n in range(1000)
        ]  # fmt: skip
        assert counts(await editor.upserted(*people)) == (1000, 1000, 0, 0, 0)

    async def test_another_organisation_sees_and_changes_nothing_of_it(
        self, editor: Caller, stranger: Caller
    ) -> None:
        await editor.upserted(PERSON | {"firstName": "Ada"})
        assert counts(await stranger.upserted(PERSON | {"firstName": "Bo"})) == (1, 1, 0, 0, 0)
        assert (await editor.contact())["firstName"] == "Ada"

    async def test_it_is_audited_once_without_personal_data(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON)
        rows = await onlooker.fetch("select action, diff::text from audit_entries")
        assert [row["action"] for row in rows] == ["contacts.upsert"]
        assert "nordlicht" not in rows[0]["diff"]
        assert '"created": 1' in rows[0]["diff"]

    async def test_the_same_idempotency_key_is_answered_the_same(self, editor: Caller) -> None:
        headers = {"Idempotency-Key": "one"}
        path, body = "/mailchimp/contacts/upsert", {"contacts": [PERSON]}
        first = await editor.client.post(path, json=body, headers=headers)
        second = await editor.client.post(path, json=body, headers=headers)
        assert first.json() == second.json()
        assert second.headers["Idempotency-Replayed"] == "true"


class TestAddresses:
    async def test_a_changed_address_is_remembered_and_forgotten_when_it_is_back(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        former = "select email from contact_addresses order by email"
        await editor.upserted(PERSON)
        await editor.upserted(PERSON | {"email": "ada@second.example"})
        assert [row["email"] for row in await onlooker.fetch(former)] == [PERSON["email"]]
        await editor.upserted(PERSON)
        assert [row["email"] for row in await onlooker.fetch(former)] == ["ada@second.example"]

    async def test_another_spelling_is_the_same_address(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON)
        changed = await editor.upserted(PERSON | {"email": "ADA@nordlicht-werke.example"})
        assert changed["updated"] == 1
        assert await onlooker.fetchval("select count(*) from contact_addresses") == 0

    @pytest.mark.parametrize(
        "address",
        [
            "ada+news@nordlicht-werke.example",
            "o'neil@nordlicht-werke.example",
            "użytkownik@nordlicht-werke.example",
            "info@bücher.example",
            "info@xn--bcher-kva.example",
            "名前@例え.example",
            "A.B_c-d@sub.nordlicht-werke.example",
        ],
    )
    async def test_addresses_that_are_taken(self, editor: Caller, address: str) -> None:
        assert (await editor.upserted(PERSON | {"email": address}))["created"] == 1

    @pytest.mark.parametrize(
        "address",
        [
            "ada", "ada@", "@nordlicht.example", "ada@localhost", "ada@nordlicht", "a..b@n.example",
            ".a@n.example", "a b@n.example", "a@n_x.example", "a@-n.example", "a@n..example",
            "a@1.2.3.4", "a@[1.2.3.4]", "a@host.local", "a@x.invalid", "a@test",
            "x" * 65 + "@n.example", "a@" + "x" * 64 + ".example", "a@" + "x." * 126 + "example",
            "Ada <ada@n.example>", "ada@n.example,bo@n.example", "a@n.example\nb", "a@n.example.",
        ],
    )  # fmt: skip
    async def test_addresses_that_are_refused(self, editor: Caller, address: str) -> None:
        answer = await editor.upserted(PERSON | {"email": address})
        assert codes(answer) == [(0, "email", "invalid_email")]


class TestSuppressed:
    async def test_an_erased_entity_does_not_come_back(
        self, editor: Caller, resources: Resources, organisation: Org
    ) -> None:
        await suppress(resources, organisation, "entity", "employee\0E-1")
        answer = await editor.upserted(PERSON, PERSON | {"entityType": "vendor"})
        assert counts(answer) == (2, 1, 0, 0, 1)
        assert codes(answer) == [(0, "entityId", "suppressed")]
        csv = await editor.took(f"{HEAD}\nemployee,E-1,x@y.example\n")
        assert codes(csv) == [(2, "entityId", "suppressed")]

    async def test_an_erased_address_comes_in_only_where_another_living_contact_has_it(
        self, editor: Caller, resources: Resources, organisation: Org
    ) -> None:
        await editor.upserted(PERSON | {"entityId": "E-2", "email": "info@shared.example"})
        for address in (PERSON["email"], "info@shared.example"):
            await suppress(resources, organisation, "address", address)
        answer = await editor.upserted(
            PERSON, PERSON | {"entityId": "E-3", "email": "Info@Shared.example"}
        )
        assert codes(answer) == [(0, "email", "suppressed")]
        assert answer["created"] == 1
        # who alone holds an erased address is no "other" contact
        alone = await editor.upserted(PERSON | {"entityId": "E-9", "email": "new@other.example"})
        assert alone["created"] == 1

    async def test_a_lifted_suppression_holds_no_more(
        self, editor: Caller, resources: Resources, organisation: Org
    ) -> None:
        await suppress(resources, organisation, "entity", "employee\0E-1", lifted=True)
        assert (await editor.upserted(PERSON))["created"] == 1


class TestDelete:
    async def test_anonymous_viewer_and_stranger(
        self, editor: Caller, anyone: Caller, viewer: Caller, stranger: Caller
    ) -> None:
        await editor.upserted(PERSON)
        who = {"entityType": "employee", "entityId": "E-1"}
        assert (await anyone.mutate("contacts.delete", who)).status_code == 401
        assert (await viewer.mutate("contacts.delete", who)).status_code == 403
        assert (await stranger.mutate("contacts.delete", who)).status_code == 404

    async def test_the_contact_left_and_an_import_brings_it_back(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON | {"firstName": "Ada"})
        who = {"entityType": "employee", "entityId": "E-1"}
        answer = await editor.mutate("contacts.delete", who)
        assert answer.json()["leftAt"] is not None
        assert (await editor.mutate("contacts.delete", who)).status_code == 200
        assert (await editor.query("contacts.list")).json()["items"] == []
        assert len((await editor.query("contacts.list", includeLeft=True)).json()["items"]) == 1
        back = await editor.upserted(PERSON)
        assert counts(back) == (1, 0, 1, 0, 0)
        found = await editor.contact()
        assert (found["leftAt"], found["firstName"]) == (None, "Ada")
        actions = await onlooker.fetch("select action from audit_entries order by seq")
        assert [row["action"] for row in actions] == [
            "contacts.upsert", "contacts.delete", "contacts.upsert",
        ]  # fmt: skip

    async def test_what_changed_is_stamped_for_the_next_plan(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON)
        stamp = "select changed_xid from contacts"
        first = await onlooker.fetchval(stamp)
        await editor.upserted(PERSON)
        assert await onlooker.fetchval(stamp) == first
        await editor.mutate("contacts.delete", entityType="employee", entityId="E-1")
        assert await onlooker.fetchval(stamp) > first


class TestGetAndList:
    async def test_anonymous_and_stranger(
        self, editor: Caller, anyone: Caller, stranger: Caller
    ) -> None:
        await editor.upserted(PERSON)
        who = {"entityType": "employee", "entityId": "E-1"}
        assert (await anyone.query("contacts.get", **who)).status_code == 401
        assert (await anyone.query("contacts.list")).status_code == 401
        assert (await stranger.query("contacts.get", **who)).status_code == 404
        assert (await stranger.query("contacts.list")).json()["items"] == []

    async def test_pages_reach_everybody_once(self, viewer: Caller, editor: Caller) -> None:
        people = [
            PERSON | {"entityType": kind, "entityId": f"X{n}", "email": f"{kind}{n}@n.example"}
            for kind in ("employee", "vendor")
            for n in range(7)
        ]
        await editor.upserted(*people)
        seen, cursor = [], None
        while True:
            page = (
                await viewer.query(
                    "contacts.list", limit=3, **({"cursor": cursor} if cursor else {})
                )
            ).json()
            seen += [(item["entityType"], item["entityId"]) for item in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == [(p["entityType"], p["entityId"]) for p in people]
        answer = await viewer.query("contacts.list", cursor="nonsense")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    async def test_filters_and_search(self, viewer: Caller, editor: Caller) -> None:
        await editor.upserted(
            PERSON | {"firstName": "Ada", "lastName": "Sørensen", "department": "Sales"},
            PERSON | {"entityId": "E-2", "email": "b_o@n.example", "location": "Oslo",
                      "employmentStatus": "on_leave", "entityType": "vendor"},
        )  # fmt: skip

        async def found(**given: str) -> list[str]:
            items = (await viewer.query("contacts.list", **given)).json()["items"]
            return [item["entityId"] for item in items]

        assert await found(department="Sales") == ["E-1"]
        assert await found(location="Oslo") == ["E-2"]
        assert await found(employmentStatus="on_leave") == ["E-2"]
        assert await found(entityType="vendor") == ["E-2"]
        assert await found(search="da sør") == ["E-1"]
        assert await found(search="_O@") == ["E-2"]
        assert await found(search="%%") == []
        assert await found(department="sales") == []


class TestGetImport:
    async def test_all_rejections_are_in_the_report_page_by_page(
        self, editor: Caller, viewer: Caller, stranger: Caller, anyone: Caller
    ) -> None:
        lines = "".join(f"employee,E{n},bad\n" for n in range(1205))
        answer = await editor.took(f"{HEAD}\n{lines}employee,ok,ok@n.example\n")
        assert counts(answer) == (1206, 1, 0, 0, 1205)
        assert len(answer["rejections"]) == 1000
        report, seen, cursor = {}, [], None
        while True:
            given = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            response = await viewer.client.get(
                answer["report"], params={"id": answer["id"]} | given
            )
            report = response.json()
            seen += [item["line"] for item in report["items"]]
            cursor = report["nextCursor"]
            if cursor is None:
                break
        assert seen == list(range(2, 1207))
        assert counts({**report}) == counts(answer)
        assert (await stranger.query("contacts.getImport", id=answer["id"])).status_code == 404
        assert (await anyone.query("contacts.getImport", id=answer["id"])).status_code == 401
        assert (await viewer.query("contacts.getImport", id=str(uuid4()))).status_code == 404


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
