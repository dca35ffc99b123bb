"""The rules of single subscribers: who may be subscribed how, and what is recorded of it.

Mailchimp is called between transactions. A call that may subscribe somebody is on record from before it
is sent, so that a withdrawal recorded meanwhile waits for its answer and has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor, Scope
from mcsync.core.errors import (
    BadRequestError,
    ConflictError,
    FieldProblem,
    ForbiddenError,
    McsyncError,
    NotFoundError,
)
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audiences import service as audiences
from mcsync.features.audiences.barrier import lock_name
from mcsync.features.audiences.models import Audience
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.preferences import by_address
from mcsync.features.preferences.arrivals import merge_and_record
from mcsync.features.preferences.by_address import Address
from mcsync.features.preferences.schemas import Proof
from mcsync.features.subscribers import members, repository
from mcsync.features.subscribers.schemas import (
    CreateOrUpdateInput,
    CreateOrUpdateResult,
    SubscribeInput,
    SubscribeResult,
    SubscriberView,
    SubscriptionInput,
    UnsubscribeInput,
    UnsubscribeResult,
    UpdateInput,
)
from mcsync.mailchimp import (
    InvalidRequestError,
    MailchimpClient,
    MailchimpError,
    Member,
    MethodNotAllowedError,
    RefusalCode,
    RefusedError,
    TransientError,
    consent_proof,
)
from mcsync.mailchimp import NotFoundError as NotThereError

_CLOCKS_DIFFER: Final = timedelta(minutes=5)
VALUES_REFUSED: Final = "values_refused"
"""The person was asked, but without the optional values, since Mailchimp refused one of them."""
_ABOUT_VALUES: Final = frozenset(
    {RefusalCode.INVALID_VALUE, RefusalCode.INCOMPLETE_ADDRESS, RefusalCode.OTHER}
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of Mailchimp; ``request_id``: the form post behind it, if there is one.

    ``without``: the merge fields to try with where Mailchimp refuses a value. ``note``: what the request is
    recorded with when it goes well.
    """

    wanted: str
    merge_fields: Mapping[str, Any]
    source: str
    language: str | None = None
    proof: Mapping[str, Any] = field(default_factory=dict)
    consent_given_at: datetime | None = None
    action: AuditAction | None = None
    request_id: UUID | None = None
    without: Mapping[str, Any] | None = None
    note: str | None = None


async def get_status(
    resources: Resources, actor: Actor, list_id: str, email: str
) -> SubscriberView:
    """How Mailchimp has the address now. Raises ``NotFoundError`` for the audience only."""
    audience = await audiences.find(resources, actor.org_id, list_id)
    address = await by_address.address_of(actor.org_id, resources.hash_keys, email)
    async with connection.calling(resources, actor.org_id) as link:
        member = await members.find(link.client, audience.list_id, address)
    return await _view(resources, actor, audience, address, member)


async def subscribe(resources: Resources, actor: Actor, given: SubscribeInput) -> SubscribeResult:
    """Asks a person to confirm, or subscribes them on recorded proof.

    Raises ``ConflictError`` for one who is there already, was erased, or may only come back by themselves;
    ``BadRequestError`` for fields that are missing or wrong.
    """
    wish = _wish(resources, actor, given, AuditAction.SUBSCRIBERS_SUBSCRIBE)
    audience, address = await _target(resources, actor, given.audience_id, given.email)
    async with connection.calling(resources, actor.org_id) as link:
        member = await members.find(link.client, audience.list_id, address)
        if member is not None and member.status in members.ON_LIST:
            raise members.on_list(member.status)
        fields = members.checked_fields(audience, given.merge_fields, required=member is None)
        wish = replace(wish, merge_fields=fields)
        member = await carry(resources, actor, link.client, audience, address, wish, member)
    shown = await _view(resources, actor, audience, address, member)
    direct = member.status == "subscribed"
    return SubscribeResult(status="subscribed" if direct else "pending", subscriber=shown)


