"""Handing one message to Mailchimp: once, whatever dies in between (T A3, MC 17.2).

Mailchimp knows no idempotency key. So the time before the call is committed first, and from then on only
an answer, or finding the message there by our id, tells what happened. Whoever takes the message over
after a crash looks; nobody hands it in again, until somebody asks for that or had allowed it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from mcsync.core.auth import Actor
from mcsync.core.crypto import SecretError
from mcsync.core.errors import ConflictError
from mcsync.core.jobs import FencedError, kept_alive
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.transactional import hooks, links, repository, words
from mcsync.features.transactional.models import TransactionalRecipient
from mcsync.features.transactional.payload import Payload, Person
from mcsync.features.transactional.repository import Claimed
from mcsync.features.transactional.service import context, own_context
from mcsync.mailchimp import (
    CredentialError,
    MailchimpError,
    ThrottledError,
    TransientError,
    mailbox_of,
)
from mcsync.mailchimp.transactional import (
    Message,
    MessageTooLargeError,
    PaymentRequiredError,
    RecipientOutcome,
    SendUncertainError,
    UnknownSubaccountError,
    UnknownTemplateError,
)

_log = structlog.get_logger(__name__)

GIVE_UP_SECONDS: Final = 900.0
"""So long after the call the index of a search is believed to know what Mailchimp took."""
LOOK_AT: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, GIVE_UP_SECONDS)
"""Seconds after the call at which a message in doubt is looked for (20 searches a minute, MC 17.2)."""
MOST_HAND_INS: Final = 3
"""A message that allows duplicates is handed in so often at most, unasked."""
_STANDSTILL_SECONDS: Final = 300.0
_CLOCKS_APART: Final = timedelta(days=1)
_STALE_SECONDS: Final = 10.0
"""A process that was stopped for so long between its note and its call has been taken over: no call."""
_REFUSALS: Final = (
    (PaymentRequiredError, "payment_required"),
    (UnknownTemplateError, "template_not_found"),
    (UnknownSubaccountError, "subaccount_not_found"),
)


async def work_on(resources: Resources, org_id: UUID, message_id: UUID, *, owner: str) -> bool:
    """Does what is due for a message; False where it is not due or another worker holds it."""
    lease = resources.settings.run_lease_seconds
    async with resources.db.transaction(org_id) as session:
        held = await repository.claim(session, message_id, owner=owner, lease_seconds=lease)
    if held is None:
        return False
    work = _Handover(resources, held)

    async def renew() -> None:
        async with resources.db.transaction(org_id, vital=True) as session:
            if not await repository.renew(session, held, lease_seconds=lease):
                raise FencedError

    # lost, the answer is recorded all the same
    async with kept_alive(renew, lease_seconds=lease, message_id=str(held.id)):
        try:
            await work.go()
        except asyncio.CancelledError:
            # a deploy: whoever is next looks what became of it
            await asyncio.shield(work.later(None, 0.0))
            raise
    return True


class _Handover:
    """One worker's hold on one message."""

    def __init__(self, resources: Resources, held: Claimed) -> None:
        self._resources = resources
        self._db = resources.db
        self._held = held
        self._status = held.status
        self._attempts = held.attempts
        self._looks = held.looks

    async def go(self) -> None:
        """Looks the message up where it is in doubt, hands it in where it is not."""
        held = self._held
        try:
            link = await links.open_link(self._resources, held.org_id, retry=links.ONCE)
            if not link.metadata_declared:
                # without it a message in doubt could never be found
                await hooks.ensure(self._resources, held.org_id)
            in_doubt = held.status == "sending" or held.look_first
            if not in_doubt or await self._look_up(link):
                await self._hand_in(link)
        except ConflictError as error:
            await self.later(error.code, _STANDSTILL_SECONDS)
        except CredentialError:
            await links.refused(self._resources, held.org_id, link)
            await self.later("mailchimp_key_refused", _STANDSTILL_SECONDS)

    async def later(self, error: str | None, seconds: float) -> None:
        """Gives the message back; a standing error leaves what it waits for readable."""
        async with self._db.transaction(self._held.org_id) as session:
            await repository.later(
                session, self._held, status=self._status, error=error, seconds=seconds,
                attempts=self._attempts, looks=self._looks,
            )  # fmt: skip

    # ---------------------------------------------------------------------------- hand it in

    async def _hand_in(self, link: links.Link) -> None:
        held = self._held
        payload = await self._payload()
        if payload is None:
            return
        try:
            marked = await self._mark(link, payload)
        except SecretError:
            await self.later("content_unreadable", _STANDSTILL_SECONDS)
            return
        if marked is None:
            return
        number, message = marked
        try:
            outcomes = await _call(link, payload, message)
        except SendUncertainError as error:
            _log.warning("transactional_answer_lost", message=str(held.id), status=error.status)
            await self.later("answer_lost", LOOK_AT[0])
        except MailchimpError as error:
            await self._not_taken(link, error, number)
        except MessageTooLargeError:
            await self._fail("refused", number)
        else:
            await links.works(self._resources, held.org_id, link)
            await self._record(link, outcomes, number)

    async def _mark(self, link: links.Link, payload: Payload) -> tuple[int, Message] | None:
        """Notes that the call is about to be made; None where it must not be.

        That is where nobody is left to send to, where it was cancelled or taken over just now, or where
        this process slept between the note and the call.
        """
        held, began = self._held, time.monotonic()
        async with self._db.transaction(held.org_id) as session:
            await repository.suppress(session, held.id)
            people = [p for p in await repository.recipients(session, held.id) if _open(p.status)]
            if not people:
                await repository.end(
                    session, held.id, hand_ins=held.hand_ins, status="failed",
                    error="all_suppressed",
                )  # fmt: skip
                return None
            message = self._message(payload, people)
            number = await repository.mark_sending(session, held, link.account_id)
        if number is None:
            return None
        if time.monotonic() - began > _STALE_SECONDS:
            await self.later(None, 0.0)  # no call was made: queued again, unless it was taken over
            return None
        self._status, self._looks = "sending", 0
        return number, message

    async def _payload(self) -> Payload | None:
        held = self._held
        try:
            packed = await asyncio.to_thread(
                self._resources.keys.open,
                held.payload or "",
                context=context(held.org_id, held.id),
            )
        except SecretError:
            _log.warning("transactional_content_unreadable", message=str(held.id))
            await self.later("content_unreadable", _STANDSTILL_SECONDS)
            return None
        return Payload.unpack(packed)

    def _message(self, payload: Payload, people: Sequence[TransactionalRecipient]) -> Message:
        held, keys = self._held, self._resources.keys
        return payload.to(
            [
                Person(
                    p.no,
                    p.email or "",
                    p.type,
                    p.own and keys.open(p.own, context=own_context(held.org_id, held.id, p.no)),
                )
                for p in people
            ]
        )

    async def _not_taken(self, link: links.Link, error: MailchimpError, number: int) -> None:
        """Mailchimp has surely not taken it: back into the queue, or refused for good."""
        if isinstance(error, CredentialError):
            self._status = "queued"
            raise error
        if isinstance(error, ThrottledError | TransientError):
            self._status = "queued"
            busy = isinstance(error, ThrottledError)
            self._attempts += 1
            await self.later(
                "mailchimp_busy" if busy else "mailchimp_unavailable",
                max(error.retry_after or 0.0, min(300.0, 2.0 ** min(self._attempts, 9))),
            )
            return
        code = next((code for kind, code in _REFUSALS if isinstance(error, kind)), "refused")
        _log.info("transactional_refused", message=str(self._held.id), title=error.title)
        await links.works(self._resources, self._held.org_id, link)
        await self._fail(code, number)

    async def _fail(self, code: str, number: int) -> None:
        async with self._db.transaction(self._held.org_id) as session:
            ended = await repository.end(
                session, self._held.id, hand_ins=number, status="failed", error=code
            )
            if ended:
                # an earlier hand-in in doubt stays in doubt
                await repository.settle_recipients(session, self._held.id, "rejected", reason=code)

    async def _record(
        self, link: links.Link, outcomes: Sequence[RecipientOutcome], number: int
    ) -> None:
        held = self._held
        answered = {mailbox_of(each.email): each for each in outcomes}
        async with self._db.transaction(held.org_id) as session:
            people = await repository.recipients(session, held.id)
            rows = [
                words.of_outcome(person.no, answered[address], webhook=link.has_webhook)
                for person in people
                if person.email and (address := mailbox_of(person.email)) in answered
            ]
            if not rows:
                # an answer that names nobody tells nothing
                self._status = "sending"
            elif await repository.end(session, held.id, hand_ins=number, status="submitted"):
                await repository.store_outcomes(session, held.id, rows)
                await repository.settle_recipients(session, held.id, "unconfirmed")
        if not rows:
            await self.later("answer_lost", LOOK_AT[0])

    # ---------------------------------------------------------------------------- look it up

    async def _look_up(self, link: links.Link) -> bool:
        """Looks for the message at Mailchimp; True where it is to be handed in now."""
        held = self._held
        try:
            rows = await self._found(link)
        except ThrottledError as error:
            await self.later("answer_lost", max(error.retry_after or 0.0, 60.0))
            return False
        except CredentialError:
            raise
        except MailchimpError as error:
            _log.info("transactional_look_up_failed", error=type(error).__name__)
            await self.later("answer_lost", 20.0)
            return False
        async with self._db.transaction(held.org_id) as session:
            await repository.store_outcomes(session, held.id, rows)
            people = await repository.recipients(session, held.id)
        known = any(person.provider_id for person in people)
        missing = any(_open(person.status) for person in people)
        if known and (not missing or held.look_first or self._is_time_up()):
            await self._end_found(missing=missing)
            return False
        if held.look_first:
            return True
        if not self._is_time_up():
            self._looks += 1
            age = held.age or 0.0
            soon = next((at for at in LOOK_AT if at > age + 1.0), GIVE_UP_SECONDS)
            await self.later("answer_lost", max(soon - age, 1.0))
            return False
        if held.allow_duplicates and held.hand_ins < MOST_HAND_INS:
            self._status = "queued"
            await self._release_for_another()
            return False
        await self._end_unconfirmed()
        return False

    async def _found(self, link: links.Link) -> list[dict[str, Any]]:
        held = self._held
        if held.handed_in_at is None or held.account_id != link.account_id:
            return []  # another account is connected now: it cannot be asked there
        found = await link.client.find_by_metadata(
            hooks.METADATA_NAME, held.id.hex, date_from=(held.handed_in_at - _CLOCKS_APART).date()
        )
        await links.works(self._resources, held.org_id, link)
        async with self._db.transaction(held.org_id) as session:
            people = await repository.recipients(session, held.id)
        numbers = {mailbox_of(p.email): p.no for p in people if p.email}
        # of several hand-ins the newest counts, which is listed first
        rows = {
            numbers[address]: words.of_info(numbers[address], each, webhook=link.has_webhook)
            for each in reversed(found)
            if (address := mailbox_of(each.email)) in numbers
        }
        return list(rows.values())

    def _is_time_up(self) -> bool:
        # by the age at the claim: the search that found nothing was made after that
        return (self._held.age or 0.0) >= GIVE_UP_SECONDS

    async def _end_found(self, *, missing: bool) -> None:
        held = self._held
        async with self._db.transaction(held.org_id) as session:
            await repository.end(session, held.id, hand_ins=held.hand_ins, status="submitted")
            if missing:
                await repository.settle_recipients(session, held.id, "unconfirmed")

    async def _release_for_another(self) -> None:
        _log.warning("transactional_handed_in_again", message=str(self._held.id))
        await self.later("not_found_in_time", 0.0)

    async def _end_unconfirmed(self) -> None:
        held = self._held
        async with self._db.transaction(held.org_id) as session:
            ended = await repository.end(
                session, held.id, hand_ins=held.hand_ins, status="unconfirmed",
                error="not_found_in_time",
            )  # fmt: skip
            if ended:
                await repository.settle_recipients(session, held.id, "unconfirmed")
                audit.record(
                    session,
                    Actor.system(
                        held.org_id, "mailchimp-transactional-send", request_id=held.request_id
                    ),
                    AuditAction.TRANSACTIONAL_UNCONFIRMED,
                    entity="message",
                    entity_id=held.id,
                    diff={"status": ["sending", "unconfirmed"], "handIns": held.hand_ins},
                )
        _log.warning("transactional_unconfirmed", message=str(held.id))


def _open(status: str) -> bool:
    return status in ("pending", "unconfirmed")


async def _call(
    link: links.Link, payload: Payload, message: Message
) -> tuple[RecipientOutcome, ...]:
    """The one call that must not be made twice."""
    if payload.template is None:
        return await link.client.send(message)
    return await link.client.send_template(payload.template, message, content=payload.content)
