"""How a sync decides, as one SQL statement: the table of ``sync.md`` 3, first matching row wins.

Built once per plan from the audience's live segments and its merge-field map, then run over a set of
candidates: all addresses for a full plan, what changed for an incremental one, 500 addresses when a
call is taken or sent again, any set for a preview. The same text each time, so that what a preview
shows, what a plan stores and what is true at the moment of sending cannot differ in their rules.

Everything is keyed by ``mh``, the address hash *at Mailchimp*: a contact's own hash, unless the person
changed their address there, or its member there is spelled otherwise (``audience_aliases``). What was
recorded of a mailbox counts for each of its members, also for one that stands beside the other spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from mcsync.features.audiences.field_values import problem_code
from mcsync.features.audiences.merge_map import Field, MergeMap
from mcsync.features.segments.filters import compile_filters
from mcsync.features.sync.payload import reading_sql

# An opt-in that an import only assumed (no `consentGivenAt`, so its time is the import's own) does not
# speak for somebody who unsubscribed in person.
_EXPLICIT = """exists (
                 select from contacts c
                 join preference_events v on v.org_id = :org and v.entity_type = c.entity_type
                      and v.entity_id = c.entity_id
                 where c.org_id = :org and c.deleted_at is null
                   and c.address_hash = any(array(
                       select b.mh union all
                       select x.source_hash from audience_aliases x
                       where x.audience_id = :audience and x.member_hash = b.mh))
                   and v.status = 'opted_in' and v.applied and v.effective_at = b.given_at
                   and not (jsonb_exists(v.proof, 'line') and v.effective_at >= v.recorded_at))"""

LACKING = "unreadable_"
"""So begins the reason of a skip for want of a required field that can be read; its tag follows."""

WANTED_ACTIONS = ("add", "update", "resubscribe", "rename")
"""Actions for addresses that a segment wants; the others reduce."""

PASSED_OVER = "not d.claimed or r.place > 1 or d.action = 'skip'"
"""Whether a contact ``r`` that matches is left out; ``d``: what was decided for its address."""

WHY_PASSED_OVER = """case
           when d.suppressed then 'suppressed'
           when r.pref = 'opted_out' then 'opted_out'
           when d.e = 'out' then 'address_opted_out'
           when not d.claimed and r.pref = 'unset' then 'not_opted_in'
           when not d.claimed then 'address_not_opted_in'
           when r.place > 1 then 'shared_address'
           else d.reason end"""
"""Why; ``r.place``: its turn among the contacts of its address, the one that feeds the fields first."""


@dataclass(frozen=True, slots=True)
class PlanSegment:
    """What a plan needs to know of one live segment of the audience."""

    id: UUID
    name: str
    segment_type: str
    filters: Mapping[str, Any]
    legal_basis: str
    on_leave: str
    opt_in: str


@dataclass(frozen=True, slots=True)
class PlanScope:
    """One segment's plan in one audience.

    ``merge_fields``: the audience's, by their tags as Mailchimp spells them.
    ``others``: the audience's other live segments. ``leave``: plan all claims as left (the segment was
    deleted, or moved to another audience, with ``leave: true``).
    """

    org_id: UUID
    audience_id: UUID
    segment: PlanSegment
    others: Sequence[PlanSegment]
    merge_map: MergeMap
    merge_fields: Mapping[str, Field]
    now: datetime
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The statement's text (a ``with`` list that ends in the relation ``decided``) and its values."""

    ctes: str
    params: dict[str, Any] = field(default_factory=dict)


def problems(scope: PlanScope) -> dict[str, str]:
    """By tag, the problem that a value has which its field does not take."""
    return {
        tag: problem_code(scope.merge_fields.get(tag) or Field(tag, tag, "text"))
        for tag in scope.merge_map
    }


def _flag(conditions: Sequence[str]) -> str:
    return "(" + " or ".join(conditions) + ")" if conditions else "false"