async def create_or_update(
    resources: Resources, actor: Actor, given: CreateOrUpdateInput
) -> CreateOrUpdateResult:
    """Changes a member's fields or makes the member, in the order that is asked for.

    A member that exists keeps its status; one that is archived is off the list, and comes back as one who
    is new. Raises what :func:`subscribe` and :func:`update` raise.
    """
    wish = _wish(resources, actor, given, AuditAction.SUBSCRIBERS_CREATE_OR_UPDATE)
    audience, address = await _target(resources, actor, given.audience_id, given.email)
    fields = members.checked_fields(audience, given.merge_fields, required=False)
    wish = replace(wish, merge_fields=fields)
    changes = members.fields_for("", fields, language=wish.language)
    created = given.strategy == "create_first"
    there: Member | None = None
    async with connection.calling(resources, actor.org_id) as link:
        if members.has_two_spellings(address):
            # created without a look it might become a second member of the same mailbox
            created = await members.find(link.client, audience.list_id, address) is None
        if not created:
            try:
                there = member = await _patch(link.client, audience, address, changes)
            except NotThereError:
                created = True
            else:
                # a PATCH leaves who is archived off the list, a POST would bring them back (MC 4.3)
                created = member.status == "archived"
        if created:
            try:
                member = await carry(resources, actor, link.client, audience, address, wish, there)
            except _ExistsError:
                created = False
                member = await _patch(link.client, audience, address, changes)
    if not created:
        await _record(resources, actor, audience, member, wish.action, {"created": False})
    shown = await _view(resources, actor, audience, address, member)
    return CreateOrUpdateResult(created=created, subscriber=shown)


async def update(resources: Resources, actor: Actor, given: UpdateInput) -> SubscriberView:
    """Changes what is named of a member. Raises ``NotFoundError`` (``not_on_list``)."""
    language = members.read_language(given.language)
    if not given.merge_fields and language is None and given.vip is None:
        message = "Name at least one of mergeFields, language and vip."
        raise BadRequestError(message, code="nothing_to_change")
    audience, address = await _target(resources, actor, given.audience_id, given.email)
    fields = members.checked_fields(audience, given.merge_fields, required=False)
    changes = members.fields_for("", fields, language=language, vip=given.vip)
    async with connection.calling(resources, actor.org_id) as link:
        try:
            member = await _patch(link.client, audience, address, changes)
        except NotThereError as error:
            raise _not_on_list() from error
    named = sorted([*fields, *(name for name in changes if name != "merge_fields")])
    await _record(
        resources, actor, audience, member, AuditAction.SUBSCRIBERS_UPDATE, {"fields": named}
    )
    return await _view(resources, actor, audience, address, member)


async def unsubscribe(
    resources: Resources, actor: Actor, given: UnsubscribeInput
) -> UnsubscribeResult:
    """A withdrawal of the address and of every contact with it, in every audience.

    On its way to Mailchimp when this returns. Raises ``ConflictError`` (``suppressed``) for an erased
    address that nobody has and that is on no list: there is nothing to withdraw.
    """
    audience = await audiences.find(resources, actor.org_id, given.audience_id)
    address = await by_address.address_of(actor.org_id, resources.hash_keys, given.email)
    if not await _has_something_to_withdraw(resources, actor, address):
        raise members.suppressed()
    async with resources.db.transaction(actor.org_id) as session:
        contacts, ordered = await by_address.withdraw(
            session, actor, address, source=given.source, proof=_told(given.proof),
            jobs=resources.jobs,
        )  # fmt: skip
        audit.record(
            session, actor, AuditAction.SUBSCRIBERS_UNSUBSCRIBE, entity="audience",
            entity_id=audience.id, diff={"contacts": contacts, "audiences": ordered},
        )  # fmt: skip
    return UnsubscribeResult(
        audience_id=audience.list_id, status="opted_out", contacts=contacts, audiences=ordered
    )


