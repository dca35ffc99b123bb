"""A key, a token and an address that pass through everything, and the places where they must not be."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from redis.asyncio import Redis

from mcsync.core.auth import Role
from mcsync.features.sync import withdrawals
from mcsync.models import Base
from tests.walks.description import operation
from tests.walks.stage import SOURCE_PASSWORD, Call, Stage, Tenant, furnish, send, valid_calls, work

_HOLD_ADDRESSES = {
    ("audience_aliases", "email"),
    ("audience_members", "email"),
    ("audience_orders", "email"),
    ("contact_addresses", "email"),
    ("contacts", "email"),
    ("subscription_requests", "email"),
    ("sync_changes", "email"),
    ("webhook_events", "email"),
    ("webhook_events", "new_email"),
    ("transactional_recipients", "email"),
}
"""Columns that are meant to hold addresses in clear."""

_WRONG_PLACES = ("Authorization", "X-Request-Id", "Idempotency-Key", "User-Agent", "Last-Event-ID")


async def _walk(stage: Stage, tenant: Tenant) -> None:
    """Everything once, rightly, and with the secrets where they do not belong."""
    await furnish(tenant, stage.resources)
    for name, call in valid_calls(tenant).items():
        await send(tenant.api, operation(name), call)
        if name == "segments_approve_run":
            await work(tenant, stage.resources, tenant.ids["held"])
            audiences = await stage.onlooker.fetch(
                "select id from audiences where org_id = $1", tenant.org.id
            )
            for row in audiences:
                await withdrawals.carry_out(stage.resources, tenant.org.id, row["id"])
    for secret in (tenant.api_key, tenant.tokens[Role.OWNER], tenant.email(1)):
        for header in _WRONG_PLACES:
            await tenant.api.get("/mailchimp/segments/list", headers={header: secret})
        await tenant.api.get(f"/mailchimp/{secret}", params={"id": secret, "cursor": secret})
        await tenant.api.get("/mailchimp/segments/get", params={"id": secret, secret: secret})
        for body in ({"apiKey": f"{secret} "}, {"apiKey": [secret]}, {secret: secret}, secret):
            await send(tenant.api, operation("connection_connect"), Call(body=body))
        await send(
            tenant.api,
            operation("contacts_import"),
            Call(content=f"{secret}\n{secret},{secret}".encode(), content_type="text/csv"),
        )


async def test_secrets_and_addresses_stay_where_they_belong(
    own_stage: Stage, log: io.StringIO
) -> None:
    tenant = await own_stage.tenant("canarybird")
    await _walk(own_stage, tenant)
    refused = f"{tenant.api_key.partition('-')[0][::-1]}-us1"
    answer = await send(tenant.api, operation("connection_connect"), Call(body={"apiKey": refused}))
    assert answer.json()["code"] in {"api_key_refused", "account_mismatch"}, answer.text

    secrets = [
        tenant.api_key,
        tenant.mail_key,
        refused,
        SOURCE_PASSWORD,
        *tenant.tokens.values(),
    ]
    secrets += [secret.partition("-us")[0] for secret in secrets]
    lines = log.getvalue()
    assert lines.count("\n") > 50
    for secret in (*secrets, "@canarybird", "%40canarybird"):
        leaks = [line for line in lines.splitlines() if secret in line]
        assert not leaks, leaks[0]

    stored = await _all_of_redis(own_stage.resources.redis)
    assert stored, "the walk rings and takes slots: Redis holds something"
    for secret in (*secrets, "canarybird"):
        assert secret not in stored

    for table, column, text in await _all_texts(own_stage):
        assert not [secret for secret in secrets if secret in text], f"{table}.{column}"
        if "@canarybird" in text:
            assert (table, column) in _HOLD_ADDRESSES, (
                f"an address in {table}.{column}: {text[:200]}"
            )


async def test_a_stored_key_is_an_envelope_that_opens_only_in_its_row(stage: Stage) -> None:
    rows = await stage.onlooker.fetch(
        "select id, org_id, api_key from mailchimp_connections where api_key is not null"
    )
    assert len(rows) == 2
    for row, tenant in ((row, _of(stage, row)) for row in rows):
        envelope = json.loads(base64.urlsafe_b64decode(row["api_key"] + "=="))
        assert {"v", "alg", "kid"} <= set(envelope)
        assert tenant.api_key not in json.dumps(envelope)
        context = f"org:{row['org_id']}|mailchimp_api_key|{row['id']}"
        assert stage.resources.keys.open(row["api_key"], context=context) == tenant.api_key


def _of(stage: Stage, row: Any) -> Tenant:
    return stage.ours if row["org_id"] == stage.ours.org.id else stage.theirs


async def _all_of_redis(redis: Redis) -> str:
    """Every key and value, as text."""
    found: list[str] = []
    async for key in redis.scan_iter():
        kind = (await redis.type(key)).decode()
        read: Any = {
            "string": redis.get,
            "hash": redis.hgetall,
            "set": redis.smembers,
            "zset": lambda k: redis.zrange(k, 0, -1),
            "list": lambda k: redis.lrange(k, 0, -1),
        }[kind]
        found.append(f"{key!r} {await read(key)!r}")
    return "\n".join(found)


async def _all_texts(stage: Stage) -> list[tuple[str, str, str]]:
    """(table, column, all its values as one text) for every column of the database."""
    return [
        (table.name, column.name, await stage.onlooker.fetchval(
            f"select coalesce(string_agg({column.name}::text, E'\\n'), '') from {table.name}"
        ))
        for table in Base.metadata.sorted_tables
        for column in table.columns
    ]  # fmt: skip
