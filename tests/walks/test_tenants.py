"""Organisations cannot see or touch each other, through the API or past it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.walks.description import operation, operations, wrong_with_problem
from tests.walks.stage import (
    Call,
    Stage,
    Tenant,
    send,
    valid_calls,
)

OWN_ONLY = {
    "health_live", "health_ready", "connection_get", "connection_list_audiences", "audit_verify",
    "transactional_get_connection", "transactional_list_templates", "transactional_disconnect",
    "campaigns_set_auto_tracking", "connection_disconnect",
}  # fmt: skip
"""Take no ids. The last ones would change our own organisation, and nothing names another one in it."""

OWN_LISTS = {
    "preferences_list",
    "preferences_list_erasures",
    "segments_list",
    "sources_list",
    "webhooks_list",
}
"""Lists without an argument that could be foreign: they show our own rows."""
EMPTY = {
    "campaigns_list",
    "campaigns_list_available",
    "contacts_list",
    "audit_list",
    "subscribers_list_requests",
    "transactional_list",
    "transactional_list_rejects",
}
"""Filters: whoever is not ours matches nothing."""

OF_OUR_OWN_MAKING = {
    "contacts_upsert",
    "contacts_import",
    "connection_connect",
    "preferences_import",
    "transactional_connect",
    "transactional_send",
    "transactional_send_template",
}
"""Their ids are the caller's: the same entity id may be in two organisations, a key connects whoever has it."""


@contextmanager
def forgetting_the_organisation(stage: Stage) -> Iterator[list[str]]:
    """While it lasts, every ``org_id = $n`` is struck out of what is sent; answers those statements."""
    engine = stage.resources.db.engine.sync_engine
    struck: list[str] = []

    def strike(
        _c: Any, _cursor: Any, statement: str, parameters: Any, _ctx: Any, _many: Any
    ) -> tuple[str, Any]:
        # the parameter stays, since the driver counts them
        without = re.sub(
            r"\b(?:\w+\.)?org_id = (\$\d+(?:::UUID)?)", r"(\1)::uuid is not null", statement
        )
        if without != statement:
            struck.append(statement)
        return without, parameters

    event.listen(engine, "before_cursor_execute", strike, retval=True)
    try:
        yield struck
    finally:
        event.remove(engine, "before_cursor_execute", strike)


def foreign_calls(ours: Tenant, theirs: Tenant) -> dict[str, Call]:
    """The other organisation's valid calls, with what we must bring ourselves."""
    calls = {
        name: call
        for name, call in valid_calls(theirs).items()
        if name not in OWN_ONLY | OF_OUR_OWN_MAKING
    }
    calls["preferences_list"] = Call({"limit": "200"})
    calls["segments_list"] = Call({"limit": "200"})
    calls["webhooks_list"] = Call({"limit": "200"})
    calls["preferences_list_erasures"] = Call({"limit": "200"})
    calls["sources_list"] = Call({"limit": "200"})
    definition = {"segmentType": "mixed", "audienceId": theirs.list_id}
    return calls | {
        "contacts_get_import ": Call({"id": theirs.ids["statements"]}),
        "contacts_explain ": Call({"email": theirs.email(1)}),
        "segments_preview ": Call(body={"definition": definition}),
        "segments_preview  ": Call(body={"id": theirs.ids["plain"], "definition": {
            **definition, "audienceId": ours.list_id}}),
        "segments_update ": Call(body={"id": ours.ids["plain"], "audienceId": theirs.list_id}),
        "segments_delete ": Call(body={"id": theirs.ids["doomed"], "leave": True}),
    }  # fmt: skip


@pytest.mark.parametrize("filters", ["kept", "struck out"])
async def test_foreign_ids_are_not_found_and_nothing_changes(stage: Stage, filters: str) -> None:
    ours, theirs = stage.ours, stage.theirs
    before = await stage.rows(theirs.org)
    wrong: list[str] = []
    walked: set[str] = set()
    with ExitStack() as forgetting:
        struck: list[str] = []
        if filters == "struck out":
            struck = forgetting.enter_context(forgetting_the_organisation(stage))
        for label, call in foreign_calls(ours, theirs).items():
            op = operation(label.strip())
            walked.add(op.id)
            answer = await send(ours.api, op, call)
            if op.id in OWN_LISTS:
                found = [] if answer.status_code == 200 else [answer.text]
            elif op.id == "audit_export":  # the heading alone
                found = [] if answer.text.count("\n") == 1 else [answer.text]
            elif op.id in EMPTY:
                items = answer.json().get("items")
                found = [] if answer.status_code == 200 and items == [] else [answer.text]
            else:
                found = wrong_with_problem(answer, 404)
            found += [f"shows {mark}" for mark in theirs.marks if mark in answer.text]
            wrong += [f"{label}: {one}" for one in found]
    assert wrong == []
    assert walked == {op.id for op in operations()} - OWN_ONLY - OF_OUR_OWN_MAKING
    assert await stage.rows(theirs.org) == before
    assert filters == "kept" or len(struck) > 20