async def archive(resources: Resources, actor: Actor, list_id: str, email: str) -> SubscriberView:
    """Archives a member. One that is archived already is answered as it is.

    Raises ``NotFoundError`` (``not_on_list``) and ``ConflictError`` (``cannot_archive``).
    """
    audience, address = await _target(resources, actor, list_id, email)
    async with connection.calling(resources, actor.org_id) as link:
        there = await _there(link.client, audience, address)
        try:
            await link.client.archive_member(audience.list_id, there.hash.hex)
        except (MethodNotAllowedError, NotThereError):
            member = await link.client.find_member(audience.list_id, there.hash.hex)
            if member is None:
                raise _not_on_list() from None
            if member.status != "archived":
                raise ConflictError(
                    "Mailchimp does not archive a member who is pending or bounced.",
                    code="cannot_archive", extra={"memberStatus": member.status},
                ) from None  # fmt: skip
        else:
            member = await link.client.member(audience.list_id, there.hash.hex)
    await _record(resources, actor, audience, member, AuditAction.SUBSCRIBERS_ARCHIVE, {})
    return await _view(resources, actor, audience, address, member)


# ---- the call that may subscribe somebody


@dataclass(frozen=True, slots=True)
class _Taken:
    """A call that is about to be made, and the request behind it."""

    call_id: UUID
    request_id: UUID
    asked_before: datetime | None


class _ExistsError(ConflictError):
    """Mailchimp says that the member exists."""


_ON_THE_LIST = {
    RefusalCode.EXISTS, RefusalCode.COMPLIANCE, RefusalCode.UNSUBSCRIBED, RefusalCode.CLEANED,
    RefusalCode.ARCHIVED,
}  # fmt: skip
"""A POST of a member who left or bounced is refused by that, not as one that exists (MC 21)."""


async def carry(
    resources: Resources, actor: Actor, client: MailchimpClient, audience: Audience,
    address: Address, wish: Wish, member: Member | None,
) -> Member:  # fmt: skip
    """Takes a wish to Mailchimp: recorded, called, and its answer recorded.

    ``member``: as it was just read, None where it is not on the list. Raises ``McsyncError`` for what
    Mailchimp refuses or our own records forbid, and ``MailchimpError``.
    """
    there = members.address_there(address, member)
    if member is not None:
        if member.status == "cleaned":
            raise members.bounced()
        if wish.wanted == "subscribed":
            async with resources.db.transaction(actor.org_id) as session:
                by_us = await repository.unsubscribed_by_us(session, audience.id, there)
            if members.left_by_themselves(member, by_us=by_us):
                raise members.left()
    async with resources.db.transaction(actor.org_id, behind=lock_name(audience.id)) as session:
        taken = await _take(resources, session, actor, audience, address, there, wish)
    try:
        answered = await _call(client, audience, there, wish, member)
    except MailchimpError as error:
        if wish.without is not None and member is None and _may_be_a_value(error):
            await _not_taken(resources, actor, audience, there, taken, None)
            lesser = replace(
                wish, merge_fields=wish.without, language=None, without=None, note=VALUES_REFUSED
            )
            return await carry(resources, actor, client, audience, address, lesser, member)
        if not isinstance(error, RefusedError):
            await _no_answer(resources, actor, taken, error)
            raise
        await _not_taken(resources, actor, audience, there, taken, error.code.value)
        meant = members.refusal(error)
        if error.code in _ON_THE_LIST:
            raise _ExistsError(meant.detail, code=meant.code) from error
        raise meant from error
    async with resources.db.transaction(actor.org_id) as session:
        await merge_and_record(session, actor, audience.id, [answered], resources.hash_keys)
        await repository.end_call(session, taken.call_id, error=None, known=True)
        state = {"pending": "asked", "subscribed": "subscribed"}.get(answered.status, "refused")
        outcome = answered.status if state == "refused" else wish.note
        await repository.end_request(session, taken.request_id, state=state, outcome=outcome)
    return answered


