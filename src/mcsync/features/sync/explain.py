"""Why is this person in or out of each audience? One answer from everything that is recorded.

Decides nothing itself: what the next sync would do is asked of the statement that syncs decide with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import org_of
from mcsync.core.errors import BadRequestError, NotFoundError
from mcsync.core.resources import Resources
from mcsync.features.audiences.refusals import refusals_of
from mcsync.features.audiences.spellings import RANK, settle_boxes
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.refusals import RefusalView
from mcsync.features.preferences import service as preferences
from mcsync.features.sync import context, decide
from mcsync.features.sync import explain_words as words
from mcsync.features.sync.explain_schemas import (
    ExplainedAudience,
    ExplainedContact,
    ExplainedMember,
    ExplainedSegment,
    Explanation,
    LastPush,
    OpenOrder,
)
from mcsync.features.sync.schemas import UnreadableField

Found = Mapping[str, Any]

_CONTACT = """
select email, address_hash from contacts
where org_id = :org and entity_type = :entity_type and entity_id = :entity_id
"""

# Those who have the address, also under one that stands for it at Mailchimp, and those who had it.
_CONTACTS = """
with behind as (
    select c.id from contacts c where c.org_id = :org and c.address_hash = :hash
    union
    select c.id from audience_aliases x join contacts c on c.org_id = :org
         and c.address_hash = x.source_hash
    where x.org_id = :org and x.member_hash = :hash
    union
    select f.contact_id from contact_addresses f where f.org_id = :org and f.address_hash = :hash
    union
    select c.id from contacts c
    where c.org_id = :org and c.entity_type = :entity_type and c.entity_id = :entity_id
)
select c.entity_type, c.entity_id, c.email, c.deleted_at as left_at,
       coalesce(c.address_hash = :hash or exists (
           select from audience_aliases x
           where x.org_id = :org and x.source_hash = c.address_hash and x.member_hash = :hash),
           false) as has_address,
       coalesce(p.status, 'unset') as status, p.consent_given_at, p.consent_withdrawn_at, p.source
from behind join contacts c using (id)
left join email_preferences p on p.org_id = c.org_id and p.entity_type = c.entity_type
     and p.entity_id = c.entity_id
order by has_address desc, c.deleted_at is not null, c.entity_type, c.entity_id
limit 50
"""

_SUPPRESSED = """
select min(created_at) from suppressions
where org_id = :org and lifted_at is null
  and ((kind = 'address' and key = cast(:address_key as uuid))
       or (kind = 'entity' and key = cast(:entity_key as uuid)))
"""

_AUDIENCES = f"""
select a.id, a.list_id, a.name, a.gone_at, a.high_water, a.full_pull_at,
       coalesce(x.member_hash, b.address_hash, cast(:hash as uuid)) as mh, x.email as alias_email,
       exists (select from mailchimp_connections c
               where c.account_id = a.account_id and c.soft_deleted_at is null) as connected
from audiences a
left join audience_aliases x on x.audience_id = a.id and x.source_hash = :hash
left join lateral (  -- no contact has the address: the member of its mailbox, however it is spelled
    select m.address_hash
    from (select * from audience_members where audience_id = a.id and mailbox_hash = :hash
          union all
          select * from audience_members where audience_id = a.id and address_hash = :hash) m
    order by {RANK.format("m")}, m.mailbox_hash is not null limit 1) b on true
where a.org_id = :org
order by a.name, a.list_id
"""

# With the member that has the address in the other spelling of its domain, if there is one.
_MEMBERS = """
select * from audience_members m where audience_id = :audience and address_hash = :mh
union all
select * from audience_members m
where audience_id = :audience and :hash in (address_hash, mailbox_hash) and address_hash <> :mh
  and spelled_domain is not null and status <> 'absent'
"""

_ORDERS = """
select kind, created_at, attempts, next_attempt_at, last_error from audience_orders
where audience_id = :audience and address_hash in (:mh, :hash) and status = 'open' order by created_at
"""

_PUSHES = """
select r.id as run_id, r.segment_id, h.action, h.reason, h.state, h.outcome_code, h.outcome, h.done_at
from (select id, segment_id from sync_runs
      where audience_id = :audience and not dry_run order by id desc limit 20) r
cross join lateral (
    select * from sync_changes h
    where h.run_id = r.id and (h.address_hash = :mh or h.old_hash = :mh) and h.state <> 'skipped'
    order by h.seq) h
