"""Every operation called as it should be: answered as described, audited once or not at all."""

from __future__ import annotations

from tests.walks.description import operation, operations, wrong_with_answer
from tests.walks.stage import Stage, Tenant, send, valid_calls, work

_ENTRIES = "select count(*) from audit_entries"


async def test_valid_calls_are_answered_as_described_and_audited(own_stage: Stage) -> None:
    ours, onlooker = own_stage.ours, own_stage.onlooker
    calls = valid_calls(ours)
    assert set(calls) == {op.id for op in operations()}, "each operation needs a valid call"
    wrong: list[str] = []
    for name, call in calls.items():
        op = operation(name)
        before = await onlooker.fetchval(_ENTRIES)
        answer = await send(ours.api, op, call)
        added = await onlooker.fetchval(_ENTRIES) - before
        found = wrong_with_answer(op, answer)
        if not answer.is_success:
            found.append(f"{answer.status_code} {answer.text}")
        if added != int(op.changes):
            found.append(f"{added} audit entries")
        wrong += [f"{name}: {one}" for one in found]
    assert wrong == []

    await work(ours, own_stage.resources, ours.ids["held"])
    for tenant in (ours, own_stage.theirs):
        verified = (await tenant.call("audit_verify")).json()
        assert verified["valid"] is True
        assert verified["entries"] == await onlooker.fetchval(
            "select count(*) from audit_entries where org_id = $1", tenant.org.id
        )
    await _names_nobody(own_stage, ours)


async def _names_nobody(stage: Stage, tenant: Tenant) -> None:
    rows = await stage.onlooker.fetch(
        "select seq, action, entity_id, actor_label, diff::text as diff from audit_entries"
        " where org_id = $1",
        tenant.org.id,
    )
    assert len(rows) > 20
    secrets = [tenant.api_key, tenant.api_key.partition("-")[0], *tenant.tokens.values()]
    people = [
        f"@{tenant.word}",
        f"Ada {tenant.word}",
        f"Lindqvist {tenant.word}",
        f"{tenant.word}-",
    ]
    for row in rows:
        said = " ".join(str(value) for value in row.values())
        assert not [text for text in (*secrets, *people) if text in said], said