async def _take(
    resources: Resources, session: AsyncSession, actor: Actor, audience: Audience,
    address: Address, there: Address, wish: Wish,
) -> _Taken:  # fmt: skip
    """What is recorded before the call, all at once. ``there``: the address as the member has it."""
    if await by_address.is_suppressed(session, address):
        raise members.suppressed()
    call_id = await repository.take_call(session, audience.id, {address.hash, there.hash})
    if call_id is None:
        raise members.withdrawal_under_way()
    if wish.consent_given_at is not None:
        await by_address.opt_in(
            session, actor, address, at=wish.consent_given_at, source=wish.source,
            proof=wish.proof, jobs=resources.jobs,
        )  # fmt: skip
    await by_address.ensure_recorded(session, address)
    asked_at = resources.clock() if wish.wanted == "pending" else None
    asked_before = await repository.mark_requested(session, audience.id, there, asked_at)
    request_id = wish.request_id or await repository.add_request(
        session, audience.id, address, wanted=wish.wanted, via="api", source=wish.source,
        proof=wish.proof, state="asking",
    )  # fmt: skip
    if wish.action is not None:
        audit.record(
            session, actor, wish.action, entity="audience", entity_id=audience.id,
            diff={"status": wish.wanted, "request": request_id},
        )  # fmt: skip
    return _Taken(call_id, request_id, asked_before)


async def _call(
    client: MailchimpClient, audience: Audience, address: Address, wish: Wish,
    member: Member | None,
) -> Member:  # fmt: skip
    ip_address = _ip(wish.proof)
    body = members.fields_for(
        wish.wanted, wish.merge_fields, language=wish.language, ip_signup=ip_address,
        **consent_proof(timestamp_opt=wish.consent_given_at,
                        ip_opt=ip_address if wish.consent_given_at else None),
    )  # fmt: skip
    if member is None:
        return await client.add_member(audience.list_id, {"email_address": address.email, **body})
    if wish.request_id is not None:
        # nobody has shown yet that the address is theirs: a stranger may not change what is known
        body = {"status": wish.wanted}
    if member.status == "archived":
        # a PATCH leaves some archived; a PUT with a status brings them back (MC 4.4)
        body["email_address"] = address.email
        return await client.put_member(audience.list_id, address.hash.hex, body)
    return await client.update_member(audience.list_id, address.hash.hex, body)


async def _not_taken(
    resources: Resources, actor: Actor, audience: Audience, address: Address, taken: _Taken,
    code: str | None,
) -> None:  # fmt: skip
    """Mailchimp refused the call. ``code`` None: it is tried once more with less, so the request stays."""
    async with resources.db.transaction(actor.org_id) as session:
        await repository.take_back_mark(session, audience.id, address.hash, taken.asked_before)
        await repository.end_call(session, taken.call_id, error=code or VALUES_REFUSED, known=True)
        if code is not None:
            await repository.end_request(session, taken.request_id, state="refused", outcome=code)


def _may_be_a_value(error: MailchimpError) -> bool:
    """Whether a field's value, or the language, may be what Mailchimp does not take."""
    if isinstance(error, RefusedError):
        return error.code in _ABOUT_VALUES
    return isinstance(error, InvalidRequestError)


async def _no_answer(
    resources: Resources, actor: Actor, taken: _Taken, error: MailchimpError
) -> None:
    """The call may have been applied; a withdrawal waits for it a while. A form post is tried again."""
    unknown = isinstance(error, TransientError) and error.outcome_unknown
    async with resources.db.transaction(actor.org_id) as session:
        await repository.end_call(
            session, taken.call_id, error=type(error).__name__, known=not unknown
        )
        await repository.end_asking(session, taken.request_id, type(error).__name__)


# ---- common parts


