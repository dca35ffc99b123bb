"""The audiences' tables: the mirror, what Mailchimp refused, and the orders on their way.

Everything here belongs to (Mailchimp account, list) and survives a disconnect.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Index, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import (
    CURRENT_XID,
    Base,
    ChangeTracked,
    Identified,
    OrgScoped,
    OrgScopedRow,
    Timestamped,
)


class Audience(Identified, OrgScoped, Timestamped, Base):
    """A Mailchimp list of one account, as we mirror it.

    ``high_water``: up to where everything that changed was read (decision 15); null asks for a full
    pull. ``full_pull_from``, ``full_pull_to``: when the full pull that is under way began, and up to which
    change it has come. ``definition_xid`` moves when any segment of the audience or its merge-field map
    changes, so that the next plan looks at every address again. ``requires_status``: the account refuses
    rows without ``status`` (before 2026). ``marketing_permissions``: the GDPR texts as a member last showed
    them; ``permission_map``: which of them our consents feed (``permissions.py``).
    """

    __tablename__ = "audiences"

    account_id: Mapped[str]
    list_id: Mapped[str]
    name: Mapped[str]
    double_optin: Mapped[bool] = mapped_column(server_default="false")
    stats: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    merge_fields: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    merge_fields_at: Mapped[datetime | None]
    merge_field_map: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    marketing_permissions: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    permission_map: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    requires_status: Mapped[bool] = mapped_column(server_default="false")
    high_water: Mapped[datetime | None]
    full_pull_at: Mapped[datetime | None]
    full_pull_from: Mapped[datetime | None]
    full_pull_to: Mapped[datetime | None]
    gone_at: Mapped[datetime | None]
    definition_xid: Mapped[int] = mapped_column(BigInteger, server_default=text(CURRENT_XID))

    __table_args__ = (Index("uq_audiences_list", "org_id", "account_id", "list_id", unique=True),)


class Member(OrgScopedRow, ChangeTracked, Base):
    """The mirror: one address in one audience at Mailchimp.

    ``status`` is Mailchimp's, or ``absent``. ``email`` only where one of our contacts has the address.
    ``owned``: a segment's run planned it as absent and added it (``intent_at``: committed before the
    call). ``unsubscribed_by``: ``us``, ``person`` or ``others``; ``unsubscribe_cause``: ``withdrawal`` or
    ``left``. ``archived_by_us``: archived by our call while subscribed. ``pending_added_at``: added by us
    as pending and not seen subscribed since. ``asked_again_at``: the opt-in (its ``given_at``) for which
    a confirmation was last asked of a person who had unsubscribed. ``payload_hash``, ``payload_tags``: the
    merge fields Mailchimp last accepted, and those of them that were not empty. ``unreadable``: tags of fields that were left out of them,
    because Mailchimp does not take the contact's value. ``fed_by``: the contact
    whose fields they were. ``hold_until``: Mailchimp posted that this person left, and the member was not
    read since; until then nothing is sent that adds or changes it. ``requested_at``: the person (a form
    post, or an operator for them) asked to be subscribed and Mailchimp asks for confirmation; its coming
    is their opt-in. ``address_hash`` is Mailchimp's, of the spelling that it has; ``mailbox_hash``: that of
    the mailbox, by which our other tables know the address, where it is another; ``spelled_domain``: the
    domain as it is spelled there, where it has two spellings. ``permissions_pushed``: the marketing permissions that we ticked, or tried to, since
    we last added or resubscribed the member; none of them is ticked twice.
    """

    __tablename__ = "audience_members"

    audience_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    contact_id: Mapped[str | None]
    status: Mapped[str]
    last_changed: Mapped[datetime | None]
    timestamp_opt: Mapped[datetime | None]
    timestamp_signup: Mapped[datetime | None]
    unsubscribe_reason: Mapped[str | None]
    source: Mapped[str | None]
    owned: Mapped[bool] = mapped_column(server_default="false")
    intent_at: Mapped[datetime | None]
    unsubscribed_by: Mapped[str | None]
    unsubscribe_cause: Mapped[str | None]
    unsubscribe_intent: Mapped[str | None]
    unsubscribe_intent_at: Mapped[datetime | None]
    archive_intent_at: Mapped[datetime | None]
    archived_by_us: Mapped[bool] = mapped_column(server_default="false")
    resubscribed_at: Mapped[datetime | None]
    pending_added_at: Mapped[datetime | None]
    asked_again_at: Mapped[datetime | None]
    requested_at: Mapped[datetime | None]
    payload_hash: Mapped[UUID | None]
    payload_tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    unreadable: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    fed_by: Mapped[UUID | None]
    permissions_pushed: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    pushed_at: Mapped[datetime | None]
    pulled_in: Mapped[int | None] = mapped_column(BigInteger)
    hold_until: Mapped[datetime | None]
    mailbox_hash: Mapped[UUID | None]
    spelled_domain: Mapped[str | None]

    __table_args__ = (
        # For counting. As part of its key, a status that most members have would make the index look as
        # good as the primary key for finding one of them.
        Index("ix_audience_members_status", "audience_id", postgresql_include=["status"]),
        Index("ix_audience_members_contact", "audience_id", "contact_id"),
        Index("ix_audience_members_changed", "audience_id", "changed_xid"),
        Index("ix_audience_members_fed_by", "audience_id", "fed_by"),
        Index(
            "ix_audience_members_unreadable",
            "audience_id",
            "address_hash",
            postgresql_where=text("unreadable is not null"),
        ),
        Index(
            "ix_audience_members_held",
            "audience_id",
            "address_hash",
            postgresql_where=text("hold_until is not null"),
        ),
        Index(
            "ix_audience_members_requested",
            "audience_id",
            "address_hash",
            postgresql_where=text("requested_at is not null"),
        ),
        Index(
            "ix_audience_members_mailbox",
            "audience_id",
            "mailbox_hash",
            postgresql_where=text("mailbox_hash is not null"),
        ),
    )


class Alias(OrgScopedRow, Base):
    """Our ``source_hash`` is ``member_hash`` at Mailchimp.

    A person changed their address there; or (``spelling``) it is the same mailbox, and its member there is
    or will be spelled otherwise than its hash here (see ``spellings.py``).
    """

    __tablename__ = "audience_aliases"

    audience_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_hash: Mapped[UUID] = mapped_column(primary_key=True)
    member_hash: Mapped[UUID]
    email: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    spelling: Mapped[bool] = mapped_column(server_default="false")

    __table_args__ = (Index("ix_audience_aliases_member", "audience_id", "member_hash"),)


class Refusal(OrgScopedRow, ChangeTracked, Base):
    """What Mailchimp last refused for an address. ``next_try_at`` null: not before something changes."""

    __tablename__ = "audience_refusals"

    audience_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str]
    message: Mapped[str]
    field: Mapped[str | None]
    payload_hash: Mapped[UUID | None]
    attempts: Mapped[int] = mapped_column(server_default="1")
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    next_try_at: Mapped[datetime | None]


class Order(Identified, OrgScopedRow, Base):
    """A withdrawal (or, later, an erasure) on its way to one member of one audience.

    Durable and of its own: no run, guard or crash delays it. Closed once the member was answered or read
    as neither subscribed nor pending, after every call that was taken before it and carries the address.
    """

    __tablename__ = "audience_orders"

    audience_id: Mapped[UUID] = mapped_column()
    address_hash: Mapped[UUID]
    email: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="open")
    outcome: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answered_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_audience_orders_open",
            "audience_id",
            "address_hash",
            "kind",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
        Index(
            "ix_audience_orders_due", "next_attempt_at", postgresql_where=text("status = 'open'")
        ),
    )


class Call(Identified, OrgScopedRow, Base):
    """One write call to Mailchimp that could subscribe, change or remove members, from before it is sent.

    An order closes only after the calls taken before it that carry its address are ``answered``, or
    120 s after they were sent: Mailchimp may still be working on a call whose sender died.
    """

    __tablename__ = "audience_calls"

    audience_id: Mapped[UUID] = mapped_column()
    run_id: Mapped[UUID | None]
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="taken")
    epoch: Mapped[int] = mapped_column(server_default="0")
    addresses: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    taken_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    error: Mapped[str | None]

    __table_args__ = (
        Index(
            "ix_audience_calls_open", "audience_id", postgresql_where=text("state <> 'answered'")
        ),
        Index("ix_audience_calls_run", "run_id"),
    )
