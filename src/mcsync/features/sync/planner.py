"""Planning: candidates, decisions as rows, the guard (``sync.md`` 3 and 4).

The plan is data. A full plan looks at every address; an incremental one at those behind which anything
was committed since the last plan that was carried out (``changed_xid``), so that an unchanged segment
of a million costs next to nothing. A test holds the two against each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of, wrote
from mcsync.core.settings import Settings
from mcsync.features.audiences import spellings
from mcsync.features.segments.filters import compile_filters
from mcsync.features.sync import decide

PLAN_LOCK = "pg_{try_}advisory_xact_lock{shared}(hashtextextended('plan:' || :org, 0))"
"""Held together by all plans being written: an erasure ends only when none is that began before it."""

_TEMPORARY = (
    "set local work_mem = '256MB'",
    "create temp table cand (mh uuid) on commit drop",
    """create temp table plan_people (id uuid, mh uuid, pref text, updated_at timestamptz)
       on commit drop""",
    """create temp table plan_rows (
        mh uuid, contact_id uuid, feeder uuid, claimed boolean, suppressed boolean, e text, email text,
        action text, reason text, untag boolean, old_hash uuid, unreadable text[]) on commit drop""",
    """create temp table plan_unreadable (contact_id uuid, mh uuid, tags text[]) on commit drop""",
    """create temp table plan_skips (contact_id uuid, mh uuid, reason text) on commit drop""",
)

_EFFECTIVE = """
    left join audience_aliases x on x.audience_id = :audience and x.source_hash = {hash}"""

_WITHDRAWN_MEMBERS = """
select m.address_hash from audience_members m
join address_consents a on a.org_id = :org and a.address_hash = m.address_hash
where m.audience_id = :audience and m.status in ('subscribed', 'pending')
  and a.withdrawn_at is not null and (a.given_at is null or a.given_at <= a.withdrawn_at)
union  -- members that are spelled otherwise; whether they are withdrawn is decided
select unnest(array[m.address_hash, m.mailbox_hash]) from audience_members m
where m.audience_id = :audience and m.mailbox_hash is not null
union
select coalesce(x.member_hash, c.address_hash) from email_preferences p
join contacts c on c.org_id = p.org_id and c.entity_type = p.entity_type
     and c.entity_id = p.entity_id and c.deleted_at is null
left join audience_aliases x on x.audience_id = :audience and x.source_hash = c.address_hash
join audience_members m on m.audience_id = :audience
     and m.address_hash = coalesce(x.member_hash, c.address_hash)
where p.org_id = :org and p.status = 'opted_out' and m.status in ('subscribed', 'pending')
"""

_ALL = f"""
insert into cand
select coalesce(x.member_hash, c.address_hash) from contacts c {_EFFECTIVE.format(hash="c.address_hash")}
where c.org_id = :org and c.deleted_at is null and c.address_hash is not null and {{matches}}
union
select address_hash from segment_members where segment_id = :segment and audience_id = :audience
union
{_WITHDRAWN_MEMBERS}
"""

# Everything committed since `mark`: contacts and the addresses they had, consents, members, refusals,
# suppressions; refusals whose time has come, and what waited for a member to be read.
CHANGED = f"""
insert into cand
with moved as (
    select c.id, c.address_hash from contacts c
    where c.org_id = :org and c.changed_xid >= :mark
    union
    select c.id, c.address_hash from email_preferences p
    join contacts c on c.org_id = p.org_id and c.entity_type = p.entity_type
         and c.entity_id = p.entity_id
    where p.org_id = :org and p.changed_xid >= :mark
    union
    select c.id, c.address_hash from suppressions u
    join contacts c on c.org_id = :org and c.address_key = u.key
    where u.org_id = :org and u.kind = 'address' and u.changed_xid >= :mark
), hashes as (
    select address_hash as h from moved where address_hash is not null
    union
    select f.address_hash from moved join contact_addresses f on f.contact_id = moved.id
    union
    select a.address_hash from address_consents a
    where a.org_id = :org and a.changed_xid >= :mark and a.address_hash is not null
    union  -- the mailbox of a member with two spellings: its other member is looked at too
    select coalesce(m.mailbox_hash, m.address_hash) from audience_members m
    where m.audience_id = :audience and m.changed_xid >= :mark and m.spelled_domain is not null
)
select coalesce(x.member_hash, h) from hashes {_EFFECTIVE.format(hash="h")}
union
select h from hashes
union
select m.address_hash from audience_members m
where m.audience_id = :audience and m.changed_xid >= :mark
union
select m.address_hash from audience_members m
where m.audience_id = :audience and m.mailbox_hash is not null
  and m.mailbox_hash in (select h from hashes)
