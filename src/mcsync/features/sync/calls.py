"""Write calls in SQL: taken before they are sent, recorded after they are answered (``sync.md`` 5).

A call is a row of its own from before it is sent. Taking it reads consent, erasure and claim of every
row again and drops what no longer holds; recording it writes outcomes, mirror and counters at once.
Between the two a process may die: what was taken is planned again, and decided again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import BY_KEY, Database, lock_obtained
from mcsync.core.jobs import FencedError
from mcsync.features.audiences.barrier import LOCK
from mcsync.features.audiences.mirror import mailbox_of_member
from mcsync.features.sync import decide
from mcsync.features.sync.pull import Check
from mcsync.features.sync.runs import Claimed
from mcsync.mailchimp import spelled_domain


@dataclass(slots=True)
class Row:
    """One member of a taken call, as the statement that decides it answers.

    ``payload_tags``: of the fields sent that are not empty; ``unreadable``: of those left out because Mailchimp
    does not take the contact's value. ``body`` is its JSON, ready to be sent; ``fields`` its merge fields alone, where a single call is made.
    ``signed``: it carries a ``timestamp_signup``, so that one in the answer is no sign of an earlier call.
    """

    seq: int
    address_hash: UUID
    email: str
    action: str
    reason: str
    status: str
    wanted_status: str
    payload_tags: str
    payload_hash: UUID | None
    feeder: UUID | None
    given_at: datetime | None
    old_hash: UUID | None
    fields: str | None
    body: str
    signed: bool = False
    unreadable: str = ""

    @property
    def brings_back(self) -> bool:
        """Whether the row carries a status for a member that is there; an ``add`` is for who is not."""
        return self.action == "resubscribe" or self.reason == "back"


@dataclass(frozen=True, slots=True)
class Taken:
    """A call that is about to be sent. ``with_status``: its rows carry ``status`` (before 2026)."""

    id: UUID
    rows: list[Row]
    with_status: bool = False


# Materialised: as a plain sub-select it may be run again and again, each time for other rows. Updated by
# their place, which the lock holds: by key the planner may read the whole run for every row.
_PICK = """
with n as materialized (
    select ctid as place from sync_changes
    where run_id = :run and state = 'planned' and seq > :after
      and action = any(cast(:actions as text[]))
    order by seq limit :most for update skip locked)
