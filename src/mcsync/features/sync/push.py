"""Pushing: what was planned, in calls of 500, several in flight, every row accounted for (``sync.md`` 5).

Unsubscribes go first (the law is impatient), then renames, adds and updates, then tags, archives last.
A call is taken, sent and recorded; when its outcome is unknown its rows are planned again, and decided
again before they are sent again. Nothing here holds a transaction open while Mailchimp works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.audiences.barrier import lock_name
from mcsync.features.sync import accounting, calls, decide, recording
from mcsync.features.sync.lanes import SINGLES, SPARE_LANES, Weather, WeatherError, in_lanes
from mcsync.features.sync.pull import AudienceState, Check, Pull, merge_and_record
from mcsync.features.sync.runs import Claimed
from mcsync.mailchimp import (
    BATCH_SIZE,
    InvalidRequestError,
    Lane,
    MailchimpClient,
    MailchimpError,
    MethodNotAllowedError,
    NotFoundError,
    RefusalCode,
    RefusedError,
    ThrottledError,
    TransientError,
)

_log = structlog.get_logger(__name__)

BULK = ("add", "update", "resubscribe")


@dataclass(slots=True)
class Target:
    """The audience as a push needs it. ``requires_status``: rows must carry ``status`` (before 2026).

    ``status_unproven``: that is only what refusals look like, until a row with one was taken.
    ``tags_in_rows``: rows may carry tags. ``bulk_brings_back``: the bulk call resubscribes.
    """

    id: UUID
    list_id: str
    requires_status: bool
    status_unproven: bool = False
    tags_in_rows: bool = True
    bulk_brings_back: bool = True


class Push:
    """Carries out one run's planned changes."""

    def __init__(
        self, resources: Resources, actor: Actor, client: MailchimpClient, run: Claimed,
        scope: decide.PlanScope, target: Target, *, tag_id: int, tag: str, check: Check,
    ) -> None:  # fmt: skip
        self._resources = resources
        self._db = resources.db
        self._actor = actor
        self._client = client
        self._run = run
        self._decision = decide.build(scope, by_key=True)
        self._segment_id = scope.segment.id
        self._target = target
        self._tag_id = tag_id
        self._tag = tag
        self._check = check
        self._lane = Lane.LIVE if run.immediate else Lane.BULK
        self._lanes = 1 if run.immediate else resources.settings.slots_per_account + SPARE_LANES
        self._weather = Weather(run.id, check)
        self._after: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def carry_out(self, audience: AudienceState) -> None:
        """All phases. Raises :class:`WeatherError`, ``MailchimpError`` (credentials), ``FencedError``."""
        await self._read_lost()
        await self._bulk_phase("unsubscribe")
        await self._single_phase("rename", self._rename)
        if not self._target.bulk_brings_back:
            await self._single_phase("resubscribe", self._resubscribe)
        if not self._target.requires_status:
            await self._bulk_phase(*BULK)
        if self._target.requires_status:  # known before, or found out just now
            await self._bulk_phase("add")
            await self._bulk_phase("resubscribe")
            await self._single_phase("update", self._patch)
        await self._untag()
        if await self._left("archive", most=1):
            pull = Pull(self._resources, self._actor, self._client, check=self._check)
            await pull.changes_only(audience)
            await self._single_phase("archive", self._archive)

    # --- lanes ------------------------------------------------------------------------------------

    async def _bulk_phase(self, *actions: str) -> None:
        await self._in_lanes(lambda: self._bulk(actions), actions, BATCH_SIZE)

    async def _single_phase(
        self, action: str, act: Callable[[calls.Row], Awaitable[recording.Answer]]
    ) -> None:
        await self._in_lanes(lambda: self._single(action, act), (action,), SINGLES)

    async def _in_lanes(
        self, step: Callable[[], Awaitable[bool]], actions: Sequence[str], size: int
    ) -> None:
        left = await self._left(*actions, most=self._lanes * size)
        if left:
            await in_lanes(step, lanes=self._lanes, rows=left, each=size, check=self._check)

    async def _take(self, actions: Sequence[str], most: int) -> calls.Taken | None:
        """The next call's rows. Goes on where the last one ended, and looks once more from the start:

        rows whose call failed are planned again behind that point.
        """
        while True:
            after = self._after.get(actions[0], 0)
            async with self._db.transaction(
                self._run.org_id, behind=lock_name(self._run.audience_id)
            ) as session:
                taken = await calls.take(
                    session, self._run, self._decision, call_id=uuid7(), actions=actions, most=most,
                    after=after, tag=self._tag, turn=self._turn,
                    requires_status=self._target.requires_status,
                    tags_in_rows=self._target.tags_in_rows,
                )  # fmt: skip
            if taken is not None and taken.rows:
                last = max(row.seq for row in taken.rows)
                self._after[actions[0]] = max(after, last)
            if taken is not None or not after:
                return taken
            self._after[actions[0]] = 0

    async def _left(self, *actions: str, most: int) -> int:
        async with self._db.transaction(self._run.org_id) as session:
            rows = await session.execute(
                text(
                    """select count(*) from (
                           select from sync_changes where run_id = :run and state = 'planned'
                               and action = any(cast(:actions as text[])) limit :most) found"""
                ),
                {"run": self._run.id, "actions": list(actions), "most": most},
            )
            return int(rows.scalar_one())

    async def _missed(self, taken: calls.Taken, error: MailchimpError) -> None:
        """The outcome is unknown: plan the rows again, wait a little, give up after too many."""
        async with self._db.transaction(self._run.org_id) as session:
            await calls.put_back(session, self._run, taken.id, error=type(error).__name__)
        await self._weather.missed(error)

    async def _record(
        self, taken: calls.Taken, answer: recording.Answer, *, count: int = 1, last: bool = True
    ) -> None:
        self._weather.answered()
        async with self._db.transaction(self._run.org_id) as session:
            await recording.record(
                session, self._run, taken.id, self._segment_id, answer.outcomes, calls=count,
                last=last and not answer.reread,
            )  # fmt: skip
        if answer.untagged:
            await self._tag_missing(answer.untagged)
        if answer.reread:
            await self._reread(taken, answer.reread, last=last, refused=answer.refused)

    # --- bulk calls -------------------------------------------------------------------------------

    async def _bulk(self, actions: Sequence[str]) -> bool:
        """Takes, sends and records one bulk call; False when there was nothing to take."""
        if self._target.requires_status and len(actions) > 1:
            return False  # another lane found out that this account wants its rows another way
        taken = await self._take(actions, BATCH_SIZE)
        if taken is None:
            return False
        parts = [taken.rows] if taken.rows else []
        while parts:
            rows = parts.pop()
            try:
                answer = await self._send(taken, rows)
            except (TransientError, ThrottledError) as error:
                if isinstance(error, TransientError) and error.outcome_unknown:
                    await self._reread(taken, [r for r in rows if r.brings_back], lost=True)
                await self._missed(taken, error)
                return True
            except accounting.StatusRequiredError:
                await self._learn_status_is_required(taken)
                return False
            except (InvalidRequestError, RefusedError):
                # refused as a whole: halved until the bad row stands alone
                parts += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            if answer is None:
                return True
            if await self._rows_lack_status(taken, rows, answer):
                return False
            await self._record(taken, answer, last=not parts)
        return True

    async def _send(self, taken: calls.Taken, rows: Sequence[calls.Row]) -> recording.Answer | None:
        """One call, with all rows that were taken or a part of them; None where it must not leave.

        What was taken goes on waiting for its slot: a slot is never held while the database works. Raises
        ``InvalidRequestError`` or ``RefusedError`` where several rows were refused as a whole.
        """
        reducing = rows[0].action == "unsubscribe"
        try:
            async with self._client.slot(self._lane):
                # for each part anew: an order waits two minutes for a call, and not for all its parts
                if not await calls.leaving(self._db, self._run, taken.id, self._check):
                    return None
                began = time.monotonic()
                result = await self._client.batch_subscribe(
                    self._target.list_id,
                    [row.body for row in rows],
                    # where rows carry a status, an existing member must not get it: the row comes back
                    update_existing=not taken.with_status or rows[0].action != "add",
                    skip_merge_validation=reducing,
                )
        except (InvalidRequestError, RefusedError) as error:
            # how rows were sent goes with them: another lane may have found out meanwhile what they lack
            if accounting.says_status_is_required(error) and not taken.with_status:
                raise accounting.StatusRequiredError from error
            if len(rows) > 1:
                raise
            answer = recording.Answer(outcomes=[accounting.refused(rows[0], error)])
        else:
            answer = accounting.account(
                rows, result, self._tag, self._resources.clock(), since=self._client.began(began)
            )
        return await self._insist(answer) if reducing else answer

    async def _insist(self, answer: recording.Answer) -> recording.Answer:
        """An unsubscribe is never parked: what the bulk call refused is sent alone, then shown."""
        for at, outcome in enumerate(answer.outcomes):
            if outcome.code is not None:
                answer.outcomes[at] = await self._unsubscribe_alone(outcome.row)
        return answer

    async def _unsubscribe_alone(self, row: calls.Row) -> recording.Outcome:
        began = time.monotonic()
        try:
            member = await self._client.update_member(
                self._target.list_id, row.address_hash.hex, {"status": "unsubscribed"},
                skip_merge_validation=True,
            )  # fmt: skip
        except NotFoundError:
            return recording.Outcome(row, status="absent")
        except (RefusedError, InvalidRequestError) as error:
            _log.warning("unsubscribe_refused", run=str(self._run.id), code=error.title)
            return accounting.refused(row, error)
        if not member.identified:
            return accounting.settle(row, member, self._tag, self._resources.clock())
        return accounting.from_member(row, member, since=self._client.began(began))

    async def _rows_lack_status(
        self, taken: calls.Taken, rows: Sequence[calls.Row], answer: recording.Answer
    ) -> bool:
        """Whether rows were refused one by one for want of a ``status``; then these are planned again."""
        if self._target.status_unproven and any(o.code is None for o in answer.outcomes):
            await self._keep_status_is_required()
        if taken.with_status or not accounting.says_rows_need_status(rows, answer):
            return False
        brought_back = {row.seq for row in rows if row.brings_back}
        answer.outcomes = [o for o in answer.outcomes if o.row.seq in brought_back]
        await self._record(taken, answer, count=0, last=False)
        await self._learn_status_is_required(taken, proven=False)
        return True

    async def _learn_status_is_required(self, taken: calls.Taken, *, proven: bool = True) -> None:
        """This account is of before 2026: rows need ``status``. Plan them again, in its way.

        Not ``proven``: it only looks like that, and is kept beyond this run once a row with one was taken.
        """
        _log.info("account_requires_status", audience=str(self._target.id), proven=proven)
        self._target.requires_status = True
        async with self._db.transaction(self._run.org_id) as session:
            await calls.put_back(session, self._run, taken.id, error="status required")
        if proven:
            await self._keep_status_is_required()
        else:
            self._target.status_unproven = True

    async def _keep_status_is_required(self) -> None:
        self._target.status_unproven = False
        async with self._db.transaction(self._run.org_id) as session:
            await session.execute(
                text(
                    """update audiences set requires_status = true
                       where id = :audience and not requires_status"""
                ),
                {"audience": self._target.id},
            )

    # --- single calls -----------------------------------------------------------------------------

    async def _single(
        self, action: str, act: Callable[[calls.Row], Awaitable[recording.Answer]]
    ) -> bool:
        """Takes a few changes and carries out each by a call of its own; records them together."""
        taken = await self._take((action,), SINGLES)
        if taken is None:
            return False
        if not taken.rows or not await calls.leaving(self._db, self._run, taken.id, self._check):
            return True
        answer = recording.Answer()
        try:
            for row in taken.rows:
                async with self._client.slot(self._lane):
                    await self._check()
                    one = await act(row)
                answer.outcomes += one.outcomes
                answer.reread += one.reread
                answer.untagged += one.untagged
        except (TransientError, ThrottledError) as error:
            if answer.outcomes:
                answer.reread.clear()  # these are planned again with the rest
                await self._record(taken, answer, count=len(answer.outcomes), last=False)
            if isinstance(error, TransientError) and error.outcome_unknown:
                settled = {outcome.row.seq for outcome in answer.outcomes}
                open_rows = [r for r in taken.rows if r.brings_back and r.seq not in settled]
                await self._reread(taken, open_rows, lost=True)
            await self._missed(taken, error)
            return True
        await self._record(taken, answer, count=len(taken.rows))
        return True

    async def _patch(self, row: calls.Row) -> recording.Answer:
        """An update for accounts that refuse rows without ``status``: fields alone, never a status."""
        try:
            member = await self._client.update_member(
                self._target.list_id, row.address_hash.hex,
                {"merge_fields": orjson.loads(row.fields or "{}")},
            )  # fmt: skip
        except NotFoundError:
            return recording.Answer(reread=[row])
        except (RefusedError, InvalidRequestError) as error:
            return recording.Answer(outcomes=[accounting.refused(row, error)])
        if not member.identified:
            return recording.Answer(reread=[row])
        outcome = accounting.from_member(row, member, tag=self._tag)
        return recording.Answer([outcome], untagged=[] if outcome.tagged else [row])

    async def _resubscribe(self, row: calls.Row) -> recording.Answer:
        """For accounts whose bulk call leaves the member as it was: the same row, by a call of its own."""
        body = orjson.loads(row.body)
        changes = {k: v for k, v in body.items() if k not in ("email_address", "tags")}
        try:
            member = await self._client.update_member(
                self._target.list_id, row.address_hash.hex, changes
            )
        except NotFoundError:
            return recording.Answer(reread=[row])
        except (RefusedError, InvalidRequestError) as error:
            return recording.Answer(outcomes=[accounting.refused(row, error)])
        if member.status != row.wanted_status:
            return recording.Answer(reread=[row])
        outcome = accounting.from_member(row, member, tag=self._tag)
        return recording.Answer([outcome], untagged=[] if outcome.tagged else [row])

    async def _rename(self, row: calls.Row) -> recording.Answer:
        """The contact's address changed: the member keeps its history under the new one."""
        assert row.old_hash is not None
        try:
            member = await self._client.update_member(
                self._target.list_id, row.old_hash.hex,
                {"email_address": row.email, "merge_fields": orjson.loads(row.fields or "{}")},
            )  # fmt: skip
        except NotFoundError:
            return recording.Answer(reread=[row])
        except (RefusedError, InvalidRequestError) as error:
            return await self._rename_refused(row, error)
        if not member.identified:
            return recording.Answer(reread=[row])
        async with self._db.transaction(self._run.org_id) as session:
            await accounting.move_member(
                session, self._target.id, row.old_hash, row.address_hash, row.email
            )
        outcome = accounting.from_member(row, member, tag=self._tag)
        return recording.Answer([outcome], untagged=[] if outcome.tagged else [row])

    async def _rename_refused(self, row: calls.Row, error: MailchimpError) -> recording.Answer:
        """Then the new address is treated as wanted, in this run; the old one as left, in the next."""
        outcome = accounting.refused(row, error)
        outcome.code = "rename_refused"
        if isinstance(error, RefusedError) and error.code is RefusalCode.EXISTS:
            # the new address is a member already: what it is decides whether it may be added at all
            await self._read_again(row)
        async with self._db.transaction(self._run.org_id) as session:
            await accounting.add_instead(session, self._run.id, row)
        return recording.Answer([outcome])

    async def _read_again(self, row: calls.Row) -> None:
        member = await self._client.find_member(self._target.list_id, row.address_hash.hex)
        if member is not None:
            async with self._db.transaction(self._run.org_id) as session:
                await merge_and_record(
                    session, self._actor, self._target.id, [member], self._resources.hash_keys
                )

    async def _archive(self, row: calls.Row) -> recording.Answer:
        try:
            await self._client.archive_member(self._target.list_id, row.address_hash.hex)
        except NotFoundError:
            return recording.Answer([recording.Outcome(row, status="absent")])
        except MethodNotAllowedError:  # archived already, or not archivable: look (MC 4.5)
            return recording.Answer(reread=[row])
        except (RefusedError, InvalidRequestError) as error:
            return recording.Answer([accounting.refused(row, error)])
        return recording.Answer([recording.Outcome(row, status="archived")])

    # --- rows that an answer left open ------------------------------------------------------------

    async def _reread(
        self, taken: calls.Taken, rows: Sequence[calls.Row], *, lost: bool = False,
        last: bool = True, refused: Mapping[int, recording.Outcome] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Reads each member again; the mirror takes over what is true, the row is settled by it.

        ``lost``: the call's answer was lost. Only who is a member is settled then, the others are decided
        again from what was read: who unsubscribed since must not be brought back by a repetition.
        ``refused``: why a row was refused, by its ``seq``, which stands where there is no member.
        """
        outcomes: list[recording.Outcome] = []
        for row in rows:
            await self._check()
            try:
                member = await self._client.find_member(self._target.list_id, row.address_hash.hex)
            except (TransientError, ThrottledError) as error:
                raise WeatherError from error
            async with self._db.transaction(self._run.org_id) as session:
                if member is None:
                    await mirror.mark_absent(session, self._target.id, [row.address_hash])
                else:
                    await merge_and_record(
                        session, self._actor, self._target.id, [member], self._resources.hash_keys
                    )
            outcome = accounting.settle(row, member, self._tag, self._resources.clock())
            if outcome.code is not None and row.seq in refused:
                told = refused[row.seq]
                if member is None or told.code == RefusalCode.ARCHIVED:
                    outcome = told
            if outcome.code is None or not lost:
                outcomes.append(outcome)
        if not outcomes:
            return
        async with self._db.transaction(self._run.org_id) as session:
            await recording.record(
                session, self._run, taken.id, self._segment_id, outcomes,
                calls=0 if lost else len(rows), last=last and not lost,
            )  # fmt: skip
        untagged = [
            o.row for o in outcomes if o.code is None and not o.tagged and o.row.action in BULK
        ]
        if untagged:
            await self._tag_missing(untagged)

    async def _read_lost(self) -> None:
        """After a crash: who may have been brought back by a call of before is read, and decided again."""
        async with self._db.transaction(self._run.org_id) as session:
            found = await session.execute(
                text(
                    """select seq from sync_changes where run_id = :run and state = 'planned'
                       and tries > 0 and (action = 'resubscribe'
                                          or (action = 'add' and reason = 'back')) order by seq"""
                ),
                {"run": self._run.id},
            )
            seqs = list(found.scalars())
        for at in range(0, len(seqs), BATCH_SIZE):
            async with self._db.transaction(
                self._run.org_id, behind=lock_name(self._run.audience_id)
            ) as session:
                taken = await calls.take(
                    session, self._run, self._decision, call_id=uuid7(), after=0, most=BATCH_SIZE,
                    actions=("resubscribe", "add"), seqs=seqs[at : at + BATCH_SIZE], tag=self._tag,
                    turn=self._turn, requires_status=self._target.requires_status,
                    tags_in_rows=self._target.tags_in_rows,
                )  # fmt: skip
            if taken is None or not taken.rows:
                continue
            await self._reread(taken, taken.rows, lost=True)
            async with self._db.transaction(self._run.org_id) as session:
                await calls.put_back(session, self._run, taken.id, error=calls.NOT_SENT)

    # --- tags -------------------------------------------------------------------------------------

    async def _tag_missing(self, rows: Sequence[calls.Row]) -> None:
        """The answer lacked our tag: put it there by a static-segment call."""
        try:
            await self._client.change_tag_members(
                self._target.list_id, self._tag_id, add=[r.email for r in rows], remove=[]
            )
        except NotFoundError:
            return  # somebody deleted the tag a moment ago: the next run makes it again
        except (TransientError, ThrottledError) as error:
            raise WeatherError from error
        async with self._db.transaction(self._run.org_id) as session:
            await recording.tag_members(
                session, self._run, self._segment_id, [r.address_hash for r in rows]
            )

    async def _untag(self) -> None:
        """Takes the tag off everybody who left, 500 a call."""
        while True:
            await self._check()
            async with self._db.transaction(self._run.org_id) as session:
                rows = await accounting.to_untag(session, self._run.id, BATCH_SIZE)
            if not rows:
                return
            remove = [r.email for r in rows if r.email]
            try:
                if remove:
                    await self._client.change_tag_members(
                        self._target.list_id, self._tag_id, add=[], remove=remove
                    )
            except NotFoundError:
                pass  # the tag is gone, and so is everybody's
            except (TransientError, ThrottledError) as error:
                raise WeatherError from error
            async with self._db.transaction(self._run.org_id) as session:
                await accounting.untagged(session, self._run, self._segment_id, rows)
