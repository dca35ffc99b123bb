"""Ticking marketing permissions for who opted in: a run's last phase, where the audience has a map.

Mailchimp's bulk call does not take them, so each member costs a call of its own, once: what was ticked is
kept with the member and not ticked a second time, since the person may have taken it away. Such a call
never carries a status, and takes no tick away. Consent is read again by whatever picks the members, a few at a time; an order waits for a call under way as it
does for any other, and after a crash at most those few are ticked once more, which changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.features.audiences import repository as audiences
from mcsync.features.audiences.barrier import lock_name
from mcsync.features.audiences.service import permissions_fed
from mcsync.features.sync import calls, decide, planner
from mcsync.features.sync.context import Context
from mcsync.features.sync.lanes import SINGLES, SPARE_LANES, Weather, in_lanes
from mcsync.features.sync.pull import Check, merge_and_record
from mcsync.features.sync.runs import Claimed
from mcsync.mailchimp import (
    InvalidRequestError,
    Lane,
    MailchimpClient,
    Member,
    NotFoundError,
    RefusedError,
    ThrottledError,
    TransientError,
    permission_changes,
)

_log = structlog.get_logger(__name__)

_LOOK = 10_000
"""So many members are looked at together, as a plan does it: as a set."""

# Whatever consent says: something is still to be ticked, and the member does not wait to be read
# because Mailchimp posted that the person left.
_OPEN = """m.status in ('subscribed', 'pending')
       and not coalesce(m.permissions_pushed @> cast(:ids as text[]), false)
       and coalesce(m.hold_until <= :now, true)"""

_CAND = "create temp table cand (mh uuid) on commit drop"

_CANDIDATES = f"""
insert into cand
select t.address_hash from segment_members t
join audience_members m on m.audience_id = t.audience_id and m.address_hash = t.address_hash
where t.segment_id = :segment and t.audience_id = :audience and t.address_hash > :after
  and {_OPEN} and {{only}}
order by 1 limit :most
"""

_OF_THE_RUN = "t.address_hash in (select address_hash from sync_changes where run_id = :run)"

_OPTED_IN = """claimed and e = 'in' and tagged and status in ('subscribed', 'pending')"""

_PICK = f"""
with cand as materialized (
    select h.mh, array(select unnest(cast(:ids as text[]))
                       except select unnest(m.permissions_pushed)) as missing
    from unnest(cast(:hashes as uuid[])) as h(mh)
    cross join lateral (select * from audience_members m where m.audience_id = :audience
                        and m.address_hash = h.mh and {_OPEN} offset 0) m),
{{ctes}}
select mh, missing from decided join cand using (mh) where {_OPTED_IN} order by mh
"""

_MARK = """
update audience_members m
set permissions_pushed = array(select unnest(m.permissions_pushed)
                               union select unnest(cast(:ids as text[])) order by 1)
where m.audience_id = :audience and m.address_hash = any(cast(:hashes as uuid[]))
"""


@dataclass(frozen=True, slots=True)
class _Due:
    """A member, and the ids that are still to be ticked for it."""

    address_hash: UUID
    missing: list[str]


@dataclass(slots=True)
class _Ticked:
    """What became of a call's members: all of them are marked, whatever Mailchimp made of it."""

    hashes: list[UUID] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)