def _matching(scope: PlanScope) -> tuple[dict[str, str], dict[str, Any]]:
    """Per contact: which kinds of live segment match it, whatever its consent."""
    own = compile_filters(scope.segment.segment_type, scope.segment.filters, prefix="s0")
    params = dict(own.params)
    own_sql = "false" if scope.leave else own.sql
    by_basis: dict[tuple[str, bool], list[str]] = {}
    double: dict[str, list[str]] = {"consent": [], "legitimate_interest": []}
    if not scope.leave:
        by_basis.setdefault((scope.segment.legal_basis, True), []).append(own_sql)
        if scope.segment.opt_in == "double":
            double[scope.segment.legal_basis].append(own_sql)
    for number, other in enumerate(scope.others, start=1):
        compiled = compile_filters(other.segment_type, other.filters, prefix=f"s{number}")
        params |= compiled.params
        by_basis.setdefault((other.legal_basis, False), []).append(compiled.sql)
        if other.opt_in == "double":
            double[other.legal_basis].append(compiled.sql)
    flags = {
        "m0": own_sql,
        # other live segments, by what they need: consent, or only no withdrawal
        "oc": _flag(by_basis.get(("consent", False), [])),
        "ol": _flag(by_basis.get(("legitimate_interest", False), [])),
        # any live segment, likewise: whose contact may feed the fields
        "ac": _flag(by_basis.get(("consent", True), []) + by_basis.get(("consent", False), [])),
        "al": _flag(
            by_basis.get(("legitimate_interest", True), [])
            + by_basis.get(("legitimate_interest", False), [])
        ),
        "dc": _flag(double["consent"]),
        "dl": _flag(double["legitimate_interest"]),
    }
    return flags, params


_CONSENT = """
src as (  -- our own hashes behind each member hash
    select k.mh, k.mh as sh from cand k
    where not exists (select from audience_aliases x
                      where x.audience_id = :audience and x.source_hash = k.mh)
    union all
    select k.mh, x.source_hash from cand k
    join audience_aliases x on x.audience_id = :audience and x.member_hash = k.mh
),
beside as materialized (  -- the mailbox behind each member that is spelled otherwise, alias or not
    select k.mh, m.mailbox_hash as box from cand k {respelled}
    union
    select k.mh, k.mh from cand k
    join audience_aliases x on x.audience_id = :audience and x.source_hash = k.mh and x.spelling
),
address_state as materialized (  -- what is recorded of the address itself, whoever holds it now, and
    -- also where it stands for another: who moved at Mailchimp may have signed up with it once more
    select s.mh,
           bool_or(a.withdrawn_at is not null
                   and (a.given_at is null or a.given_at <= a.withdrawn_at)) as withdrawn,
           max(a.withdrawn_at) as withdrawn_at,
           max(a.given_at) as given_at,
           (array_agg(a.withdrawn_source order by a.withdrawn_at desc nulls last))[1]
               as withdrawn_source
    from (select mh, sh from src union select mh, mh from cand union select mh, box from beside) s
    {address_consents}
    group by s.mh
)
"""


