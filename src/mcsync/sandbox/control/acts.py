"""People's acts and the seeding of big lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import people
from ..exchange import Answer
from ..history import Actor
from ..states import (
    CODES,
    PENDING,
    STATUSES,
    SUBSCRIBED,
    UNSUBSCRIBED,
    By,
    admin_reason,
)
from .call import ControlCall, reply
from .view import internal

_FORM_ACTS = {"subscribe_form", "resubscribe_form", "confirm"}


def person(call: ControlCall) -> Answer:
    """What the subscriber does: see `people.person` for the acts."""
    name = str(call.body["act"])
    return _act(
        call, people.person, name, _actor(call, "form" if name in _FORM_ACTS else "person", name)
    )


def admin(call: ControlCall) -> Answer:
    """What the owner's staff does in Mailchimp's pages: see `people.admin` for the acts."""
    name = str(call.body["act"])
    return _act(call, people.admin, name, _actor(call, "admin", name))


def _actor(call: ControlCall, origin: str, via: str) -> Actor:
    return Actor(origin, via, call.world.clock.now())


def _act(
    call: ControlCall,
    perform: Callable[[people.Act, str, dict[str, Any]], None],
    name: str,
    actor: Actor,
) -> Answer:
    audience = call.audience()
    email = str(call.body["email"])
    act = people.Act(call.world, audience, actor, email)
    perform(act, name, call.body)
    found = audience.find(str(call.body.get("newEmail") or email).strip())
    return reply({"member": None if found is None else internal(audience, found)})


def seed(call: ControlCall) -> Answer:
    """`count` members `<prefix><number>@<domain>` as an import makes them; existing addresses are left alone."""
    world, audience, body = call.world, call.audience(), call.body
    status = CODES[str(body.get("status", "subscribed"))]
    prefix, domain = str(body.get("prefix", "member")), str(body.get("domain", "sandbox.test"))
    tag = world.add_tag(audience, str(body["tag"])) if body.get("tag") else None
    now = world.clock.second()
    actor = _actor(call, "import", "seed")
    made = 0
    for number in range(int(body["count"])):
        email = f"{prefix}{number}@{domain}"
        if audience.find(email) is not None:
            continue
        member = audience.insert(email, status, now)
        member.source = "Import"
        member.timestamp_opt = now if status == SUBSCRIBED else 0
        member.timestamp_signup = now if status == PENDING else 0
        if status == UNSUBSCRIBED:
            member.unsubscribed_by, member.reason = By.ADMIN, admin_reason(world.config)
        if tag is not None:
            member.tags = (tag,)
            tag.put(member, now)
        world.record(audience, email, ("absent", STATUSES[status]), "created", actor)
        made += 1
    return reply({"created": made})
