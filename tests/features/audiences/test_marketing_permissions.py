"""Which marketing permissions an opt-in ticks: what is asked, what may be said, what is kept."""

from __future__ import annotations

from typing import Any

import asyncpg

from mcsync.features.audiences.permissions import Permission, fed, fingerprint
from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SandboxControl

PROCEDURE = "audiences.setMarketingPermissions"
ADA = "ada@acme.example"


async def asked(mailchimp: SandboxControl, *texts: str) -> list[str]:
    """The owner switches the GDPR fields on; somebody is a member and shows them. Answers their ids."""
    await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
    ids = await mailchimp.change_list(ALL_STAFF, marketing_permissions=list(texts))
    return list(ids)


def consent(*ids: str) -> list[dict[str, str]]:
    return [{"marketingPermissionId": each, "feeds": "consent"} for each in ids]


async def definition(onlooker: asyncpg.Connection) -> Any:
    return await onlooker.fetchval(
        "select definition_xid from audiences where list_id = $1", ALL_STAFF
    )


def test_fed_is_what_is_both_mapped_and_asked() -> None:
    known = [Permission("b", "B"), Permission("a", "A"), Permission("c", "C")]
    assert fed(known, {"a": "consent", "b": "consent", "gone": "consent"}) == ("a", "b")
    assert fed(known, {}) == ()
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a"]) != fingerprint(["ab"])


async def test_who_may(anyone: Caller, viewer: Caller) -> None:
    for caller, status in ((anyone, 401), (viewer, 403)):
        answer = await caller.mutate(PROCEDURE, audienceId=ALL_STAFF, permissions=[])
        assert answer.status_code == status


async def test_an_audience_shows_what_it_asks(connected: Caller, mailchimp: SandboxControl) -> None:
    body = (await connected.query("audiences.get", audienceId=ALL_STAFF)).json()
    assert (body["marketingPermissions"], body["permissions"]) == (False, [])
    email, letters = await asked(mailchimp, "Email", "Letters")
    body = (await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)).json()
    assert body["marketingPermissions"] is True
    assert body["permissions"] == [
        {"marketingPermissionId": email, "text": "Email", "feeds": None},
        {"marketingPermissionId": letters, "text": "Letters", "feeds": None},
    ]
    await mailchimp.change_list(ALL_STAFF, marketing_permissions=[])
    body = (await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)).json()
    assert (body["marketingPermissions"], body["permissions"]) == (False, [])


async def test_replaces_the_map_and_makes_the_next_plan_look_anew(
    connected: Caller,
    editor: Caller,
    mailchimp: SandboxControl,
    organisation: Org,
    onlooker: asyncpg.Connection,
) -> None:
    email, letters = await asked(mailchimp, "Email", "Letters")
    await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)
    before = await definition(onlooker)
    wanted = [*consent(email), {"marketingPermissionId": letters, "feeds": None}]
    answer = await editor.mutate(PROCEDURE, audienceId=ALL_STAFF, permissions=wanted)
    assert answer.status_code == 200, answer.text
    assert [each["feeds"] for each in answer.json()["permissions"]] == ["consent", None]
    moved = await definition(onlooker)
    assert moved > before
    await editor.mutate(PROCEDURE, audienceId=ALL_STAFF, permissions=wanted)
    assert await definition(onlooker) == moved, "nothing changed"
    await editor.mutate(PROCEDURE, audienceId=ALL_STAFF, permissions=consent(letters))
    answer = await connected.query("audiences.get", audienceId=ALL_STAFF)
    assert [each["feeds"] for each in answer.json()["permissions"]] == [None, "consent"]
    actions = await audit_actions(onlooker, organisation)
    assert actions.count("audiences.set_marketing_permissions") == 3


async def test_an_unknown_id_is_named_and_nothing_changes(
    connected: Caller, mailchimp: SandboxControl, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    (email,) = await asked(mailchimp, "Email")
    answer = await connected.mutate(
        PROCEDURE, audienceId=ALL_STAFF, permissions=consent(email, "nope")
    )
    assert answer.status_code == 404
    body = answer.json()
    assert body["code"] == "marketing_permission_not_found"
    assert [one["pointer"] for one in body["errors"]] == ["/permissions/1/marketingPermissionId"]
    shown = (await connected.query("audiences.get", audienceId=ALL_STAFF)).json()["permissions"]
    assert [each["feeds"] for each in shown] == [None]
    actions = await audit_actions(onlooker, organisation)
    assert "audiences.set_marketing_permissions" not in actions


async def test_an_empty_audience_cannot_show_them_yet(
    connected: Caller, mailchimp: SandboxControl
) -> None:
    key = "ccccddddeeeeffff0000111122223333-us4"
    account = await mailchimp.open_account(key, lists=["Empty"])
    empty = account["lists"][0]["id"]
    await mailchimp.change_list(empty, marketing_permissions=["Email"])
    await connected.mutate("connection.disconnect")
    await connected.mutate("connection.connect", apiKey=key)
    answer = await connected.mutate(PROCEDURE, audienceId=empty, permissions=consent("any"))
    assert answer.status_code == 409
    assert answer.json()["code"] == "marketing_permissions_unread"


async def test_one_that_was_replaced_at_mailchimp_is_fed_no_more(
    connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
) -> None:
    (email,) = await asked(mailchimp, "Email")
    await connected.mutate(PROCEDURE, audienceId=ALL_STAFF, permissions=consent(email))
    before = await definition(onlooker)
    await mailchimp.change_list(ALL_STAFF, marketing_permissions=["Another"])
    answer = await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)
    assert [(p["text"], p["feeds"]) for p in answer.json()["permissions"]] == [("Another", None)]
    assert await definition(onlooker) > before


async def test_nonsense_is_422(connected: Caller) -> None:
    body: Any
    for body in (
        {"audienceId": ALL_STAFF},
        {"audienceId": ALL_STAFF, "permissions": {}},
        {"audienceId": ALL_STAFF, "permissions": [{"marketingPermissionId": "a"}]},
        {"audienceId": ALL_STAFF, "permissions": [{"marketingPermissionId": "a", "feeds": "all"}]},
        {"audienceId": ALL_STAFF, "permissions": consent("not an id")},
        {"audienceId": ALL_STAFF, "permissions": consent("a", "a")},
        {"permissions": []},
    ):
        answer = await connected.mutate(PROCEDURE, body=body)
        assert answer.status_code == 422, body
