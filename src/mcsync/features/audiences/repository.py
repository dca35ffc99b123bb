"""Every SQL statement about audiences as such (the mirror of their members and the orders stand apart)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.audiences.merge_map import Entry, Field
from mcsync.features.audiences.models import Audience, Member
from mcsync.features.audiences.permissions import Permission
from mcsync.features.connection.models import Connection

_FRESH = {"populate_existing": True}

_TOUCH = text("""
update audiences set definition_xid = pg_current_xact_id()::text::bigint where id = :audience_id
""")


async def by_list_id(session: AsyncSession, list_id: str) -> Audience | None:
    """The mirrored audience with Mailchimp's id in the connected account (also one that is gone)."""
    statement = (
        select(Audience)
        .join(
            Connection,
            (Connection.org_id == Audience.org_id)
            & (Connection.account_id == Audience.account_id)
            & Connection.soft_deleted_at.is_(None),
        )
        .where(Audience.org_id == org_of(session), Audience.list_id == list_id)
    )
    return (await session.execute(statement, execution_options=_FRESH)).scalar_one_or_none()


async def get(session: AsyncSession, audience_id: UUID, *, lock: bool = False) -> Audience | None:
    """The audience with our id; ``lock`` keeps others from changing it until commit."""
    statement = select(Audience).where(
        Audience.org_id == org_of(session), Audience.id == audience_id
    )
    if lock:
        statement = statement.with_for_update()
    return (await session.execute(statement, execution_options=_FRESH)).scalar_one_or_none()


