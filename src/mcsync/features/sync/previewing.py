"""A plan that is shown and not stored: by the same statement as every plan (``decide``)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.sync import decide, planner
from mcsync.features.sync.payload import source_sql

_COUNTED = "select unnest(tags) as tag, count(*) from plan_unreadable group by 1"


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row of a preview's sample."""

    email: str | None
    contact_id: UUID | None
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One of the contacts whose value a field does not take; ``value`` as it is."""

    tag: str
    entity_type: str
    entity_id: str
    value: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan that was not stored: counts by action and reason, a sample of each, and of values not taken."""

    plan: planner.Plan
    by_reason: dict[str, dict[str, int]]
    sample: list[PreviewRow]
    unreadable: list[Unreadable]


async def preview(session: AsyncSession, scope: decide.PlanScope, *, sample: int) -> Preview:
    """A full plan that stores nothing."""
    xmin, full, matched = await planner.decide_all(session, scope, mark=None)
    everything = """
        select action, reason, mh, contact_id, email from plan_rows
        union all
        select 'skip', s.reason, s.mh, s.contact_id, c.email
        from plan_skips s join contacts c on c.id = s.contact_id"""
    by_reason: dict[str, dict[str, int]] = {}
    counted = f"select action, reason, count(*) from ({everything}) e group by 1, 2"
    for row in await session.execute(text(counted)):
        by_reason.setdefault(row[0], {})[row[1]] = int(row[2])
    rows = await session.execute(
        text(f"""select email, contact_id, action, reason from (
                select e.*, row_number() over (partition by action, reason order by email, contact_id)
                       as place from ({everything}) e) ranked
            order by place, action, reason limit :sample"""),
        {"sample": sample},
    )
    plan = planner.Plan(
        xmin,
        full,
        matched,
        {a: sum(r.values()) for a, r in by_reason.items() if a != "skip"},
        by_reason.get("skip", {}),
        {row[0]: int(row[1]) for row in await session.execute(text(_COUNTED))},
    )
    return Preview(
        plan, by_reason, [PreviewRow(*row) for row in rows], await _examples(session, scope)
    )


async def _examples(session: AsyncSession, scope: decide.PlanScope) -> list[Unreadable]:
    """Three contacts for each field whose values are not taken."""
    values, params = source_sql(scope.merge_map, alias="c")
    rows = await session.execute(
        text(f"""select p.tag, c.entity_type, c.entity_id, {values} ->> p.tag
            from (select u.tag, u.contact_id, row_number() over (
                      partition by u.tag order by u.contact_id) as place
                  from (select contact_id, unnest(tags) as tag from plan_unreadable) u) p
            join contacts c on c.id = p.contact_id
            where p.place <= 3 order by p.tag, p.place"""),
        params,
    )
    return [Unreadable(*row) for row in rows]