update sync_changes h set state = 'taken', call_id = :call, tries = tries + 1
from n where h.ctid = n.place
returning h.seq, h.address_hash, h.action
"""

_PICK_THESE = _PICK.replace("seq > :after", "seq = any(cast(:seqs as bigint[]))")

# The proof of consent goes with the row that subscribes: when the latest opt-in was given, and from which
# network address, unless an import only assumed it (its time is the import's own). Not where Mailchimp
# asks the person itself, whose confirmation then is the opt-in, and never with an update.
#
# A backdated `timestamp_opt` no longer shows that a member was added by a call whose answer was lost. So
# the first call also says when the signup was, which is now; one that repeats it does not, and finds it.
_PROOF = """
opt_ins as materialized (
    select distinct on (o.mh) o.mh, o.consent_given_at as at, q.proof ->> 'ipAddress' as ip
    from people o
    cross join lateral (select * from contacts c where c.id = o.id offset 0) c
    cross join lateral (select * from email_preferences p
                        where p.org_id = c.org_id and p.entity_type = c.entity_type
                          and p.entity_id = c.entity_id offset 0) q
    where :subscribing and o.pref = 'opted_in' and o.consent_given_at is not null
      and not (jsonb_exists(q.proof, 'line') and q.consent_given_at >= q.updated_at)
    order by o.mh, o.consent_given_at desc
),
proofs as materialized (
    select d.mh, g.at, case when g.ip ~ '^[0-9a-fA-F:.]{2,45}$' then g.ip end as ip,
           d.action = 'add' and i.intent_at is null as signed
    from decided d join opt_ins g on g.mh = d.mh
    left join lateral (
        select m.intent_at from audience_members m
        where m.audience_id = :audience and m.address_hash = d.mh offset 0) i on true
    where d.action in ('add', 'resubscribe') and d.wanted_status = 'subscribed'
)
"""

_MOMENT = """to_char({0} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')"""

# Empty values are sent only where our last push was not empty (sync.md 3). An update never carries a
# status; `status_if_new` keeps a member that has vanished from being subscribed behind our back where
# it was waiting for its confirmation.
_DECIDE = """
with picked as materialized (
    select * from unnest(cast(:picked as bigint[]), cast(:hashes as uuid[]), cast(:planned as text[]))
                  as p(seq, mh, planned)),
cand as materialized (select distinct mh from picked),
{ctes},
{proof}
select p.seq, d.mh, d.email, d.action, d.reason, d.status, d.wanted_status,
       array_to_string(array(select e.key from jsonb_each(d.payload) e where e.value <> '""'), ',')
           as payload_tags,
       d.payload_hash, d.feeder, d.given_at, d.old_hash,
       case when d.action = 'rename' or :requires_status then s.fields::text end as fields,
       case when d.action = 'unsubscribe'
            then jsonb_build_object('email_address', d.email, 'status', 'unsubscribed')
            else jsonb_build_object(
                'email_address', d.email,
                case when d.action = 'resubscribe' or d.reason = 'back' or :requires_status
                     then 'status' else 'status_if_new' end,
                case when d.action = 'update' and d.status = 'pending' then 'unsubscribed'
                     else d.wanted_status end,
                'merge_fields', s.fields)
                || case when :tags_in_rows then jsonb_build_object(
                    'tags', jsonb_build_array(cast(:tag as text))) else '{{}}' end
                || case when g.mh is null then '{{}}' else jsonb_strip_nulls(jsonb_build_object(
                    'timestamp_opt', {opted}, 'ip_opt', g.ip,
                    'timestamp_signup', case when g.signed then {signed_up} end)) end
            end::text as body,
       coalesce(g.signed, false) as signed,
       coalesce(array_to_string(d.unreadable, ','), '') as unreadable
from picked p join decided d on d.mh = p.mh and d.action = p.planned
left join proofs g on g.mh = d.mh
cross join lateral (
    select coalesce(jsonb_object_agg(e.key, e.value), '{{}}') as fields
    from jsonb_each(d.payload) e
    where e.value <> '""' or e.key = any(d.payload_tags)) s
where d.email is not null
"""

_DROP = """
update sync_changes set state = :state, outcome_code = 'no_longer_holds', call_id = null,
       done_at = null
where run_id = :run and call_id = :call and not seq = any(cast(:kept as bigint[]))
"""

_INTENTS = {
    "add": """
        insert into audience_members as m (org_id, audience_id, address_hash, email, status, intent_at,
                                           mailbox_hash, spelled_domain)
        select :org, :audience, h, e, 'absent', now(), nullif(b, h), d
        from unnest(cast(:hashes as uuid[]), cast(:emails as text[]), cast(:boxes as uuid[]),
                    cast(:domains as text[])) as t(h, e, b, d)
        on conflict (audience_id, address_hash)
        do update set intent_at = coalesce(m.intent_at, now()), email = excluded.email""",
    "resubscribe": """
        update audience_members m set intent_at = coalesce(m.intent_at, now())
        where m.audience_id = :audience and m.address_hash = any(cast(:hashes as uuid[]))""",
    "unsubscribe": """
        update audience_members m set unsubscribe_intent = t.cause,
            -- a call whose answer was lost explains what the one that repeats it finds
            unsubscribe_intent_at = case
                when m.unsubscribe_intent = t.cause
                     and m.unsubscribe_intent_at > now() - interval '1 day'
                then m.unsubscribe_intent_at else now() end
        from unnest(cast(:hashes as uuid[]), cast(:causes as text[])) as t(h, cause)
        where m.audience_id = :audience and m.address_hash = t.h""",
    "archive": """
        update audience_members m set archive_intent_at = now()
        where m.audience_id = :audience and m.address_hash = any(cast(:hashes as uuid[]))""",
}


@lru_cache(maxsize=32)
def _deciding(ctes: str) -> TextClause:
    """The statement for a run's calls: looking for its parameters takes longer than sending it."""
    return text(
        _DECIDE.format(
            ctes=ctes,
            proof=_PROOF,
            opted=_MOMENT.format("g.at"),
            signed_up=_MOMENT.format("now()"),
        )
    )


async def begin(session: AsyncSession, run: Claimed) -> None:
    """Before members are picked for a call: an order sees this call, or this call knows of the order.

    Raises :class:`FencedError` where the run is another worker's by now, or is being cancelled.
    """
    await session.execute(
        text(f"select {BY_KEY}, " + LOCK.format(shared="_shared")),
        {"audience": str(run.audience_id)},
    )
    lock_obtained(session)
    fence = text(
        "select 1 from sync_runs where id = :run and epoch = :epoch and status = 'pushing'"
    )
    if (await session.execute(fence, {"run": run.id, "epoch": run.epoch})).one_or_none() is None:
        raise FencedError


async def take(
    session: AsyncSession,
    run: Claimed,
    decision: decide.Decision,
    *,
    call_id: UUID,
    actions: Sequence[str],
    most: int,
    after: int,
    tag: str,
    turn: AbstractAsyncContextManager[object],
    requires_status: bool = False,
    tags_in_rows: bool = True,
    seqs: Sequence[int] | None = None,
) -> Taken | None:
    """Takes the next rows of these actions beyond ``after`` (their ``seq``); None when there are none.

    ``turn``: lanes pick one after the other. At the same time they would skip each other's rows one by
    one, and make ten small calls of what fits into two. ``seqs``: of these rows only, wherever they stand.
    ``tags_in_rows``: without it the tag is put on by calls of its own, because rows would take others off.

    Raises :class:`FencedError` where the run is another worker's by now, or is being cancelled.
    """
    await begin(session, run)
    where = {"after": after} if seqs is None else {"seqs": list(seqs)}
    pick = text(_PICK if seqs is None else _PICK_THESE)
    which = {"run": run.id, "call": call_id, "actions": list(actions), "most": most, **where}
    async with turn:
        picked = (await session.execute(pick, which)).all()
    if not picked:
        return None
    picked_seqs, hashes, planned = zip(*picked, strict=True)
    decided = await session.execute(
        _deciding(decision.ctes),
        {
            **decision.params,
            "subscribing": not {"add", "resubscribe"}.isdisjoint(planned),
            "picked": picked_seqs,
            "hashes": hashes,
            "planned": planned,
            "tag": tag,
            "requires_status": requires_status,
            "tags_in_rows": tags_in_rows,
        },
    )
    rows = [Row(*found) for found in decided]
    if len(rows) < len(picked):
        await session.execute(
            text(_DROP),
            {
                "run": run.id, "call": call_id, "kept": [r.seq for r in rows],
                "state": "obsolete" if run.approved else "dropped",
            },
        )  # fmt: skip
        # an archive that is dropped after its tag went: the tag is not there any more
        await session.execute(
            text(
                """delete from segment_members t using sync_changes h
                   where h.run_id = :run and h.untagged and h.action = 'archive'
                     and h.state in ('dropped', 'obsolete')
                     and t.segment_id = :segment and t.audience_id = :audience
                     and t.address_hash = h.address_hash"""
            ),
            {"run": run.id, "segment": run.segment_id, "audience": run.audience_id},
        )
    if rows:
        await _intend(session, run, call_id, rows)
    return Taken(call_id, rows, with_status=requires_status)


async def announce(
    session: AsyncSession, run: Claimed, call_id: UUID, kind: str, hashes: Sequence[UUID]
) -> None:
    """The call itself, from before it is sent."""
    await session.execute(
        text(
            """insert into audience_calls (id, org_id, audience_id, run_id, kind, addresses)
               values (:call, :org, :audience, :run, :kind, cast(:hashes as uuid[]))"""
        ),
        {
            "call": call_id, "org": run.org_id, "audience": run.audience_id, "run": run.id,
            "kind": kind, "hashes": list(hashes),
        },
    )  # fmt: skip


async def _intend(session: AsyncSession, run: Claimed, call_id: UUID, rows: Sequence[Row]) -> None:
    """Commits what is about to be asked for, and the call itself."""
    touched = [r.address_hash for r in rows] + [r.old_hash for r in rows if r.old_hash]
    await announce(session, run, call_id, rows[0].action, touched)
    for kind, statement in _INTENTS.items():
        chosen = [r for r in rows if r.action == kind]
        if chosen:
            await session.execute(
                text(statement),
                {
                    name: value
                    for name, value in {
                        "org": run.org_id,
                        "audience": run.audience_id,
                        "hashes": [r.address_hash for r in chosen],
                        "emails": [r.email for r in chosen],
                        "boxes": [mailbox_of_member(r.address_hash, r.email) for r in chosen],
                        "domains": [spelled_domain(r.email) for r in chosen],
                        "causes": [cause(r) for r in chosen],
                    }.items()
                    if f":{name}" in statement
                },
            )


def cause(row: Row) -> str:
    """Why we unsubscribe: a withdrawal, or because the address left."""
    return "left" if row.reason == "left" else "withdrawal"


NOT_SENT = "not sent"


async def mark_sent(session: AsyncSession, call_id: UUID) -> bool:
    """The call leaves now: an order waits for its answer, at most two minutes from here.

    False, and nothing is marked, where an order for one of its addresses was placed since it was taken.
    """
    marked = await session.execute(
        text(
            """update audience_calls c set sent_at = clock_timestamp()
               where c.id = :call and c.state = 'taken' and (
                   c.kind in ('unsubscribe', 'archive') or not exists (
                       select from unnest(c.addresses) h
                       join audience_orders o on o.audience_id = c.audience_id
                            and o.address_hash = h and o.status = 'open'
                            and o.created_at > c.taken_at))"""
        ),
        {"call": call_id},
    )
    return bool(marked.rowcount)  # type: ignore[attr-defined]


async def mark_answered(session: AsyncSession, call_id: UUID) -> None:
    """The call is answered altogether: orders no longer wait for it."""
    await session.execute(
        text(
            "update audience_calls set state = 'answered', answered_at = clock_timestamp() "
            "where id = :call"
        ),
        {"call": call_id},
    )


async def leaving(db: Database, run: Claimed, call_id: UUID, check: Check) -> bool:
    """Marks a call as sent; False where it must not leave, and its rows are planned again.

    The wait for a slot may have been long: somebody may have withdrawn meanwhile, or the run may be asked
    to stop (``check`` raises).
    """
    leaves = False
    try:
        await check()
        async with db.transaction(run.org_id) as session:
            leaves = await mark_sent(session, call_id)
    finally:
        if not leaves:
            async with db.transaction(run.org_id) as session:
                await put_back(session, run, call_id, error=NOT_SENT)
    return leaves


async def put_back(session: AsyncSession, run: Claimed, call_id: UUID, *, error: str) -> None:
    """The call's outcome is unknown, or it never left: its rows are planned again.

    The call stays open for orders until two minutes after it was sent.
    """
    await session.execute(
        text(
            """update sync_changes set state = 'planned', call_id = null
               where run_id = :run and call_id = :call and state = 'taken'"""
        ),
        {"run": run.id, "call": call_id},
    )
    await session.execute(
        text(
            """update audience_calls set error = :error,
                   state = case when sent_at is null then 'answered' else 'abandoned' end
               where id = :call and state = 'taken'"""
        ),
        {"call": call_id, "error": error},
    )
    if error != NOT_SENT:
        await session.execute(
            text("update sync_runs set calls = calls + 1, revision = revision + 1 where id = :run"),
            {"run": run.id},
        )


async def recover(session: AsyncSession, run: Claimed) -> int:
    """After a take-over: rows in calls of a dead worker are planned again. Answers how many."""
    result = await session.execute(
        text(
            """update sync_changes set state = 'planned', call_id = null
               where run_id = :run and state = 'taken'"""
        ),
        {"run": run.id},
    )
    await session.execute(
        text(
            """update audience_calls set state = 'abandoned', error = 'worker lost',
                   sent_at = coalesce(sent_at, clock_timestamp())
               where run_id = :run and state = 'taken'"""
        ),
        {"run": run.id},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]