async def upsert(session: AsyncSession, account_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Stores what Mailchimp said about audiences: ``list_id``, ``name``, ``double_optin``, ``stats``.

    One that comes back after it was gone is pulled anew from end to end. An audience that did not
    change is not written.
    """
    if not rows:
        return
    org_id = org_of(session)
    # In one order everywhere, so that two requests never wait for each other's rows.
    ordered = sorted(rows, key=lambda row: str(row["list_id"]))
    statement = insert(Audience).values(
        [{"org_id": org_id, "account_id": account_id, **row} for row in ordered]
    )
    new = statement.excluded
    changed = or_(
        Audience.name.is_distinct_from(new.name),
        Audience.double_optin.is_distinct_from(new.double_optin),
        Audience.stats.is_distinct_from(new.stats),
        Audience.gone_at.is_not(None),
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Audience.org_id, Audience.account_id, Audience.list_id],
            set_={
                "name": new.name,
                "double_optin": new.double_optin,
                "stats": new.stats,
                # What was read before it was gone says nothing about it now.
                "high_water": case((Audience.gone_at.is_(None), Audience.high_water)),
                "gone_at": None,
                "updated_at": func.now(),
            },
            where=changed,
        )
    )


async def ensure_audience(
    session: AsyncSession,
    account_id: str,
    list_id: str,
    *,
    name: str,
    double_optin: bool = False,
    stats: dict[str, Any] | None = None,
) -> Audience:
    """The mirrored audience, made or brought up to date."""
    row = {"list_id": list_id, "name": name, "double_optin": double_optin, "stats": stats or {}}
    await upsert(session, account_id, [row])
    statement = select(Audience).where(
        Audience.org_id == org_of(session),
        Audience.account_id == account_id,
        Audience.list_id == list_id,
    )
    return (await session.execute(statement, execution_options=_FRESH)).scalar_one()


async def mirrored(session: AsyncSession) -> Sequence[Audience]:
    """The mirrored audiences of the connected account that are not gone, by name."""
    statement = (
        select(Audience)
        .join(
            Connection,
            (Connection.org_id == Audience.org_id)
            & (Connection.account_id == Audience.account_id)
            & Connection.soft_deleted_at.is_(None),
        )
        .where(Audience.org_id == org_of(session), Audience.gone_at.is_(None))
        .order_by(Audience.name, Audience.list_id)
    )
    return (await session.execute(statement)).scalars().all()


async def subscribed(session: AsyncSession, audience_id: UUID) -> int:
    """How many members the mirror knows as subscribed."""
    counted = await session.scalar(
        select(func.count())
        .select_from(Member)
        .where(
            Member.org_id == org_of(session),
            Member.audience_id == audience_id,
            Member.status == "subscribed",
        )
    )
    return counted or 0


async def known_besides(
    session: AsyncSession, account_id: str, list_ids: Sequence[str]
) -> list[str]:
    """Mirrored audiences of the account that are neither gone nor among the given ones."""
    statement = select(Audience.list_id).where(
        Audience.org_id == org_of(session),
        Audience.account_id == account_id,
        Audience.gone_at.is_(None),
        Audience.list_id.not_in(list_ids),
    )
    return list((await session.execute(statement)).scalars())


async def mark_gone(
    session: AsyncSession, account_id: str, list_ids: Sequence[str], at: datetime
) -> None:
    """Mailchimp answers 404 for these audiences."""
    await session.execute(
        update(Audience)
        .where(
            Audience.org_id == org_of(session),
            Audience.account_id == account_id,
            Audience.list_id.in_(list_ids),
            Audience.gone_at.is_(None),
        )
        .values(gone_at=at)
    )


async def store_fields(
    session: AsyncSession, audience_id: UUID, fields: Sequence[Field], at: datetime
) -> None:
    """Keeps the merge fields as Mailchimp just told them."""
    await session.execute(
        update(Audience)
        .where(Audience.id == audience_id)
        .values(merge_fields=[field.as_json() for field in fields], merge_fields_at=at)
    )


async def store_map(
    session: AsyncSession, audience_id: UUID, merge_map: dict[str, Entry] | None
) -> None:
    """Keeps the merge-field map; None goes back to the proposal."""
    await session.execute(
        update(Audience).where(Audience.id == audience_id).values(merge_field_map=merge_map)
    )


async def rename_pushed(
    session: AsyncSession, audience_id: UUID, renamed: Mapping[str, str]
) -> None:
    """Fields have other tags by now: what was last sent to members is known under those."""
    await session.execute(
        text(
            """update audience_members set payload_tags = array(
                   select coalesce(cast(:renamed as jsonb) ->> tag, tag) from unnest(payload_tags) tag)
               where audience_id = :audience and payload_tags && cast(:old as text[])"""
        ),
        {
            "audience": audience_id,
            "renamed": json.dumps(dict(renamed)),
            "old": list(renamed),
        },
    )


async def forget_field_refusals(
    session: AsyncSession, audience_id: UUID, tags: Collection[str]
) -> int:
    """These fields (tags in upper case) take other values by now: what was refused for them may be taken.

    Also refusals about a field that Mailchimp did not name. Answers how many there were.
    """
    gone = await session.execute(
        text(
            """delete from audience_refusals where audience_id = :audience and (
                   upper(regexp_replace(field, '^.*[.]', '')) = any(cast(:tags as text[]))
                   or (code in ('required_field_missing', 'invalid_value', 'incomplete_address')
                       and coalesce(field, '') in ('', 'merge_fields')))"""
        ),
        {"audience": audience_id, "tags": sorted(tags)},
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]


async def store_permissions(
    session: AsyncSession, audience_id: UUID, permissions: Sequence[Permission]
) -> None:
    """Keeps the marketing permissions as a member just showed them."""
    await session.execute(
        update(Audience)
        .where(Audience.id == audience_id)
        .values(marketing_permissions=[each.as_json() for each in permissions])
    )


async def store_permission_map(
    session: AsyncSession, audience_id: UUID, permission_map: dict[str, str]
) -> None:
    """Keeps which marketing permissions are fed, and by what."""
    await session.execute(
        update(Audience).where(Audience.id == audience_id).values(permission_map=permission_map)
    )


async def touch_definition(session: AsyncSession, audience_id: UUID) -> None:
    """Makes the next plan of every segment of the audience look at every address again."""
    await session.execute(_TOUCH, {"audience_id": audience_id})