order by r.id desc, h.seq limit 5
"""

# With the address that a contact has moved to, so that a rename from here is seen as one. Of the
# contacts behind an address the one that feeds its fields comes first, as in a plan.
_DECIDED = """
with cand as (
    select cast(:mh as uuid) as mh
    union
    select coalesce(x.member_hash, c.address_hash) from audience_members m
    join contacts c on c.id = m.fed_by and c.address_hash is not null
    left join audience_aliases x on x.audience_id = m.audience_id and x.source_hash = c.address_hash
    where m.audience_id = :audience and m.address_hash = :mh
), {ctes},
placed as (
    select p.id, p.mh, p.pref, row_number() over (
        partition by p.mh order by (p.id = f.feeder) desc, p.updated_at desc, p.id) as place
    from people p join decided f using (mh) where p.m0
)
select d.m0, d.claimed, d.suppressed, d.e, d.status, d.owned, d.tagged, d.action, d.reason,
       d.wanted_status, d.unreadable,
       (select n.email from decided n where n.old_hash = d.mh limit 1) as renamed_to,
       case when {passed_over} then {why} end as why
from decided d
left join placed r on r.mh = d.mh and r.place = 1
where d.mh = :mh
"""


@dataclass(frozen=True, slots=True)
class _Person:
    email: str | None
    address_hash: UUID | None
    address_key: str | None
    entity_key: str | None
    entity: tuple[str, str] | None


async def explain(
    resources: Resources, actor: Actor, *, entity_type: str | None = None,
    entity_id: str | None = None, email: str | None = None,
) -> Explanation:  # fmt: skip
    """Everything that decides about one person, found by their entity or by an address.

    Reads the mirror only. Raises BadRequestError (``nothing_to_explain``, ``invalid_email``) and
    NotFoundError (``contact_not_found``) where nothing whatever is recorded.
    """
    entity = (entity_type, entity_id) if entity_type and entity_id else None
    if [entity_type, entity_id].count(None) == 1 or (entity is None) == (email is None):
        raise BadRequestError(
            "Give entityType and entityId, or email, and not both.", code="nothing_to_explain"
        )
    async with resources.db.transaction(actor.org_id) as session:
        person = await _person(resources, session, entity, email)
        contacts = await _contacts(session, person)
        suppressed = await session.scalar(
            text(_SUPPRESSED),
            {"org": actor.org_id, "address_key": person.address_key,
             "entity_key": person.entity_key},
        )  # fmt: skip
        if person.entity and not contacts and suppressed is None:
            raise _unknown()
        address = None
        told: list[ExplainedAudience] = []
        known = bool(contacts) or suppressed is not None
        if person.address_hash is not None:
            address = await preferences.address_standing(session, person.address_hash)
            known = known or address is not None
            told, seen = await _audiences(resources, session, person.address_hash)
            known = known or seen
        if not known:
            raise _unknown()
    return Explanation(
        email=person.email,
        summary=words.person_sentence(
            subscribed=[a.name for a in told if a.member and a.member.status == "subscribed"],
            audiences=len(told),
            suppressed=suppressed,
            status=address.status if address else contacts[0].status if contacts else None,
        ),
        contacts=contacts,
        address=address,
        suppressed_at=suppressed,
        audiences=told,
    )


async def _person(
    resources: Resources, session: AsyncSession, entity: tuple[str, str] | None, email: str | None
) -> _Person:
    addresses = Addresses(await resources.hash_keys.hash_key(session))
    address_hash: UUID | None = None
    if entity is not None:
        row = (
            await session.execute(
                text(_CONTACT),
                {"org": org_of(session), "entity_type": entity[0], "entity_id": entity[1]},
            )
        ).one_or_none()
        email, address_hash = (row.email, row.address_hash) if row else (None, None)
    else:
        email = addresses.usable(email or "")
        if email is None:
            raise BadRequestError("This is not an e-mail address.", code="invalid_email")
    key: str | None = None
    if email is not None:
        digest, key = addresses.hashes(email)
        address_hash = address_hash or UUID(digest)
    return _Person(
        email, address_hash, key, addresses.entity_key(*entity) if entity else None, entity
    )


async def _contacts(session: AsyncSession, person: _Person) -> list[ExplainedContact]:
    entity_type, entity_id = person.entity or (None, None)
    rows = await _rows(
        session,
        _CONTACTS,
        {"org": org_of(session), "hash": person.address_hash, "entity_type": entity_type,
         "entity_id": entity_id},
    )  # fmt: skip
    return [ExplainedContact.model_validate(row) for row in rows]


async def _audiences(
    resources: Resources, session: AsyncSession, address_hash: UUID
) -> tuple[list[ExplainedAudience], bool]:
    """Each audience of the organisation, and whether anything is known of the address in any."""
    where = {"org": org_of(session), "hash": address_hash}
    mirrored = await session.scalars(text("select id from audiences where org_id = :org"), where)
    for audience in mirrored.all():
        await settle_boxes(session, audience, [address_hash])
    audiences = await _rows(session, _AUDIENCES, where)
    refusals = {r.audience_id: r for r in await refusals_of(session, address_hash)}
    told = [
        await _audience(resources, session, row, address_hash, refusals.get(row["list_id"]))
        for row in audiences
    ]
    seen = any(
        a.member or a.refusal or a.open_orders or any(s.tagged for s in a.segments) for a in told
    )
    return told, seen


async def _audience(
    resources: Resources, session: AsyncSession, row: Found, address_hash: UUID,
    refusal: RefusalView | None,
) -> ExplainedAudience:  # fmt: skip
    there = {"audience": row["id"], "mh": row["mh"]}
    mailbox = {**there, "hash": address_hash}
    members = await _rows(session, _MEMBERS, mailbox)
    member = next((m for m in members if m["address_hash"] == row["mh"]), None)
    other = next((m for m in members if m["address_hash"] != row["mh"]), None)
    orders = await _rows(session, _ORDERS, mailbox)
    pushes = await _rows(session, _PUSHES, there)
    segments = await _segments(resources, session, row)
    mirrored = row["high_water"] and row["full_pull_at"]
    return ExplainedAudience(
        audience_id=row["list_id"],
        name=row["name"],
        connected=row["connected"],
        gone=row["gone_at"] is not None,
        mirrored_at=mirrored,
        summary=words.audience_sentence(
            member,
            [(segment.name, found) for segment, found in segments],
            refusal=f"Mailchimp said: {refusal.message} {refusal.outlook}" if refusal else None,
            open_orders=[order["kind"] for order in orders],
            gone=row["gone_at"] is not None,
            connected=row["connected"],
            mirrored=mirrored is not None,
        ),
        member=_member(member, row["alias_email"]) if member else None,
        other_member=_member(other, None) if other else None,
        refusal=refusal,
        open_orders=[OpenOrder.model_validate(order) for order in orders],
        segments=[_segment(segment, found) for segment, found in segments],
        last_pushes=[LastPush.model_validate(push) for push in pushes],
    )


async def _segments(
    resources: Resources, session: AsyncSession, audience: Found
) -> Sequence[tuple[decide.PlanSegment, Found]]:
    """What each live segment of the audience decides about the address."""
    found: list[tuple[decide.PlanSegment, Found]] = []
    for loaded in await context.load_all(session, audience["id"], now=resources.clock()):
        decision = decide.build(loaded.scope, by_key=True)
        statement = _DECIDED.format(
            ctes=decision.ctes, passed_over=decide.PASSED_OVER, why=decide.WHY_PASSED_OVER
        )
        (row,) = await _rows(session, statement, {**decision.params, "mh": audience["mh"]})
        problems = decide.problems(loaded.scope)
        row["unreadable"] = {tag: problems[tag] for tag in row["unreadable"] or ()}
        found.append((loaded.scope.segment, row))
    return found


async def _rows(
    session: AsyncSession, statement: str, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = await session.execute(text(statement), dict(params))
    return [{str(name): value for name, value in row.items()} for row in rows.mappings()]


def _segment(segment: decide.PlanSegment, found: Found) -> ExplainedSegment:
    action = None if found["renamed_to"] else found["action"]
    return ExplainedSegment(
        id=segment.id,
        name=segment.name,
        matches=found["m0"],
        wanted=found["claimed"],
        tagged=found["tagged"],
        rule=4 if found["renamed_to"] else words.rule_of(found),
        action=action,
        reason=found["reason"] if action else found["why"] if found["m0"] else None,
        unreadable_fields=[
            UnreadableField.of(tag, problem) for tag, problem in found["unreadable"].items()
        ],
        explanation=words.segment_sentence(found),
    )


def _member(member: Found, alias_email: str | None) -> ExplainedMember:
    return ExplainedMember(
        status=member["status"],
        since=member["last_changed"],
        email=alias_email or member["email"],
        owned=member["owned"],
        unsubscribed_by=member["unsubscribed_by"],
        unsubscribe_cause=member["unsubscribe_cause"],
        unsubscribe_reason=member["unsubscribe_reason"],
        archived_by_us=member["archived_by_us"],
        source=member["source"],
        pushed_at=member["pushed_at"],
    )


def _unknown() -> NotFoundError:
    return NotFoundError(
        "Nothing is recorded of this person: no contact, no consent, no member in any audience.",
        code="contact_not_found",
    )