# Materialised steps: inlined into each other, the nested expressions would be planned some forty times.
_PEOPLE = """
people as materialized (  -- every living contact with the address
    select s.mh, c.id, c.email, c.updated_at, c.address_key,
           coalesce(p.status, 'unset') as pref, p.consent_given_at, p.consent_withdrawn_at,
           {m0} as m0, {oc} as oc, {ol} as ol, {ac} as ac, {al} as al, {dc} as dc, {dl} as dl
    from src s
    {contacts}
    {email_preferences}
),
summed as materialized (
    select mh,
           bool_or(pref = 'opted_out') as any_out,
           bool_and(pref = 'opted_in') as all_in,
           max(consent_given_at) filter (where pref = 'opted_in') as given_at,
           max(consent_withdrawn_at) as withdrawn_at,
           bool_or(m0) as m0, bool_or(oc) as oc, bool_or(ol) as ol,
           bool_or(dc) as dc, bool_or(dl) as dl,
           (array_agg(id order by updated_at desc, id) filter (where ac or al))[1] as feeds_in,
           (array_agg(id order by updated_at desc, id) filter (where al))[1] as feeds_unset,
           (array_agg(id order by updated_at desc, id))[1] as holder,
           min(email) as any_email,
           bool_or(exists (select from suppressions u where u.org_id = :org and u.kind = 'address'
                           and u.key = people.address_key and u.lifted_at is null)) as suppressed
    from people group by mh
),
beside_out as materialized (  -- a contact of the mailbox has withdrawn: for its other member too
    select distinct s.mh from (select mh, box as sh from beside) s
    {contacts}
    {email_preferences}
    where p.status = 'opted_out'
),
facts as (
    select k.mh,
           case when coalesce(s.any_out, false) or coalesce(a.withdrawn, false) or o.mh is not null
                then 'out'
                when coalesce(s.all_in, false) then 'in' else 'unset' end as e,
           coalesce(s.suppressed, false) as suppressed,
           coalesce(s.m0, false) as m0,
           s.oc, s.ol, s.dc, s.dl, s.feeds_in, s.feeds_unset, s.holder, s.any_email, a.withdrawn_source,
           greatest(s.given_at, a.given_at) as given_at,
           greatest(s.withdrawn_at, a.withdrawn_at) as withdrawn_at
    from cand k left join summed s using (mh) left join address_state a using (mh)
    left join beside_out o using (mh)
),
claims as materialized (
    select f.*,
           not suppressed and m0 and (e = 'in' or (e = 'unset' and :own_legitimate)) as claimed,
           not suppressed and coalesce((oc and e = 'in') or (ol and e <> 'out'), false) as other,
           coalesce((dc and e = 'in') or (dl and e <> 'out'), false) as double_opt_in,
           case e when 'in' then feeds_in when 'unset' then feeds_unset end as feeder
    from facts f
),
kept as materialized (  -- left another segment that keeps its members, since we last looked
    select distinct h.address_hash as mh
    from sync_runs r
    join contact_segments g on g.id = r.segment_id and g.on_leave = 'keep'
         and g.soft_deleted_at is null
    join sync_changes h on h.run_id = r.id and h.action = 'untag' and h.reason = 'left' and h.untagged
    where r.audience_id = :audience and r.segment_id <> :segment
      and r.started_at > (select last_synced_at from contact_segments where id = :segment)
),
joined as (
    select c.*,
           case when m.spelled_domain is null then w.email  -- else as the member is spelled there
                else regexp_replace(w.email, '[^@]*$', m.spelled_domain) end as contact_email,
           case when m.spelled_domain is null then c.any_email
                -- the member that does not stand for its mailbox is known by whoever has the mailbox
                else regexp_replace(coalesce(c.any_email, case when m.mailbox_hash is not null then (
                         select min(v.email) from contacts v
                         where v.org_id = :org and v.address_hash = m.mailbox_hash) end),
                     '[^@]*$', m.spelled_domain) end as anybodys_email,
           {reading} as reading,
           coalesce(m.status, 'absent') as status, m.owned, m.email as member_email,
           m.unsubscribed_by, m.unsubscribe_cause, m.archived_by_us, m.pending_added_at,
           m.asked_again_at, m.requested_at, m.resubscribed_at, m.last_changed, m.payload_hash as pushed_hash,
           m.payload_tags, m.contact_id as mc_contact_id,
           coalesce(m.hold_until > :now, false) as held,
           t.address_hash is not null as tagged,
           x.email as alias_email,
           r.code as refusal, r.payload_hash as refused_hash, r.next_try_at,
           r.last_seen_at as refused_at
    from claims c
    left join contacts w on w.id = c.feeder
    {audience_members}
    {segment_members}
    {audience_refusals}
    left join lateral (
        select email from audience_aliases x
        where x.audience_id = :audience and x.member_hash = c.mh limit 1) x on true
    offset 0  -- each value is read once, however often what comes of it is named below
),
sendable as (  -- a value that its field does not take is not sent: Mailchimp keeps what it has
    select j.*, jsonb_strip_nulls(reading) as payload,
           case when jsonb_path_exists(reading, '$.* ? (@ == null)') then array(
               select key from jsonb_each(reading) where value = 'null' order by key) end as unreadable
    from joined j offset 0
),
weighed as (
    select j.*, case when claimed then md5(payload::text)::uuid end as payload_hash,
           tagged and not claimed and e <> 'out' as has_left,
           -- the mildest rule among the live segments whose tag it carried, whichever ran first
           case when tagged and not claimed and not other then (
               select (array['keep', 'archive', 'unsubscribe'])[1 + min(
                   case l.on_leave when 'keep' then 0 when 'archive' then 1 else 2 end)]
               from (select cast(:on_leave as text) as on_leave
                     union all
                     select g.on_leave from segment_members o
                     join contact_segments g on g.id = o.segment_id and g.soft_deleted_at is null
                     where o.audience_id = :audience and o.address_hash = j.mh
                       and o.segment_id <> :segment
                     union all
                     select 'keep' from kept where kept.mh = j.mh) l) end as leaving
    from sendable j
),
blocked as materialized (
    select w.*,
           claimed and refusal is not null and not (
               case
                   -- only the person can come back from these; the member would then be seen
                   when refusal in ('forgotten', 'fake', 'invalid_address', 'cleaned') then
                       status not in ('absent', 'archived')
                   when refusal in ('compliance', 'unsubscribed') then
                       coalesce(given_at > refused_at, false) or status in ('subscribed', 'pending')
                   when refusal = 'rename_refused' then true
                   else coalesce(next_try_at <= :now, false)
                        or payload_hash is distinct from refused_hash
               end) as refused
    from weighed w
),
ruled as materialized (
    select b.*, case
        when suppressed then null                                                       -- row 1
        when e = 'out' and status = 'pending' and requested_at > withdrawn_at
             then null  -- asked to come back since, and is being asked to confirm it: row 3
        when e = 'out' and status in ('subscribed', 'pending') then 'unsubscribe'       -- row 2
        when e = 'out' then null                                                        -- row 3
        when has_left and other then 'untag'                                            -- row 5
        when has_left and status = 'subscribed' and owned and leaving = 'archive'
            then 'archive'                                                              -- row 6
        when has_left and status in ('subscribed', 'pending') and owned and leaving <> 'keep'
            then 'unsubscribe'                                                          -- rows 6, 7
        when has_left then 'untag'                                                      -- row 8
        when not claimed then null
        -- Mailchimp posted that the person left, and nobody has read the member since
        when held and (status not in ('subscribed', 'pending') or not tagged
                       or payload_hash is distinct from pushed_hash) then 'skip'
        when refused then 'skip'                                                        -- row 19
        when status = 'absent' and pending_added_at is not null
             and not coalesce(given_at > pending_added_at, false) then 'skip'           -- row 10
        when status = 'absent' then 'add'                                               -- row 9
        when status in ('subscribed', 'pending')
             then case when payload_hash is distinct from pushed_hash or not tagged
                       then 'update' end                                                -- rows 11, 12
        when status = 'unsubscribed' and unsubscribed_by = 'us' and unsubscribe_cause = 'withdrawal'
             then case when given_at > withdrawn_at then 'resubscribe' else 'skip' end  -- row 13
        when status = 'unsubscribed' and unsubscribed_by = 'us' and unsubscribe_cause = 'lapsed'
             then case when given_at > last_changed then 'resubscribe' else 'skip' end  -- row 10
        when status = 'unsubscribed' and unsubscribed_by = 'us' then 'resubscribe'      -- row 14
        when status = 'unsubscribed' and unsubscribed_by = 'person'
             and given_at > coalesce(withdrawn_at, last_changed)
             -- a withdrawal that did not come from there says nothing of when they left there
             and (withdrawn_source = 'mailchimp' or given_at > last_changed)
             and (asked_again_at is null or asked_again_at < given_at)
             and {explicit}
             then 'resubscribe'                                                         -- row 15
        when status in ('unsubscribed', 'cleaned') then 'skip'                          -- row 16
        when status = 'archived' and archived_by_us
             and (withdrawn_at is null or withdrawn_at <= last_changed or given_at > withdrawn_at)
             then 'add'                                                                 -- row 17
        when status = 'archived' then 'skip'
        when status = 'transactional' and e = 'in' then 'resubscribe'                   -- row 18
        when status = 'transactional' then 'skip'
        else 'skip'                                                                     -- row 20
    end as ruling
    from blocked b
),
renamed as materialized (  -- row 4: the feeder's last address here is free, and may simply be renamed
    select r.*, o.address_hash as old_hash, coalesce(o.held, false) as old_held,
           -- who is not there yet cannot be added without a field that Mailchimp requires
           case when r.ruling = 'add' and r.status = 'absent' and o.address_hash is null then (
               select min(tag) from unnest(r.unreadable) tag
               where tag = any(cast(:required as text[]))) end as lacking
    from ruled r
    left join lateral (
        select m.address_hash, coalesce(m.hold_until > :now, false) as held
        from (  -- by its feeder and nothing else: while there are no statistics, the planner would
                -- rather walk all subscribed members for each row
              select * from audience_members f
              where f.audience_id = :audience and f.fed_by = r.feeder offset 0) m
        where r.ruling = 'add' and r.status = 'absent' and not r.double_opt_in
          and m.address_hash <> r.mh and m.status = 'subscribed' and m.owned
          -- nobody else's: neither under this address nor under one that stands for it here
          and not exists (
              select from (select m.address_hash as h union all
                           select m.mailbox_hash union all
                           select x.source_hash from audience_aliases x
                           where x.audience_id = :audience and x.member_hash = m.address_hash) own
              where exists (select from contacts n where n.org_id = :org and n.deleted_at is null
                            and n.address_hash = own.h)
                 or exists (select from address_consents g where g.org_id = :org
                            and g.address_hash = own.h and g.withdrawn_at is not null
                            and (g.given_at is null or g.given_at <= g.withdrawn_at)))
          and not exists (select from audience_refusals f where f.audience_id = :audience
                          and f.address_hash = m.address_hash and f.code = 'rename_refused')
        limit 1) o on true
),
decided as (
    select mh, e, m0, claimed, suppressed, feeder, holder, tagged, status, payload, payload_hash, payload_tags, owned,
           unreadable,
           given_at, refusal, old_hash, double_opt_in,
           case when old_held or lacking is not null then 'skip'
                when old_hash is not null then 'rename'
                else ruling end as action,
           -- row 2: only where it also no longer matches; all that left: always
           case when ruling = 'unsubscribe' and e = 'out' then tagged and not m0
                else has_left end as untag,
           coalesce(alias_email, case when claimed then contact_email end, member_email, anybodys_email)
               as email,
           case
               when old_held or (held and ruling = 'skip') then 'awaiting_read'
               when old_hash is not null then 'address_changed'
               when lacking is not null then 'unreadable_' || lacking
               when ruling = 'unsubscribe' and e = 'out' then
                   case when resubscribed_at > withdrawn_at then 'resubscribed_by_others'
                        else 'withdrawn' end
               when has_left and other then 'left_still_claimed'
               when has_left then 'left'
               when ruling = 'add' and status = 'archived' then 'back'
               when ruling = 'add' then 'new'
               when ruling = 'update' then
                   case when payload_hash is not distinct from pushed_hash then 'tag' else 'fields' end
               when ruling = 'resubscribe' then
                   case when status = 'transactional' then 'transactional_opted_in'
                        when unsubscribed_by = 'person' then 'ask_again'
                        when unsubscribe_cause in ('withdrawal', 'lapsed')
                             then 'consent_given_again'
                        else 'back' end
               when ruling = 'skip' then case
                   when refused and refusal = 'throttled' then 'throttled'
                   when refused then 'refused_' || refusal
                   when status = 'absent' or unsubscribe_cause = 'lapsed' then 'unconfirmed'
                   when status = 'unsubscribed' and unsubscribed_by = 'person'
                        and asked_again_at >= given_at then 'asked_again'
                   when status = 'unsubscribed' and unsubscribed_by = 'person'
                        then 'unsubscribed_by_person'
                   when status = 'unsubscribed' and unsubscribed_by = 'us' then 'withdrawn'
                   when status = 'unsubscribed' then 'unsubscribed_by_others'
                   when status in ('cleaned', 'archived', 'transactional') then status
                   else 'undecided' end
           end as reason,
           -- the status an add or resubscribe asks for
           case when double_opt_in or (ruling = 'resubscribe' and
                     (status = 'transactional' or unsubscribed_by = 'person'))
                then 'pending' else 'subscribed' end as wanted_status
    from renamed
)
"""


