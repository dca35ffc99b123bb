"""The tables of tracked campaigns: how they stand, how they stood, and when they are looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScoped, OrgScopedRow, Timestamped, org_key


class Figures:
    """What became of a campaign. Rates are fractions 0-1.

    ``proxy_excluded_*`` leave out what mail clients fetch for privacy; null where Mailchimp does not tell.
    """

    emails_sent: Mapped[int] = mapped_column(server_default="0", sort_order=30)
    opens: Mapped[int] = mapped_column(server_default="0", sort_order=31)
    unique_opens: Mapped[int] = mapped_column(server_default="0", sort_order=32)
    open_rate: Mapped[float] = mapped_column(server_default="0", sort_order=33)
    proxy_excluded_opens: Mapped[int | None] = mapped_column(sort_order=34)
    proxy_excluded_unique_opens: Mapped[int | None] = mapped_column(sort_order=35)
    proxy_excluded_open_rate: Mapped[float | None] = mapped_column(sort_order=36)
    clicks: Mapped[int] = mapped_column(server_default="0", sort_order=37)
    unique_clicks: Mapped[int] = mapped_column(server_default="0", sort_order=38)
    subscriber_clicks: Mapped[int] = mapped_column(server_default="0", sort_order=39)
    click_rate: Mapped[float] = mapped_column(server_default="0", sort_order=40)
    hard_bounces: Mapped[int] = mapped_column(server_default="0", sort_order=41)
    soft_bounces: Mapped[int] = mapped_column(server_default="0", sort_order=42)
    syntax_errors: Mapped[int] = mapped_column(server_default="0", sort_order=43)
    unsubscribed: Mapped[int] = mapped_column(server_default="0", sort_order=44)
    abuse_reports: Mapped[int] = mapped_column(server_default="0", sort_order=45)


class Campaign(Identified, OrgScoped, Figures, Timestamped, Base):
    """A campaign of one Mailchimp account that is, or was, tracked.

    ``summary``: the list's short figures as of the report that was read last; another one there asks for
    the report again. ``settled_at``: nothing is expected to move any more. ``gone_at``: Mailchimp has no
    such campaign any more. ``untracked_at``: kept so that it is not tracked again by itself.
    """

    __tablename__ = "campaign_tracking"

    account_id: Mapped[str]
    campaign_id: Mapped[str]
    web_id: Mapped[int | None] = mapped_column(BigInteger)
    list_id: Mapped[str]
    title: Mapped[str]
    subject: Mapped[str]
    type: Mapped[str]
    status: Mapped[str]
    create_time: Mapped[datetime | None]
    send_time: Mapped[datetime | None]
    last_open_at: Mapped[datetime | None]
    last_click_at: Mapped[datetime | None]
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    tracked_by: Mapped[str]
    gone_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    untracked_at: Mapped[datetime | None]
    refreshed_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_campaign_tracking", "org_id", "account_id", "campaign_id", unique=True),
        Index(
            "ix_campaign_tracking_live",
            "org_id",
            "account_id",
            postgresql_where=text(
                "settled_at is null and gone_at is null and untracked_at is null"
            ),
        ),
    )


class Point(OrgScopedRow, Figures, Base):
    """A campaign's figures from one moment on, until its next point."""

    __tablename__ = "campaign_points"

    tracking_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    status: Mapped[str]


class Refresh(OrgScoped, Base):
    """An organisation's next round over its campaigns; ``next_attempt_at`` null: none is due.

    ``due_at`` is the six-hourly tick it serves. A round is held by a lease and fenced by ``epoch``.
    """

    __tablename__ = "campaign_refreshes"

    org_id: Mapped[UUID] = org_key()
    due_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    epoch: Mapped[int] = mapped_column(server_default="0")
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    calls: Mapped[int] = mapped_column(server_default="0")
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(
            "ix_campaign_refreshes_due",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at is not null"),
        ),
    )
