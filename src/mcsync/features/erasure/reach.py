"""The Mailchimp side of an erasure: each target is deleted, waited for and read back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.crash import crash_point
from mcsync.core.db import lock_obtained
from mcsync.core.errors import ConflictError
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.audiences import service as audiences
from mcsync.features.audiences.barrier import LOCK, lock_name
from mcsync.features.connection import service as connection
from mcsync.features.erasure import leases, repository, stores
from mcsync.features.erasure.models import ErasureTarget
from mcsync.features.erasure.subject import (
    BY_ADDRESS,
    Address,
    Subject,
    address_key,
    subject_context,
)
from mcsync.mailchimp import (
    CredentialError,
    Lane,
    MailchimpError,
    MailchimpTimeout,
    MethodNotAllowedError,
    NotFoundError,
    RetryPolicy,
    ThrottledError,
    TransientError,
    normalise_address,
)

_log = structlog.get_logger(__name__)

_RETRY: Final = RetryPolicy(max_attempts=2, base_seconds=0.3, cap_seconds=1.0, total_seconds=5.0)
"""The erasure itself is tried again, for ever; a single call need not be."""
_SOON_SECONDS: Final = 1.0
_NO_KEY_SECONDS: Final = 60.0
"""How often a missing or refused key is asked for: a minute after it comes, the work goes on."""
_LONGEST_SECONDS: Final = 300.0
_DELETES_AT_ONCE: Final = 3
_GONE: Final = 404


class Reach:
    """One worker's dealings with Mailchimp about one erasure. ``failed``: something went wrong."""

    def __init__(
        self, resources: Resources, held: leases.Claimed, subject: Subject, hash_key: bytes
    ) -> None:
        self._resources = resources
        self._db = resources.db
        self._held = held
        self._subject = subject
        self._hash_key = hash_key
        self.failed = False

    async def round(self, due: Sequence[ErasureTarget], check: Callable[[], None]) -> None:
        """Deals with each due target once: it is confirmed, or due again later."""
        try:
            link = await connection.open_link(
                self._resources, self._held.org_id, lane=Lane.LIVE, retry=_RETRY
            )
        except ConflictError as error:  # not connected, or the stored key cannot be opened
            await self._not_now(due, error.code, _NO_KEY_SECONDS)
            return
        elsewhere = [t for t in due if t.account_id != link.account_id]
        await self._not_now(elsewhere, "account_mismatch", _NO_KEY_SECONDS)
        ours = [t for t in due if t.account_id == link.account_id]
        answered = False
        try:
            for target in ours:
                check()
                deal = self._list_audiences if target.audience_id is None else self._erase
                answered |= await deal(link, target)
        except CredentialError as error:
            await self._not_now(ours, "mailchimp_key_refused", _NO_KEY_SECONDS)
            detail = connection.refused_detail(error)
            await connection.mark_needs_attention(
                self._resources, self._held.org_id, error.code, detail, fingerprint=link.fingerprint
            )
            return
        if answered and link.needs_attention:
            await connection.clear_needs_attention(
                self._resources, self._held.org_id, fingerprint=link.fingerprint
            )

    async def _list_audiences(self, link: connection.Link, target: ErasureTarget) -> bool:
        """The account's audiences that are not mirrored yet become targets too."""
        try:
            lists = await link.client.audiences()
        except CredentialError:
            raise
        except MailchimpError as error:
            await self._later(target, error)
            return False
        async with self._db.transaction(self._held.org_id) as session:
            await audiences.store_lists(session, link.account_id, lists)
            numbered = list(enumerate(self._subject.addresses, start=1))
            await repository.aim(session, self._held.id, numbered, self._held.account_id)
            if lists.complete:
                await self._confirm(session, target, "confirmed", read_back=False)
        crash_point("erasure.listed")
        if not lists.complete:
            # an audience that could not be read may hold the person: those that could are asked already
            await self._later(target, TransientError("unreadable rows"))
        return True

    async def _erase(self, link: connection.Link, target: ErasureTarget) -> bool:
        assert target.audience_id is not None
        assert target.address_hash is not None
        awaited = await self._begin(target.audience_id, target.address_hash)
        try:
            if not target.delete_answers:
                await self._delete(link, target)
            if awaited:
                await self._wait(target)
                return True
            await self._read_back(link, target)
        except CredentialError:
            raise
        except MailchimpError as error:
            await self._later(target, error)
            return False
        return True

    async def _begin(self, audience_id: UUID, address: UUID) -> bool:
        """Whether calls that carry the address are under way; later ones know of the erasure."""
        async with self._db.transaction(
            self._held.org_id, behind=lock_name(audience_id)
        ) as session:
            await leases.fence(session, self._held)
            # alone for a moment: every taker that does not know of the erasure has committed its call
            await session.execute(
                text("select " + LOCK.format(shared="")), {"audience": str(audience_id)}
            )
            lock_obtained(session)
            await repository.stop_unsent_calls(session, [address])
            return await repository.call_under_way(
                session, audience_id, address,
                barrier_seconds=float(self._resources.settings.order_barrier_seconds),
            )  # fmt: skip

    async def _delete(self, link: connection.Link, target: ErasureTarget) -> None:
        """One delete-permanent. Its answer is recorded, and believed in no case."""
        assert target.list_id is not None
        assert target.address_hash is not None
        crash_point("erasure.before_delete")
        status = 204
        try:
            await link.client.delete_permanent(target.list_id, target.address_hash.hex)
        except NotFoundError:
            status = _GONE
        except MethodNotAllowedError:
            status = 405
        crash_point("erasure.after_delete")
        async with self._db.transaction(self._held.org_id) as session:
            # of many answers the first and the last ten are kept
            await leases.write_target(
                session, self._held, target.id,
                """delete_answers = case when jsonb_array_length(delete_answers) >= 20
                                         then delete_answers - 10 else delete_answers end
                       || jsonb_build_array(jsonb_build_object('status', cast(:status as integer),
                            'at', to_char(clock_timestamp() at time zone 'UTC',
                                          'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))""",
                status=status,
            )  # fmt: skip
        crash_point("erasure.delete_recorded")

    async def _read_back(self, link: connection.Link, target: ErasureTarget) -> None:
        """Reads the member until it is gone, deleting it again each time it is there."""
        assert target.list_id is not None
        assert target.address_hash is not None
        for _ in range(_DELETES_AT_ONCE):
            member = await link.client.find_member(target.list_id, target.address_hash.hex)
            crash_point("erasure.read_back")
            if member is None:
                await self._absent(link, target)
                return
            async with self._db.transaction(self._held.org_id) as session:
                await leases.write_target(
                    session, self._held, target.id,
                    "read_back_at = clock_timestamp(), read_back_status = 200",
                )  # fmt: skip
            await self._delete(link, target)
        await self._fail(target, "member_remains")

    async def _absent(self, link: connection.Link, target: ErasureTarget) -> None:
        """A 404 of the member is believed only where the list is still there."""
        assert target.list_id is not None
        outcome = "confirmed"
        try:
            await link.client.audience(target.list_id)
        except NotFoundError:
            outcome = "audience_gone"
        moved = None
        if target.member_id and outcome == "confirmed":
            # the person may have changed the address at Mailchimp since we last looked
            moved = await link.client.find_member(target.list_id, target.member_id)
        async with self._db.transaction(self._held.org_id) as session:
            if moved is not None and mirror.member_hash(moved) != target.address_hash:
                email = normalise_address(moved.email_address)
                await self._learn(session, Address(mirror.member_hash(moved), email))
            await self._confirm(session, target, outcome)
        crash_point("erasure.confirmed")

    async def _learn(self, session: AsyncSession, address: Address) -> None:
        """Another address of the person: erased, suppressed and looked for like the others."""
        held, subject = self._held, self._subject
        new = subject.learn([address])
        if not new:
            return
        if address.email is not None:
            key = address_key(self._hash_key, address.email)
            await repository.suppress(session, [(BY_ADDRESS, key)], held.id)
        await repository.aim(session, held.id, new, held.account_id)
        sealed = self._resources.keys.seal(
            subject.dump(), context=subject_context(held.org_id, held.id)
        )
        counts = await stores.scrub(
            session, subject, self._hash_key, erasure_id=held.id, only=stores.When.AT_ONCE
        )
        await leases.add_pass(
            session, held, counts, "subject = :sealed, addresses = :addresses, scrubbed_at = null",
            sealed=sealed, addresses=len(subject.addresses),
        )  # fmt: skip

    # --- what became of a target --------------------------------------------------------------

    async def _confirm(
        self, session: AsyncSession, target: ErasureTarget, state: str, *, read_back: bool = True
    ) -> None:
        assignments = "state = :state, last_error = null"
        if read_back:
            assignments += ", read_back_at = clock_timestamp(), read_back_status = 404"
        await leases.write_target(session, self._held, target.id, assignments, state=state)
        if state == "audience_gone":
            await session.execute(
                text(
                    "update audiences set gone_at = coalesce(gone_at, now()) where id = :audience"
                ),
                {"audience": target.audience_id},
            )

    async def _wait(self, target: ErasureTarget) -> None:
        """Not a failure: a call under way may still bring the member back."""
        async with self._db.transaction(self._held.org_id) as session:
            await leases.write_target(
                session, self._held, target.id,
                """last_error = 'call_under_way',
                   next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)""",
                seconds=_SOON_SECONDS,
            )  # fmt: skip

    async def _later(self, target: ErasureTarget, error: MailchimpError) -> None:
        _log.info(
            "erasure_delayed", erasure=str(self._held.id), error=type(error).__name__,
            status=error.status,
        )  # fmt: skip
        await self._fail(target, _code(error))

    async def _fail(self, target: ErasureTarget, code: str) -> None:
        longest = min(_LONGEST_SECONDS, 2.0 ** min(target.attempts, 9))
        await self._not_now([target], code, longest * (0.75 + random.random() / 4))  # noqa: S311

    async def _not_now(self, targets: Sequence[ErasureTarget], code: str, seconds: float) -> None:
        if not targets:
            return
        self.failed = True
        async with self._db.transaction(self._held.org_id) as session:
            for target in targets:
                await leases.write_target(
                    session, self._held, target.id,
                    """last_error = :code, attempts = attempts + 1,
                       next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)""",
                    code=code, seconds=seconds,
                )  # fmt: skip


def _code(error: MailchimpError) -> str:
    if isinstance(error, ThrottledError):
        return "mailchimp_busy"
    if isinstance(error, MailchimpTimeout):
        return "mailchimp_timeout"
    if isinstance(error, TransientError):
        return "mailchimp_unavailable"
    return "mailchimp_refused"