class Ticking:
    """Ticks one audience's permissions for the members of a run's segment."""

    def __init__(
        self, resources: Resources, actor: Actor, client: MailchimpClient, run: Claimed,
        ctx: Context, *, check: Check,
    ) -> None:  # fmt: skip
        self._resources = resources
        self._db = resources.db
        self._actor = actor
        self._client = client
        self._run = run
        self._ctx = ctx
        self._check = check
        self._lane = Lane.LIVE if run.immediate else Lane.BULK
        self._lanes = 1 if run.immediate else resources.settings.slots_per_account + SPARE_LANES
        self._weather = Weather(run.id, check)
        self._decision = decide.build(ctx.scope, by_key=True)
        self._open: deque[UUID] = deque()
        self._params: dict[str, Any] = {
            "audience": run.audience_id,
            "ids": list(ctx.permissions),
            "now": ctx.scope.now,
        }

    async def carry_out(self) -> None:
        """Everybody who is due. Raises what a push raises (``WeatherError``, ``FencedError``, ...)."""
        after: UUID | None = UUID(int=0)
        while after is not None:
            await self._check()
            after = await self._look(after)
            if self._open:
                await in_lanes(
                    self._few, lanes=self._lanes, rows=len(self._open), each=SINGLES,
                    check=self._check,
                )  # fmt: skip

    async def _look(self, after: UUID) -> UUID | None:
        """Fills ``_open`` from the next members; answers how far it came, None at the end."""
        params: dict[str, Any] = {
            **self._params, "segment": self._run.segment_id, "after": after, "most": _LOOK
        }  # fmt: skip
        async with self._db.transaction(self._run.org_id) as session:
            only = await self._only(session)
            if only == _OF_THE_RUN:
                params["run"] = self._run.id
            await session.execute(text(_CAND))
            await session.execute(text(_CANDIDATES.format(only=only)), params)
            found = (
                await session.execute(text("select mh from cand order by mh desc limit 1"))
            ).scalar_one_or_none()
            if found is None:
                return None
            await session.execute(text("analyze cand"))
            decision = decide.build(self._ctx.scope)
            due = await session.execute(
                text(f"with {decision.ctes} select mh from decided where {_OPTED_IN} order by mh"),
                decision.params,
            )
            self._open.extend(due.scalars())
        return UUID(str(found))

    async def _only(self, session: AsyncSession) -> str:
        """Whom to look at: as the plan did, everybody or those behind whom something changed."""
        if self._run.immediate:
            return _OF_THE_RUN
        xmin = await session.scalar(
            text("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        )
        mark = self._ctx.mark
        if mark is None or mark > (xmin or 0):
            return "true"
        await session.execute(text("set local work_mem = '256MB'"))
        await session.execute(text(_CAND))
        await session.execute(
            text(planner.CHANGED),
            {
                "org": self._run.org_id,
                "audience": self._run.audience_id,
                "segment": self._run.segment_id,
                "mark": mark,
                "now": self._ctx.scope.now,
            },
        )
        await session.execute(text("alter table cand rename to changed"))
        await session.execute(text("analyze changed"))
        return "t.address_hash in (select mh from changed)"

    async def _few(self) -> bool:
        """Picks, ticks and marks a few members; False when nobody is left."""
        if not self._open:
            return False
        hashes = [self._open.popleft() for _ in range(min(SINGLES, len(self._open)))]
        call_id = uuid7()
        picked = await self._pick(call_id, hashes)
        if not picked:
            return True
        if not await calls.leaving(self._db, self._run, call_id, self._check):
            self._open.extend(due.address_hash for due in picked)
            return True
        ticked = _Ticked()
        try:
            for due in picked:
                async with self._client.slot(self._lane):
                    await self._check()
                    await self._tick(due, ticked)
        except (TransientError, ThrottledError) as error:
            async with self._db.transaction(self._run.org_id) as session:
                await self._record(session, ticked)
                await calls.put_back(session, self._run, call_id, error=type(error).__name__)
            self._open.extend(due.address_hash for due in picked[len(ticked.hashes) :])
            await self._weather.missed(error)
            return True
        self._weather.answered()
        async with self._db.transaction(self._run.org_id) as session:
            await self._record(session, ticked)
            await calls.mark_answered(session, call_id)
        return True

    async def _pick(self, call_id: UUID, hashes: Sequence[UUID]) -> list[_Due]:
        """Those of them who are opted in at this moment, as a call that orders know of."""
        async with self._db.transaction(
            self._run.org_id, behind=lock_name(self._run.audience_id)
        ) as session:
            await calls.begin(session, self._run)
            audience = await audiences.get(session, self._run.audience_id)
            if audience is None or permissions_fed(audience) != self._ctx.permissions:
                return []  # the map was changed a moment ago: the next run looks at everybody
            rows = await session.execute(
                text(_PICK.format(ctes=self._decision.ctes)),
                {**self._decision.params, **self._params, "hashes": list(hashes)},
            )
            picked = [_Due(*row) for row in rows]
            if picked:
                members = [due.address_hash for due in picked]
                await calls.announce(session, self._run, call_id, "permissions", members)
        return picked

    async def _tick(self, due: _Due, ticked: _Ticked) -> None:
        ticks = permission_changes(dict.fromkeys(due.missing, True))
        try:
            member = await self._client.update_member(
                self._ctx.list_id, due.address_hash.hex, {"marketing_permissions": ticks},
                skip_merge_validation=True,
            )  # fmt: skip
        except NotFoundError:
            pass  # gone since the pull, which will see it; who is added again is ticked then
        except (RefusedError, InvalidRequestError) as error:
            # marked all the same: asked again only once the member is added or subscribed anew
            _log.info("permissions_refused", run=str(self._run.id), title=error.title)
        else:
            ticked.members.append(member)
        ticked.hashes.append(due.address_hash)

    async def _record(self, session: AsyncSession, ticked: _Ticked) -> None:
        """Marks the members; the mirror takes over what the answers say of them."""
        if not ticked.hashes:
            return
        if ticked.members:
            await merge_and_record(
                session, self._actor, self._run.audience_id, ticked.members,
                self._resources.hash_keys,
            )  # fmt: skip
        await session.execute(
            text(_MARK),
            {
                "audience": self._run.audience_id,
                "ids": self._params["ids"],
                "hashes": ticked.hashes,
            },
        )
        await session.execute(
            text(
                """update sync_runs set calls = calls + :calls, revision = revision + 1
                   where id = :run"""
            ),
            {"run": self._run.id, "calls": len(ticked.hashes)},
        )