union
select s.address_hash from segment_skips s
where s.segment_id = :segment and s.reason = 'awaiting_read' and s.address_hash is not null
union
select m.address_hash from moved join audience_members m
     on m.audience_id = :audience and m.fed_by = moved.id
union
select r.address_hash from audience_refusals r
where r.audience_id = :audience and (r.changed_xid >= :mark or r.next_try_at <= :now)
"""

# In two steps with fresh statistics between them: what comes out of the rules has sizes that no planner
# guesses, and a wrong guess costs hours at a million contacts.
_DECIDE = """
with {ctes},
matching as (
    insert into plan_people select id, mh, pref, updated_at from people where m0
)
insert into plan_rows
select mh, coalesce(feeder, holder), feeder, claimed, suppressed, e, email, action, reason, untag,
       old_hash, unreadable
from decided
"""

_AFTERWARDS = (
    "analyze plan_people",
    "analyze plan_rows",
    # the address that a rename moves away from is dealt with by the rename
    """update plan_rows d set action = null from plan_rows o
       where o.old_hash is not null and o.old_hash = d.mh""",
    f"""insert into plan_skips
       select r.id, r.mh, {decide.WHY_PASSED_OVER}
       from (select p.id, p.mh, p.pref, row_number() over (
                 partition by p.mh order by (p.id = k.feeder) desc, p.updated_at desc, p.id) as place
             from plan_people p join plan_rows k using (mh)) r
       join plan_rows d using (mh)
       where {decide.PASSED_OVER}""",
    f"""insert into plan_unreadable
       select feeder, mh, unreadable from plan_rows
       where claimed and unreadable is not null
         and (action is distinct from 'skip' or starts_with(reason, '{decide.LACKING}'))""",
    "delete from plan_rows where action is null or action = 'skip'",
)

_NO_ADDRESS = """
insert into plan_skips
select c.id, null, 'no_address' from contacts c
where c.org_id = :org and c.deleted_at is null and c.address_hash is null and {matches}
"""


@dataclass(slots=True)
class Plan:
    """What a plan came to. ``xmin``: everything committed before it has been seen.

    ``unreadable``: by tag, of how many members a field is left out because Mailchimp does not take the value.
    """

    xmin: int
    full: bool
    matched: int
    planned: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Counts as a run shows them, ``done`` and ``failed`` aside."""
        wanted = sum(self.planned.get(action, 0) for action in decide.WANTED_ACTIONS)
        skipped = sum(self.skipped.values())
        return {
            "matched": self.matched,
            **{a: self.planned.get(a, 0) for a in ACTIONS},
            "unchanged": max(0, self.matched - skipped - wanted),
            "skipped": skipped,
            "unreadable_fields": sum(self.unreadable.values()),
        }


ACTIONS = ("add", "update", "resubscribe", "unsubscribe", "untag", "archive", "rename")


