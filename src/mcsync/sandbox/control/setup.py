"""Setting the scene: accounts, keys, lists, configuration, faults, time."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ..exchange import Answer
from ..faults import Targeted, check_kind
from ..world import Account
from .call import ControlCall, Unknown, reply


def _lists(account: Account) -> list[dict[str, str]]:
    return [{"id": each.id, "name": each.name} for each in account.lists.values()]


def state(call: ControlCall) -> Answer:
    accounts = [
        {"apiKey": each.key, "accountId": each.id, "name": each.name, "lists": _lists(each)}
        for each in call.world.accounts.values()
    ]
    return reply({"accounts": accounts, "now": call.world.clock.now()})


def reset(call: ControlCall) -> Answer:
    call.sandbox.reset()
    return reply({})


def open_account(call: ControlCall) -> Answer:
    body = call.body
    names = body.get("lists", ["All staff"])
    if not isinstance(names, list):
        raise TypeError("lists must be a list of names")
    account = call.world.open_account(
        str(body["apiKey"]), str(body.get("name") or "Another Ltd"), [str(name) for name in names]
    )
    return reply({"accountId": account.id, "lists": _lists(account)})


def revoke(call: ControlCall) -> Answer:
    """401 from now on for this key."""
    if not call.world.revoke(str(call.body["apiKey"])):
        raise Unknown("no account has this key")
    return reply({})


def rekey(call: ControlCall) -> Answer:
    account = call.world.rekey(str(call.body["apiKey"]), str(call.body["newApiKey"]))
    return reply({"accountId": account.id, "lists": _lists(account)})


def _camel(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"_([a-z])", lambda found: found[1].upper(), key): _camel(each)
        for key, each in value.items()
    }


def show_config(call: ControlCall) -> Answer:
    body: dict[str, Any] = _camel(dataclasses.asdict(call.world.config))
    # The kinds of faults are names, not settings.
    body["faults"]["kinds"] = call.world.config.faults.kinds
    return reply(body)


def configure(call: ControlCall) -> Answer:
    call.sandbox.configure(call.body)
    return show_config(call)


def add_fault(call: ControlCall) -> Answer:
    """The next `times` calls matching method and path (a regular expression on the path after /3.0) answer `kind`."""
    body = call.body
    try:
        pattern = re.compile(str(body.get("path", "")))
    except re.error as error:
        raise ValueError(f"path: {error}") from error
    kind = check_kind(str(body["kind"]))
    method = str(body.get("method", "")).upper()
    call.sandbox.faults.targeted.append(Targeted(method, pattern, kind, int(body.get("times", 1))))
    return reply({})


def clear_faults(call: ControlCall) -> Answer:
    """No fault that was asked for is left."""
    call.sandbox.faults.targeted.clear()
    return reply({})


def advance_clock(call: ControlCall) -> Answer:
    call.world.clock.advance(float(call.body["advanceSeconds"]))
    call.world.mandrill.settle()
    return reply({"now": call.world.clock.now()})


def delete_list(call: ControlCall) -> Answer:
    call.world.close_list(call.audience())
    return reply({})


def change_list(call: ControlCall) -> Answer:
    """`name`, `doubleOptin` and `marketingPermissions` (their texts) of a list, as its owner would set them."""
    audience = call.audience()
    audience.name = str(call.body.get("name", audience.name))
    audience.double_optin = bool(call.body.get("doubleOptin", audience.double_optin))
    texts = call.body.get("marketingPermissions")
    if texts is not None:
        if not isinstance(texts, list):
            raise TypeError("marketingPermissions must be a list of texts")
        audience.ask_permissions([str(text) for text in texts])
    return reply(
        {
            "id": audience.id,
            "name": audience.name,
            "doubleOptin": audience.double_optin,
            "marketingPermissions": audience.permissions,
        }
    )
