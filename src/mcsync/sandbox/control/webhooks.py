"""Webhooks as they are, their deliveries, and what can be done to these: hold, release, repeat."""

from __future__ import annotations

from typing import Any

from ..exchange import Answer
from .call import ControlCall, Unknown, reply


def index(call: ControlCall) -> Answer:
    """All webhooks that are listed, with their secrets, and how many deliveries are under way and held."""
    courier = call.world.courier
    hooks = [
        hook.view() for each in call.world.audiences.values() for hook in each.webhooks.values()
    ]
    return reply(
        {
            "webhooks": hooks,
            "pending": courier.pending(),
            "held": len(courier.held),
            "holding": courier.holding,
        }
    )


def deliveries(call: ControlCall) -> Answer:
    """Posts with their tries and answers, filtered by `listId`, `type`, `email`, `state` and `since` (exclusive seq)."""
    since, email = int(call.first("since", "0")), call.first("email").lower()
    wanted = {name: value for name in ("listId", "type", "state") if (value := call.first(name))}
    views = [
        each.view()
        for each in call.world.courier.deliveries
        if each.seq > since and (not email or each.email.lower() == email)
    ]
    chosen = [view for view in views if wanted.items() <= _plain(view).items()]
    return reply({"deliveries": chosen})


def _plain(view: dict[str, Any]) -> dict[str, str]:
    return {name: view[name] for name in ("listId", "type", "state")}


def hold(call: ControlCall) -> Answer:
    """From now on deliveries wait for `release`."""
    call.world.courier.holding = True
    return reply({})


def release(call: ControlCall) -> Answer:
    """Send what is held in the `order` fifo, reversed or shuffled, and hold no more."""
    released = call.world.courier.release(str(call.body.get("order", "fifo")))
    return reply({"released": released})


def repeat(call: ControlCall) -> Answer:
    """Send a delivery again, `times` times."""
    seq = int(call.args[0])
    found = next((each for each in call.world.courier.deliveries if each.seq == seq), None)
    if found is None:
        raise Unknown(f"no delivery {seq}")
    call.world.courier.repeat(found, int(call.body.get("times", 1)))
    return reply({})