_JOINS = {
    "address_consents": ("join", "a", "a.org_id = :org and a.address_hash = s.sh"),
    "contacts": (
        "join", "c", "c.org_id = :org and c.address_hash = s.sh and c.deleted_at is null",
    ),
    "email_preferences": (
        "left join", "p",
        "p.org_id = c.org_id and p.entity_type = c.entity_type and p.entity_id = c.entity_id",
    ),
    "respelled": (
        "join", "m",
        "m.audience_id = :audience and m.address_hash = k.mh and m.mailbox_hash is not null",
    ),
    "audience_members": (
        "left join", "m", "m.audience_id = :audience and m.address_hash = c.mh",
    ),
    "segment_members": (
        "left join", "t",
        "t.segment_id = :segment and t.audience_id = :audience and t.address_hash = c.mh",
    ),
    "audience_refusals": (
        "left join", "r", "r.audience_id = :audience and r.address_hash = c.mh",
    ),
}  # fmt: skip


def _joins(by_key: bool) -> dict[str, str]:
    """The joins to the big tables.

    ``by_key``: one look-up by the whole key for each row, which is right for a few hundred. Left to
    itself the planner may read an organisation's or a segment's whole part of a table for every row,
    as long as its statistics do not know yet how large that part has become.
    """
    joins = {}
    for name, (kind, a, on) in _JOINS.items():
        table = "audience_members" if name == "respelled" else name
        joins[name] = (
            f"{kind} lateral (select * from {table} {a} where {on} offset 0) {a} on true"
            if by_key
            else f"{kind} {table} {a} on {on}"
        )
    return joins


