"""``mcsync keys``: master keys, under which every stored secret is sealed."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli import administration
from mcsync.cli.console import AsJson, Exit, Output, print_json, run
from mcsync.cli.tables import make_table

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from mcsync.core.resources import Resources

keys = typer.Typer(no_args_is_help=True, help="Master keys that seal the stored secrets.")


@keys.command("generate")
def generate(
    name: Annotated[str | None, typer.Option(help="Id of the key; default: this month's.")] = None,
) -> None:
    """Make a fresh master key, as the value of MCSYNC_MASTER_KEYS. Touches nothing else.

    To rotate: add it to the keys there are, name it in MCSYNC_MASTER_KEY_ACTIVE, restart the API and
    the workers, run `mcsync keys rotate`, and take the old key out.
    """
    kid = name or f"k{datetime.now(UTC):%Y-%m}"
    print_json({kid: base64.b64encode(os.urandom(32)).decode()})


@keys.command("rotate")
def rotate(as_json: AsJson = False) -> None:
    """Seal every stored secret under the active master key. Safe to stop and repeat at any time."""
    from mcsync.core.auth.organisations import organisation_ids
    from mcsync.core.crypto import SecretError

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        renewed = 0
        unreadable: list[str] = []
        for org_id in await organisation_ids(resources.db):
            try:
                renewed += await _rotate(resources, org_id)
            except SecretError:
                unreadable.append(str(org_id))
        return {"active": resources.keys.active, "renewed": renewed, "unreadable": unreadable}

    done = run(out, work)
    out.result(
        done,
        lambda c: c.print(f"{done['renewed']} secrets were sealed anew under {done['active']}."),
    )
    if done["unreadable"]:
        out.fail(
            Exit.ATTENTION,
            "Secrets of these organisations cannot be opened with the configured keys: "
            + ", ".join(done["unreadable"]),
            kind="unreadable_secrets",
        )


async def _rotate(resources: Resources, org_id: UUID) -> int:
    """One organisation in one transaction; how many secrets were sealed anew."""
    from mcsync.features import audit
    from mcsync.features.audit import AuditAction
    from mcsync.features.connection import service as connection
    from mcsync.features.erasure import service as erasure
    from mcsync.features.sources import service as sources
    from mcsync.features.transactional import sealed as transactional
    from mcsync.features.webhooks import service as webhooks

    async with resources.db.transaction(org_id) as session:
        renewed = await _rewrap_hash_key(resources, session, org_id)
        renewed += await connection.rewrap_key(resources, session)
        renewed += await webhooks.rewrap(resources, session)
        renewed += await erasure.rewrap_subjects(resources, session)
        renewed += await sources.rewrap_urls(resources, session)
        renewed += await transactional.rewrap(resources, session)
        if renewed:
            audit.record(
                session,
                administration.operator(org_id),
                AuditAction.KEYS_ROTATE,
                entity="organisation",
                entity_id=org_id,
                diff={"key": resources.keys.active, "secrets": renewed},
            )
    return renewed


async def _rewrap_hash_key(resources: Resources, session: AsyncSession, org_id: UUID) -> int:
    from mcsync.core.auth.organisations import get_organisation
    from mcsync.core.crypto import hash_key_context

    organisation = await get_organisation(session)
    assert organisation is not None
    renewed = resources.keys.rewrap(organisation.hash_key, hash_key_context(org_id))
    changed = renewed != organisation.hash_key
    organisation.hash_key = renewed
    await session.flush()
    return int(changed)


@keys.command("doctor")
def doctor(as_json: AsJson = False) -> None:
    """Count the stored secrets under each master key, and find those that cannot be opened."""
    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        return await secrets_by_key(resources)

    found = run(out, work)

    def human(console: Console) -> None:
        rows = [
            [row["key"], str(row["secrets"]), str(row["unreadable"]), row["state"]] for row in found
        ]
        console.print(make_table(("key", "secrets", "unreadable", "state"), rows))

    out.result(found, human)
    if any(row["unreadable"] for row in found):
        raise typer.Exit(Exit.ATTENTION)


async def secrets_by_key(resources: Resources) -> list[dict[str, Any]]:
    """One row for each master key that is configured or used."""
    from mcsync.core.auth.organisations import organisation_ids
    from mcsync.core.crypto import SecretError

    used: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    for org_id in await organisation_ids(resources.db):
        async with resources.db.transaction(org_id) as session:
            async for envelope, context in secrets_of(session, org_id):
                kid = _key_of(envelope)
                used[kid] += 1
                try:
                    resources.keys.open(envelope, context=context)
                except SecretError:
                    unreadable[kid] += 1
    ring = resources.keys
    return [
        {
            "key": kid,
            "secrets": used[kid],
            "unreadable": unreadable[kid],
            "state": "active" if kid == ring.active
            else "missing" if kid not in ring.key_ids
            else "in use" if used[kid] else "may be removed",
        }
        for kid in sorted({*used, *ring.key_ids})
    ]  # fmt: skip


async def secrets_of(session: AsyncSession, org_id: UUID) -> AsyncIterator[tuple[str, str]]:
    """The organisation's envelopes and where each was sealed for, one at a time."""
    from mcsync.core.auth.organisations import get_organisation
    from mcsync.core.crypto import hash_key_context
    from mcsync.features.connection import service as connection
    from mcsync.features.erasure import service as erasure
    from mcsync.features.erasure.subject import subject_context
    from mcsync.features.sources import service as sources
    from mcsync.features.transactional import sealed as transactional
    from mcsync.features.webhooks import service as webhooks

    organisation = await get_organisation(session)
    if organisation is not None:
        yield organisation.hash_key, hash_key_context(org_id)
    live = await connection.get_live(session)
    if live is not None and live.api_key is not None:
        yield live.api_key, connection.key_context(org_id, live.id)
    for erasure_id, envelope in await erasure.sealed_subjects(session):
        yield envelope, subject_context(org_id, erasure_id)
    for found in (await sources.sealed_urls(session), await webhooks.envelopes(session)):
        for envelope, context in found:
            yield envelope, context
    async for envelope, context in transactional.secrets(session):
        yield envelope, context


def _key_of(envelope: str) -> str:
    from mcsync.core.crypto import SecretError, key_id

    try:
        return key_id(envelope)
    except SecretError:
        return "(damaged)"


def new_master_keys() -> str:
    """A fresh value of MCSYNC_MASTER_KEYS with one key."""
    return json.dumps({"dev": base64.b64encode(os.urandom(32)).decode()})
