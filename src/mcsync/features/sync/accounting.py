"""What an answer says of each row, and the smaller writes around it. Pure but for the last part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.audiences.mirror import mailbox_of_member
from mcsync.features.sync.calls import Row
from mcsync.features.sync.recording import THROTTLE_FIRST, Answer, Outcome, forget_tags
from mcsync.features.sync.runs import Claimed
from mcsync.mailchimp import (
    BatchResult,
    MailchimpError,
    Member,
    RefusalCode,
    RefusedError,
    RowOutcome,
    account_rows,
    merge_tag,
    spelled_domain,
)


class StatusRequiredError(Exception):
    """The account refuses rows without ``status``: it is of before 2026."""


def says_status_is_required(error: MailchimpError) -> bool:
    """Whether a whole call was refused because its rows carry no ``status``."""
    said = [(e.field.lower(), e.message.lower()) for e in error.errors]
    said.append(("", (error.detail or "").lower()))
    return any(
        "status" in field.replace("status_if_new", "")
        or ("required" in words and "status" in words)
        for field, words in said
    )


def account(
    rows: Sequence[Row],
    result: BatchResult,
    tag: str,
    now: datetime,
    *,
    since: datetime | None = None,
) -> Answer:
    """Finds every sent row in the answer: accepted, refused, or to be read again.

    HTTP 200 is no success (MC 3.3): a row's returned status must be the one asked for. ``since``: when the
    call began by Mailchimp's own clock.
    """
    answer = Answer()
    fates = account_rows([row.email for row in rows], result).rows
    wanted_tag = tag.lower()
    for row, fate in zip(rows, fates, strict=True):
        if fate.outcome is RowOutcome.ERROR:
            code = fate.refusal or RefusalCode.OTHER
            error = fate.error
            refusal = Outcome(
                row, code=code.value, message=_without_address(error.error if error else "", row),
                field=merge_tag(error.field) if error else None,
                next_try_at=now + THROTTLE_FIRST if code is RefusalCode.THROTTLED else None,
            )  # fmt: skip
            if code in _LOOK or fate.member_status:
                # Mailchimp says what the member is: it is read, and the mirror knows from then on
                answer.reread.append(row)
                answer.refused[row.seq] = refusal
            else:
                answer.outcomes.append(refusal)
            continue
        member = fate.member
        if member is None or not _as_asked(row, member.status, fate.outcome):
            answer.reread.append(row)
            continue
        tagged = row.action != "unsubscribe" and any(
            t.name.lower() == wanted_tag for t in member.tags
        )
        answer.outcomes.append(
            Outcome(
                row, status=member.status, last_changed=member.last_changed,
                contact_id=member.contact_id, timestamp_opt=member.timestamp_opt,
                timestamp_signup=member.timestamp_signup, tagged=tagged,
                created=fate.outcome is RowOutcome.NEW, ours=_ours(member.last_changed, since),
            )
        )  # fmt: skip
        if row.action != "unsubscribe" and not tagged:
            answer.untagged.append(row)
    return answer


_LOOK = (RefusalCode.EXISTS, RefusalCode.UNSUBSCRIBED, RefusalCode.CLEANED, RefusalCode.ARCHIVED)
"""Refusals that say what the member is."""


def says_rows_need_status(rows: Sequence[Row], answer: Answer) -> bool:
    """Whether a call looks refused row by row because its rows carry no ``status``.

    Mailchimp's words may not say so: "could not be validated", without a field. So it looks like that only
    where every row without a status was refused in this way, and rows with one were not.
    """
    without = {row.seq for row in rows if not row.brings_back}
    said = {o.row.seq for o in answer.outcomes if o.code and _may_lack_status(o.message or "")}
    return bool(without) and said == without


def _may_lack_status(words: str) -> bool:
    lowered = words.lower()
    return "could not be validated" in lowered or ("status" in lowered and "required" in lowered)


def _as_asked(row: Row, status: str, outcome: RowOutcome) -> bool:
    if row.action == "unsubscribe":
        return status == "unsubscribed"
    if row.brings_back:
        return status == row.wanted_status
    if row.action == "update" and outcome is RowOutcome.NEW:
        # the member had vanished, and was kept from being asked again (decide, `lapsed`)
        return status in ("subscribed", "unsubscribed")
    return status in ("subscribed", "pending")


def _ours(changed: datetime | None, since: datetime | None) -> bool:
    """Whether a member changed while our call was under way. Unknown times prove nothing."""
    return changed is not None and since is not None and changed >= since


def from_member(
    row: Row, member: Member, *, tag: str = "", since: datetime | None = None
) -> Outcome:
    """An accepted single call's outcome."""
    return Outcome(
        row,
        status=member.status,
        last_changed=member.last_changed,
        contact_id=member.contact_id,
        timestamp_opt=member.timestamp_opt,
        timestamp_signup=member.timestamp_signup,
        tagged=bool(tag) and any(t.name.lower() == tag.lower() for t in member.tags),
        by_api=member.source.lower().startswith("api"),
        ours=_ours(member.last_changed, since),
    )


