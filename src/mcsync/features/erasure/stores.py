"""Every place where something of a person may be kept, and how it goes: the list a receipt prints.

One entry for each store, in the order in which they are gone through: twice for each erasure, in its
request and again at the end, since calls that were under way may have written once more. A feature that
keeps personal data adds its entry here, and is then erased, exported and stated on the receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.erasure.subject import Subject


class When(StrEnum):
    """In which passes a store is gone through; all at the end."""

    AT_ONCE = "at_once"
    """In the request's own transaction."""
    SOON = "soon"
    """By the job, within seconds: too large to be searched while somebody waits."""
    AT_THE_END = "at_the_end"
    """Only at the end: until then the erasure itself needs it."""


@dataclass(frozen=True, slots=True)
class Store:
    """One store. ``erase``: statements, counted by the rows they touch (or the number they answer).

    ``held``: a select of one jsonb column, what the right of access shows. Statements may bind ``org``,
    ``erasure``, ``contact`` (our id), ``entity_type``, ``entity_id``, ``hashes`` (Mailchimp's MD5 of every
    address, uuid[]), ``keys`` (our keyed hashes of them, uuid[]) and ``words`` (lower-case texts).
    """

    name: str
    what: str
    how: str
    erase: tuple[str, ...] = ()
    held: str | None = None
    when: When = When.AT_ONCE


_HASHES: Final = "any(cast(:hashes as uuid[]))"
_KEYS: Final = "any(cast(:keys as uuid[]))"
_CONTACT: Final = "cast(:contact as uuid)"
_ENTITY: Final = "org_id = :org and entity_type = :entity_type and entity_id = :entity_id"
_THEIRS: Final = f"""(
    select unnest(cast(:keys as uuid[])) as address_key
    union select address_key from address_consents where org_id = :org and address_hash = {_HASHES})"""
"""The keys of the person's addresses, also of one that only its hash is known of."""
_HIDDEN: Final = (
    "cast('{org_id,changed_xid,address_key,address_hash,payload_hash,pulled_in}' as text[])"
)
_OTHERS: Final = """exists (select from contacts c where c.org_id = :org and c.deleted_at is null
                    and c.address_hash = {0}.address_hash)"""
"""Another living contact holds the address (the person's own contact is gone by then)."""


def _of_members(table: str, *columns: str) -> str:
    """A delete from a table that is keyed by audience and address."""
    match = " or ".join(f"t.{column} = {_HASHES}" for column in columns or ("address_hash",))
    return f"delete from {table} t using audiences a where a.org_id = :org and t.audience_id = a.id and ({match})"


def _held_by_members(table: str, *columns: str) -> str:
    match = " or ".join(f"t.{column} = {_HASHES}" for column in columns or ("address_hash",))
    return f"""select to_jsonb(t) - {_HIDDEN} || jsonb_build_object('audience', a.list_id)
               from {table} t join audiences a on a.id = t.audience_id
               where a.org_id = :org and ({match})"""