async def decide_all(
    session: AsyncSession, scope: decide.PlanScope, *, mark: int | None
) -> tuple[int, bool, int]:
    """Fills the temporary tables ``plan_rows`` and ``plan_skips``; nothing else is written.

    ``mark`` None plans in full, else what was committed since. Answers (xmin, full, matched contacts).
    """
    xmin = int(
        (
            await session.execute(
                text("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            )
        ).scalar_one()
    )
    full = mark is None or mark > xmin  # a mark from the future: this database was restored
    for statement in _TEMPORARY:
        await session.execute(text(statement))
    own = compile_filters(scope.segment.segment_type, scope.segment.filters, prefix="own")
    matches = "false" if scope.leave else own.sql
    base: dict[str, Any] = {
        "org": scope.org_id,
        "audience": scope.audience_id,
        "segment": scope.segment.id,
        "mark": mark or 0,
        "now": scope.now,
        **own.params,
    }
    respelled = await spellings.settle(session, scope.audience_id, matches, base)
    if full:
        # Each step reads all of an organisation once. Where the planner expects a single row, it would
        # read the other side of a join again for each of the rows that there really are.
        await session.execute(text("set local enable_nestloop = off"))
        await _run(session, _ALL.format(matches=matches), base)
    else:
        await _run(session, CHANGED, base)
        await session.execute(
            text(
                """insert into cand select h from unnest(cast(:hashes as uuid[])) as t(h)
                   except select mh from cand"""
            ),
            {"hashes": list(respelled)},
        )
    await session.execute(text("analyze cand"))
    decision = decide.build(scope)
    await _run(session, _DECIDE.format(ctes=decision.ctes), decision.params)
    for statement in _AFTERWARDS:
        await session.execute(text(statement))
    await _run(session, _NO_ADDRESS.format(matches=matches), base)
    counted = await _run(
        session,
        f"select count(*) from contacts c where c.org_id = :org and c.deleted_at is null and {matches}",
        base,
    )
    return xmin, full, int(counted.scalar_one())


_PROBLEMS = (
    """(select jsonb_object_agg(tag, cast(:problems as jsonb) -> tag) from unnest(u.tags) tag)"""
)

# What this plan looked at, and what stays as earlier ones left it.
_UNREADABLE = f"""
select tag, count(*) from (
    select unnest(tags) as tag from plan_unreadable
    union all
    select unnest(m.unreadable) from audience_members m
    join segment_members t on t.segment_id = :segment and t.audience_id = m.audience_id
         and t.address_hash = m.address_hash
    where not :full and m.audience_id = :audience and m.unreadable is not null
      and m.status in ('subscribed', 'pending')
      and not exists (select from cand where cand.mh = m.address_hash)
    union all
    select substr(s.reason, {len(decide.LACKING) + 1}) from segment_skips s
    where not :full and s.segment_id = :segment and starts_with(s.reason, '{decide.LACKING}')
      and not exists (select from cand where cand.mh = s.address_hash)) found
group by 1 order by 1
"""


async def _run(session: AsyncSession, sql: str, params: dict[str, Any]) -> Any:
    statement = text(sql)
    wanted = statement._bindparams  # noqa: SLF001 - the names that this text really has
    return await session.execute(statement, {k: v for k, v in params.items() if k in wanted})


async def announce_plan(session: AsyncSession) -> None:
    """Before the first look at contacts: no erasure ends until this transaction has."""
    await session.execute(
        text("select " + PLAN_LOCK.format(try_="", shared="_shared")), {"org": str(org_of(session))}
    )


async def store(
    session: AsyncSession, scope: decide.PlanScope, run_id: UUID, *, mark: int | None
) -> Plan:
    """Decides and writes the run's changes and the segment's skips, in this transaction."""
    await announce_plan(session)
    xmin, full, matched = await decide_all(session, scope, mark=mark)
    base = {
        "org": scope.org_id, "audience": scope.audience_id, "segment": scope.segment.id,
        "run": run_id, "mark": mark or 0, "full": full,
        "problems": json.dumps(decide.problems(scope)),
    }  # fmt: skip
    await _run(session, "delete from sync_changes where run_id = :run", base)
    await _run(
        session,
        f"""insert into sync_changes (org_id, run_id, seq, address_hash, contact_id, email, action,
                                     reason, untag, old_hash, unreadable, state)
           select :org, :run, row_number() over (), r.mh, r.contact_id, r.email, r.action,
                  r.reason, r.untag, r.old_hash, {_PROBLEMS}, 'planned'
           from plan_rows r left join plan_unreadable u using (mh)""",
        base,
    )
    await _run(
        session,
        f"""insert into sync_changes (org_id, run_id, seq, address_hash, contact_id, email, action,
                                     reason, unreadable, state)
           select :org, :run, (select count(*) from plan_rows) + row_number() over (), s.mh,
                  s.contact_id, c.email, 'skip', s.reason, {_PROBLEMS}, 'skipped'
           from plan_skips s join contacts c on c.id = s.contact_id
           left join plan_unreadable u on u.mh = s.mh and u.contact_id = s.contact_id""",
        base,
    )
    if full:
        await _run(session, "delete from segment_skips where segment_id = :segment", base)
    else:
        await _run(
            session,
            """delete from segment_skips s where s.segment_id = :segment and (
                   s.address_hash in (select mh from cand)
                   or s.contact_id in (select id from contacts where org_id = :org
                                       and changed_xid >= :mark)
                   or s.reason = 'no_address')""",
            base,
        )
    await _run(
        session,
        """insert into segment_skips (org_id, segment_id, contact_id, address_hash, reason)
           select :org, :segment, contact_id, mh, reason from plan_skips
           on conflict (segment_id, contact_id)
           do update set reason = excluded.reason, address_hash = excluded.address_hash""",
        base,
    )
    # our own source says another address by now: the person's change at Mailchimp stands for nobody
    await _run(
        session,
        """delete from audience_aliases x where x.audience_id = :audience and not exists (
               select from contacts c where c.org_id = :org and c.address_hash = x.source_hash)""",
        base,
    )
    planned = await _counts(session, "select action, count(*) from plan_rows group by 1", {})
    wrote(session, sum(planned.values()))
    skipped = await _counts(
        session,
        "select reason, count(*) from segment_skips where segment_id = :segment group by 1",
        base,
    )
    unreadable = await _counts(session, _UNREADABLE, base)
    return Plan(xmin, full, matched, planned, skipped, unreadable)


async def _counts(session: AsyncSession, sql: str, params: dict[str, Any]) -> dict[str, int]:
    return {str(row[0]): int(row[1]) for row in await _run(session, sql, params)}


@dataclass(frozen=True, slots=True)
class Hold:
    """What the guard held back, and against which limit."""

    kind: str
    count: int
    limit: int


_REMOVAL = "action = 'archive' or (action = 'unsubscribe' and reason = 'left')"
_ADDITION = "action in ('add', 'resubscribe')"


async def guard(
    session: AsyncSession, scope: decide.PlanScope, run_id: UUID, plan: Plan, settings: Settings,
    *, first_run: bool,
) -> list[Hold]:  # fmt: skip
    """Holds removals and additions beyond the limits (``sync.md`` 4): exactly the rows it is about."""
    base = {
        "run": run_id, "segment": scope.segment.id, "audience": scope.audience_id, "org": scope.org_id,
    }  # fmt: skip
    removals, additions = (
        await _run(
            session,
            f"""select count(*) filter (where {_REMOVAL}), count(*) filter (where {_ADDITION})
                from sync_changes where run_id = :run and state = 'planned'""",
            base,
        )
    ).one()
    if not removals and additions <= settings.guard_additions_min:
        return []
    tagged, owned, recent = (
        await _run(
            session,
            f"""select
                (select count(*) from segment_members
                 where segment_id = :segment and audience_id = :audience),
                (select count(*) from audience_members where audience_id = :audience and owned
                 and status in ('subscribed', 'pending')),
                (select count(*) from sync_changes c join sync_runs r on r.id = c.run_id
                 where c.org_id = :org and c.done_at > now() - interval '24 hours'
                   and ({_REMOVAL}) and c.state = 'done' and r.audience_id = :audience)""",
            base,
        )
    ).one()
    holds: list[Hold] = []
    share = settings.guard_removals_share
    # members removed today still count as part of what they were removed from
    limit = max(settings.guard_removals_min, int(min(tagged + recent, owned + recent) * share))
    if removals and (recent + removals > limit):
        holds.append(Hold("removals", removals, limit))
    elif removals and plan.matched == 0 and not scope.leave:
        holds.append(Hold("source_empty", removals, 0))
    if holds:
        await _hold(session, base, _REMOVAL)
    limit = max(settings.guard_additions_min, int(tagged * settings.guard_additions_share))
    if not first_run and additions > limit:
        holds.append(Hold("additions", additions, limit))
        await _hold(session, base, _ADDITION)
    return holds


async def _hold(session: AsyncSession, base: dict[str, Any], condition: str) -> None:
    await _run(
        session,
        f"update sync_changes set state = 'held' where run_id = :run and state = 'planned' and ({condition})",
        base,
    )
