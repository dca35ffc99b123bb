"""A post may name an address in either spelling of its domain."""

from __future__ import annotations

import pytest

from mcsync.features.webhooks import work
from tests.features.webhooks.door import Door, form

UNICODE = "ida@bücher.example"
A_LABEL = "ida@xn--bcher-kva.example"
BOTH_WAYS = pytest.mark.parametrize(
    ("here", "there"),
    [(UNICODE, A_LABEL), (A_LABEL, UNICODE)],
    ids=["unicode-here", "a-label-here"],
)


@BOTH_WAYS
@pytest.mark.parametrize("named", [UNICODE, A_LABEL])
async def test_an_unsubscribe_is_found_and_recorded(
    door: Door, here: str, there: str, named: str
) -> None:
    person = await door.world.contact(here)
    await door.world.person(there, "subscribe_form")
    await door.world.sync(await door.world.segment())
    hook = await door.register()
    await door.work()
    await door.world.sandbox.hold_deliveries()
    await door.world.person(there, "unsubscribe")

    await door.world.sql("update webhook_endpoints set signing_secret = null")
    now = door.world.now().timestamp()
    body = form("unsubscribe", now, email=named, list_id=door.world.list_id)
    answer = await door.post(body, url=hook["url"])
    assert answer.status_code == 200
    assert await door.held(there), "at once, before anybody read"
    audience = await door.audience()
    await work.work_off(door.world.resources, door.world.org.id, audience)

    assert await door.consent(person) == ("opted_out", "mailchimp")
    assert not await door.held(there)
    assert [m["email"] for m in await door.world.sandbox.members(door.world.list_id)] == [there]