def settle(row: Row, member: Member | None, tag: str, now: datetime) -> Outcome:
    """Settles a row by what its member turned out to be; one without a trace is tried in the next run."""
    if member is None and row.action in ("archive", "unsubscribe"):
        return Outcome(row, status="absent")
    if member is None or not member.identified:
        return Outcome(
            row, code="not_accounted", message="Mailchimp's answer did not mention it.",
            next_try_at=now,
        )  # fmt: skip
    if row.action == "archive":
        done = member.status != "subscribed"
    elif row.action == "unsubscribe":
        done = member.status not in ("subscribed", "pending")
    else:
        done = member.status in ("subscribed", "pending")
    if done:
        # the member is as wanted, but whether our fields arrived is unknown: the next run sends them
        return from_member(
            replace(row, payload_hash=None, payload_tags="", feeder=None), member, tag=tag
        )
    code = member.status if member.status in ("unsubscribed", "cleaned") else "compliance"
    return Outcome(
        row, code=code, message=f"Mailchimp keeps this member as {member.status}, without an error."
    )


def refused(row: Row, error: MailchimpError) -> Outcome:
    """A refusal of a single row."""
    code = error.code.value if isinstance(error, RefusedError) else RefusalCode.INVALID_VALUE.value
    words = "; ".join(e.message for e in error.errors) or error.detail or error.title or "refused"
    fields = (merge_tag(e.field) for e in error.errors)
    field = next((tag for tag in fields if tag), None)
    return Outcome(row, code=code, message=_without_address(words, row), field=field)


def _without_address(words: str, row: Row) -> str:
    """Mailchimp's words, less the address: they are stored beside rows that an erasure clears."""
    lowered = words.lower()
    at = lowered.find(row.email.lower())
    while at >= 0:
        words = words[:at] + "(the address)" + words[at + len(row.email) :]
        at = words.lower().find(row.email.lower())
    return words[:500]


# --- the smaller writes ---------------------------------------------------------------------------


async def move_member(
    session: AsyncSession, audience_id: UUID, old: UUID, new: UUID, email: str
) -> None:
    """A rename was accepted: the member's row, tags and all, goes to its new address."""
    params = {
        "audience": audience_id, "old": old, "new": new, "box": mailbox_of_member(new, email),
        "spelled": spelled_domain(email),
    }  # fmt: skip
    for statement in (
        """delete from audience_members where audience_id = :audience and address_hash = :new""",
        """update audience_members set address_hash = :new,
               mailbox_hash = nullif(cast(:box as uuid), :new), spelled_domain = :spelled
           where audience_id = :audience and address_hash = :old""",
        """insert into segment_members (org_id, segment_id, audience_id, address_hash)
           select org_id, segment_id, audience_id, :new from segment_members
           where audience_id = :audience and address_hash = :old on conflict do nothing""",
        """delete from segment_members where audience_id = :audience and address_hash = :old""",
        """delete from audience_aliases where audience_id = :audience and member_hash = :old""",
    ):
        await session.execute(
            text(statement), {k: v for k, v in params.items() if f":{k}" in statement}
        )


async def add_instead(session: AsyncSession, run_id: UUID, row: Row) -> None:
    """Plans the address of a refused rename as an add, at the end of the run, once."""
    # several lanes rename at the same time: one after the other finds the end
    await session.execute(
        text("select 1 from sync_runs where id = :run for update"), {"run": run_id}
    )
    await session.execute(
        text(
            """insert into sync_changes (org_id, run_id, seq, address_hash, contact_id, email, action,
                                         reason, state)
               select org_id, run_id, (select max(seq) + 1 from sync_changes where run_id = :run),
                      address_hash, contact_id, email, 'add', 'new', 'planned'
               from sync_changes h where run_id = :run and seq = :seq and not exists (
                   select from sync_changes a where a.run_id = :run and a.action = 'add'
                     and a.address_hash = h.address_hash)"""
        ),
        {"run": run_id, "seq": row.seq},
    )


async def to_untag(session: AsyncSession, run_id: UUID, most: int) -> list[Any]:
    """Changes whose tag is still to be taken off: those that only do that, and those already done.

    An archive's tag goes first, since an archived member would keep it. Who left and could not be
    unsubscribed keeps it, so that the next run finds them.
    """
    rows = await session.execute(
        text(
            """select seq, address_hash, email, action from sync_changes
               where run_id = :run and untag and not untagged and (
                   (action in ('untag', 'archive') and state = 'planned')
                   or (action = 'unsubscribe' and (
                       state = 'done' or (state = 'failed' and reason <> 'left'))))
               order by seq limit :most"""
        ),
        {"run": run_id, "most": most},
    )
    return list(rows.all())


async def untagged(
    session: AsyncSession, run: Claimed, segment_id: UUID, rows: Sequence[Any]
) -> None:
    """The tag is off. What is still to be archived stays marked here as tagged until it is:

    otherwise a run that stopped in between would forget that the address had left.
    """
    plain = [r for r in rows if r.action == "untag"]
    await session.execute(
        text(
            """update sync_changes set untagged = true,
                   state = case when action = 'untag' then 'done' else state end,
                   done_at = case when action = 'untag' then clock_timestamp() else done_at end
               where run_id = :run and seq = any(cast(:seqs as bigint[]))"""
        ),
        {"run": run.id, "seqs": [r.seq for r in rows]},
    )
    await forget_tags(
        session, run, segment_id, [r.address_hash for r in rows if r.action != "archive"]
    )
    await session.execute(
        text(
            """update sync_runs set done = done + :done, calls = calls + 1, revision = revision + 1
               where id = :run"""
        ),
        {"run": run.id, "done": len(plain)},
    )