def consent_ctes(*, by_key: bool) -> str:
    """Relations from ``cand (mh uuid)`` to the recorded state of each address."""
    return _CONSENT.format(**_joins(by_key))


def build(scope: PlanScope, *, by_key: bool = False) -> Decision:
    """The decision for one segment in one audience, over a relation ``cand (mh uuid)``.

    Put ``with cand as (...),`` (or have a table of that name and put ``with``) before ``ctes``; read
    from ``decided``, and from ``people`` and ``claims`` for the contacts behind it. An ``action`` of
    null means: nothing to do. ``by_key``: for a few hundred candidates.
    """
    flags, params = _matching(scope)
    reading, reading_params = reading_sql(scope.merge_map, scope.merge_fields, alias="w")
    params |= reading_params
    params |= {
        "org": scope.org_id,
        "audience": scope.audience_id,
        "segment": scope.segment.id,
        "own_legitimate": scope.segment.legal_basis == "legitimate_interest",
        "on_leave": scope.segment.on_leave,
        "now": scope.now,
        "required": [tag for tag, field in scope.merge_fields.items() if field.required],
    }
    joins = _joins(by_key)
    people = _PEOPLE.format(**flags, **joins, reading=reading, explicit=_EXPLICIT)
    ctes = _CONSENT.format(**joins) + "," + people
    return Decision(ctes, params)