def _wish(
    resources: Resources, actor: Actor, given: SubscriptionInput, action: AuditAction
) -> Wish:
    """Raises ``ForbiddenError`` and ``BadRequestError`` where ``subscribed`` lacks scope or proof."""
    proof = _told(given.proof)
    at = given.consent_given_at
    language = members.read_language(given.language)
    if given.status == "pending":
        if at is not None:
            raise _bad_time("only_with_subscribed", "Send consentGivenAt only with subscribed.")
        return Wish("pending", given.merge_fields, given.source, language, proof, None, action)
    if not actor.may(Scope.SUBSCRIBERS_DIRECT):
        message = f"The status subscribed needs the scope {Scope.SUBSCRIBERS_DIRECT}."
        raise ForbiddenError(message)
    lacking = [name for name, there in (("consentGivenAt", at), ("proof", proof)) if not there]
    if lacking or at is None:
        raise BadRequestError(
            "Who is subscribed without being asked must have consented before, and it must be provable.",
            code="proof_required",
            errors=[
                FieldProblem(f"/{name}", "required", "Needed with the status subscribed.")
                for name in lacking
            ],
        )
    if at > resources.clock() + _CLOCKS_DIFFER:
        raise _bad_time("in_the_future", "consentGivenAt lies in the future.")
    return Wish("subscribed", given.merge_fields, given.source, language, proof, at, action)


async def _target(
    resources: Resources, actor: Actor, list_id: str, email: str
) -> tuple[Audience, Address]:
    """The audience and the address; raises ``NotFoundError`` and ``ConflictError`` (``suppressed``)."""
    audience = await audiences.find(resources, actor.org_id, list_id)
    address = await by_address.address_of(actor.org_id, resources.hash_keys, email)
    async with resources.db.transaction(actor.org_id) as session:
        if await by_address.is_suppressed(session, address):
            raise members.suppressed()
    return audience, address


async def _has_something_to_withdraw(resources: Resources, actor: Actor, address: Address) -> bool:
    """Always, but for an erased address: only where a contact shares it, or where the person came back.

    Mailchimp's own forms take them back without us. Else the withdrawal would only be a trace of them.
    """
    async with resources.db.transaction(actor.org_id) as session:
        if not await by_address.is_suppressed(session, address):
            return True
        if await repository.is_held(session, address):
            return True
        lists = await repository.connected_lists(session)
    if not lists:
        return False
    async with connection.calling(resources, actor.org_id) as link:
        for list_id in lists:
            member = await members.find(link.client, list_id, address)
            if member is not None and member.status in members.ON_LIST:
                return True
    return False


async def _there(client: MailchimpClient, audience: Audience, address: Address) -> Address:
    """The address as its member has it; only one that has two spellings is looked up for that."""
    if not members.has_two_spellings(address):
        return address
    return members.address_there(address, await members.find(client, audience.list_id, address))


async def _patch(
    client: MailchimpClient, audience: Audience, address: Address, changes: Mapping[str, Any]
) -> Member:
    there = await _there(client, audience, address)
    try:
        return await client.update_member(audience.list_id, there.hash.hex, changes)
    except RefusedError as error:
        raise members.refusal(error) from error


async def _record(
    resources: Resources, actor: Actor, audience: Audience, member: Member,
    action: AuditAction | None, diff: Mapping[str, object],
) -> None:  # fmt: skip
    async with resources.db.transaction(actor.org_id) as session:
        await merge_and_record(session, actor, audience.id, [member], resources.hash_keys)
        if action is not None:
            audit.record(
                session, actor, action, entity="audience", entity_id=audience.id, diff=diff
            )


async def _view(
    resources: Resources, actor: Actor, audience: Audience, address: Address, member: Member | None
) -> SubscriberView:
    async with resources.db.transaction(actor.org_id) as session:
        consent = await by_address.recorded(session, address)
    return members.view(audience.list_id, member, consent)


def _told(proof: Proof | None) -> dict[str, Any]:
    return proof.model_dump(by_alias=True, exclude_none=True) if proof else {}


def _ip(proof: Mapping[str, Any]) -> str | None:
    """The network address in a proof, where Mailchimp would take it."""
    try:
        return consent_proof(ip_opt=proof.get("ipAddress")).get("ip_opt")
    except ValueError:
        return None


def _not_on_list() -> NotFoundError:
    return NotFoundError(
        "This address is not on the list. subscribers.subscribe asks the person to confirm.",
        code="not_on_list",
    )


def _bad_time(code: str, message: str) -> McsyncError:
    return BadRequestError(
        message,
        code="invalid_consent_time",
        errors=[FieldProblem("/consentGivenAt", code, message)],
    )