STORES: Final[tuple[Store, ...]] = (
    Store(
        "contacts",
        "The contact: id, address, names and all fields.",
        "deleted",
        (f"delete from contacts where {_ENTITY}",),
        f"select to_jsonb(contacts) - {_HIDDEN} from contacts where {_ENTITY}",
    ),
    Store(
        "contacts_left",
        "The address in contacts that have left.",
        "anonymised",
        (
            f"""update contacts set email = null, address_hash = null, address_key = null,
                    version = version + 1, updated_at = now()
             where org_id = :org and address_hash = {_HASHES} and deleted_at is not null""",
        ),
    ),
    Store(
        "former_addresses",
        "Addresses that contacts had before.",
        "deleted",
        (
            f"""delete from contact_addresses
             where contact_id = {_CONTACT} or address_hash = {_HASHES}""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} from contact_addresses t
            where contact_id = {_CONTACT} or address_hash = {_HASHES}""",
    ),
    Store(
        "preferences",
        "The consent as it stood, with its proof.",
        "deleted",
        (f"delete from email_preferences where {_ENTITY}",),
        f"select to_jsonb(email_preferences) - {_HIDDEN} from email_preferences where {_ENTITY}",
    ),
    Store(
        # what was said of an address alone is of nobody else while no other living contact has it
        "preference_history",
        "The history of consent, with its proofs.",
        "deleted",
        (
            "select mcsync_forget_history(:erasure, :entity_type, :entity_id)",
            f"""select mcsync_forget_address_history(:erasure, array(
                    select k.address_key from {_THEIRS} k
                    where not exists (
                        select from contacts c where c.org_id = :org and c.deleted_at is null
                        and c.address_hash = {_HASHES} and c.address_key = k.address_key)))""",
        ),
        f"""select to_jsonb(preference_events) - {_HIDDEN} from preference_events
            where ({_ENTITY}) or (org_id = :org and entity_id is null and address_key = any(array(
                select k.address_key from {_THEIRS} k)))
            order by id""",
    ),
    Store(
        # a withdrawal that an import repeats after it has nobody to withdraw
        "stated_opt_outs",
        "That an import said of the person to be opted out.",
        "deleted",
        (
            f"""delete from stated_opt_outs where ({_ENTITY}) or (org_id = :org and entity_type = 'address'
                and entity_id in (select cast(k.address_key as text) from {_THEIRS} k))""",
        ),
        f"""select jsonb_build_object('channel', channel) from stated_opt_outs
            where ({_ENTITY}) or (org_id = :org and entity_type = 'address'
                and entity_id in (select cast(k.address_key as text) from {_THEIRS} k))
            order by channel""",
    ),
    Store(
        # a withdrawal of the address must outlive the erasure: it stays under the keyed hash alone
        "address_consents",
        "What was said of the address; the keyed hash and times stay.",
        "anonymised",
        (
            f"""update address_consents t set address_hash = null,
                    withdrawn_source = case when withdrawn_source <> 'mailchimp' then 'erased'
                                            else withdrawn_source end,
                    given_source = case when given_source <> 'mailchimp' then 'erased'
                                        else given_source end
             where org_id = :org and (address_key = {_KEYS} or address_hash = {_HASHES})
               and (address_hash is not null or withdrawn_source not in ('mailchimp', 'erased')
                    or given_source not in ('mailchimp', 'erased'))
               and not {_OTHERS.format("t")}""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} from address_consents t
            where org_id = :org and (address_key = {_KEYS} or address_hash = {_HASHES})""",
    ),
    Store(
        "mirror",
        "The copy of the members at Mailchimp.",
        "deleted",
        (
            _of_members("audience_members"),
            f"""update audience_members t set fed_by = null from audiences a
                where a.org_id = :org and t.audience_id = a.id and t.fed_by = {_CONTACT}""",
        ),
        _held_by_members("audience_members"),
    ),
    Store(
        "aliases",
        "Addresses that were changed at Mailchimp.",
        "deleted",
        (_of_members("audience_aliases", "source_hash", "member_hash"),),
        _held_by_members("audience_aliases", "source_hash", "member_hash"),
    ),
    Store(
        "refusals",
        "What Mailchimp refused for the address, and why.",
        "deleted",
        (_of_members("audience_refusals"),),
        _held_by_members("audience_refusals"),
    ),
    Store(
        "segment_members",
        "Which segments' tags the member carries.",
        "deleted",
        (_of_members("segment_members"),),
        f"""select jsonb_build_object('segment', s.name, 'audience', a.list_id)
            from segment_members t join audiences a on a.id = t.audience_id
            join contact_segments s on s.id = t.segment_id
            where a.org_id = :org and t.address_hash = {_HASHES}""",
    ),
    Store(
        "segment_skips",
        "Why segments left the person out.",
        "deleted",
        (
            f"""delete from segment_skips
             where org_id = :org and (contact_id = {_CONTACT} or address_hash = {_HASHES})""",
        ),
        f"""select jsonb_build_object('segment', s.name, 'reason', t.reason)
            from segment_skips t join contact_segments s on s.id = t.segment_id
            where t.org_id = :org and (t.contact_id = {_CONTACT} or t.address_hash = {_HASHES})""",
    ),
    Store(
        # one that a worker holds is awaited, like a call under way
        "orders",
        "Withdrawals on their way to Mailchimp.",
        "deleted",
        (
            f"""delete from audience_orders where org_id = :org and address_hash = {_HASHES}
               and (lease_until is null or lease_until < clock_timestamp())""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} from audience_orders t
            where org_id = :org and address_hash = {_HASHES} order by id""",
    ),
    Store(
        # counts of a run stay true: rows are kept, without the person
        "sync_changes",
        "What syncs planned and did for the person.",
        "anonymised",
        (
            f"""update sync_changes set address_hash = null, old_hash = null, contact_id = null,
                    email = null, outcome = null,
                    state = case when state = 'planned' then 'dropped' else state end,
                    outcome_code = case when state in ('planned', 'held', 'taken') then 'erased'
                                        else outcome_code end
             where org_id = :org and (address_hash = {_HASHES} or old_hash = {_HASHES}
                                      or contact_id = {_CONTACT})""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} - 'old_hash' - 'call_id' from sync_changes t
            where org_id = :org and (address_hash = {_HASHES} or contact_id = {_CONTACT})
            order by run_id, seq""",
        When.SOON,
    ),
    Store(
        "webhooks",
        "What Mailchimp posted of the person.",
        "deleted",
        (
            f"""delete from webhook_events
             where org_id = :org and (address_hash = {_HASHES} or new_hash = {_HASHES})""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} - 'new_hash' - 'dedupe' from webhook_events t
            where org_id = :org and (address_hash = {_HASHES} or new_hash = {_HASHES})
            order by id""",
    ),
    Store(
        "subscription_requests",
        "Form posts and other requests to be subscribed.",
        "deleted",
        (
            f"""delete from subscription_requests
             where org_id = :org and (address_key = {_KEYS} or address_hash = {_HASHES})""",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} from subscription_requests t
            where org_id = :org and (address_key = {_KEYS} or address_hash = {_HASHES})
            order by id""",
    ),
    Store(
        # the keyed hash stays: by it a message still waiting is kept back from the person
        "transactional",
        "Single messages that were sent to the person.",
        "anonymised",
        (
            f"""update transactional_recipients set email = null, own = null
             where org_id = :org and address_key = {_KEYS}
               and (email is not null or own is not null)""",
            f"delete from transactional_events where org_id = :org and address_key = {_KEYS}",
        ),
        f"""select to_jsonb(t) - {_HIDDEN} - 'own' || jsonb_build_object('sentAt', m.submitted_at)
            from transactional_recipients t join transactional_messages m on m.id = t.message_id
            where t.org_id = :org and t.address_key = {_KEYS} order by m.id""",
    ),
    Store(
        # until the end the erasure needs them, to know which calls under way carry the address
        "calls",
        "The hash of the address in the log of calls.",
        "anonymised",
        (
            """update audience_calls set addresses = array(
                 select h from unnest(addresses) h where h <> all(cast(:hashes as uuid[])))
             where org_id = :org and addresses && cast(:hashes as uuid[])""",
        ),
        """select jsonb_build_object('audience', a.list_id, 'kind', c.kind, 'sentAt', c.sent_at,
                                     'answeredAt', c.answered_at)
           from audience_calls c join audiences a on a.id = c.audience_id
           where c.org_id = :org and c.addresses && cast(:hashes as uuid[]) order by c.id""",
        When.AT_THE_END,
    ),
    Store(
        "stored_answers",
        "Answers kept for repeated requests (Idempotency-Key).",
        "anonymised",
        (
            # who repeats the request is told that it was carried out
            """update idempotency_keys k set body = null
               where org_id = :org and body is not null and exists (
                   select from unnest(cast(:words as text[])) w
                   where position(w in lower(k.body)) > 0)""",
            """delete from idempotency_keys k
               where org_id = :org and status is not null and exists (
                   select from unnest(cast(:words as text[])) w
                   where position(trim(both '"' from w) in lower(k.key)) > 0
                     and length(w) > 5)""",
        ),
    ),
    Store(
        "lifted_suppressions",
        "The proof with which an earlier erasure was lifted.",
        "deleted",
        (
            f"""update suppressions set lift = null
             where org_id = :org and key = {_KEYS} and lift is not null""",
        ),
    ),
    Store(
        "suppressions",
        "Keyed hashes that refuse a later import.",
        "kept",
        held=f"""select jsonb_build_object('kind', kind, 'since', created_at, 'liftedAt', lifted_at,
                                      'lift', lift)
            from suppressions where org_id = :org and key = {_KEYS} order by id""",
    ),
    Store("audit", "Who did what, with our own ids only.", "kept"),
)
"""All stores. ``kept`` ones hold nothing that tells who it was, without the organisation's key."""


def _bound(subject: Subject, hash_key: bytes, session: AsyncSession) -> dict[str, Any]:
    keys = subject.address_keys(hash_key)
    if subject.kind == "entity":
        keys = [*keys, subject.key(hash_key)]
    return {
        "org": org_of(session),
        "contact": subject.contact_id,
        "entity_type": subject.entity_type,
        "entity_id": subject.entity_id,
        "hashes": subject.hashes,
        "keys": keys,
        "words": subject.words,
    }


async def scrub(
    session: AsyncSession,
    subject: Subject,
    hash_key: bytes,
    *,
    erasure_id: UUID,
    only: When | None = None,
) -> dict[str, int]:
    """Goes through the stores, those of one kind or all; answers the rows touched in each."""
    params = _bound(subject, hash_key, session) | {"erasure": erasure_id}
    return {
        store.name: sum([await _touched(session, sql, params) for sql in store.erase])
        for store in STORES
        if store.erase and only in (None, store.when)
    }


async def held(
    session: AsyncSession, subject: Subject, hash_key: bytes
) -> list[tuple[Store, list[dict[str, Any]]]]:
    """What the stores hold of a person, store by store."""
    params = _bound(subject, hash_key, session)
    found = []
    for store in STORES:
        if store.held is not None:
            rows = await session.execute(*_statement(store.held, params))
            found.append((store, list(rows.scalars())))
    return found


async def _touched(session: AsyncSession, sql: str, params: Mapping[str, Any]) -> int:
    result = await session.execute(*_statement(sql, params))
    if result.returns_rows:  # type: ignore[attr-defined]
        return int(result.scalar_one() or 0)
    return int(result.rowcount)  # type: ignore[attr-defined]


def _statement(sql: str, params: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    statement = text(sql)
    wanted = statement._bindparams  # noqa: SLF001 - the names that this text really has
    return statement, {name: params[name] for name in wanted}
