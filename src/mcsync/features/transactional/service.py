"""The rules of messages: taken in, shown, cancelled, sent again; templates and rejects as they are there.

A message is stored with the request and handed over by a job (handover.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

import orjson
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import keyed_digest, keyed_hash
from mcsync.core.db import after_commit
from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError, TooLargeError
from mcsync.core.jobs import TRANSACTIONAL_SEND
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.transactional import links, repository
from mcsync.features.transactional.content import SendInput, SendTemplateInput
from mcsync.features.transactional.models import TransactionalMessage, TransactionalRecipient
from mcsync.features.transactional.payload import (
    Payload,
    Person,
    message_of,
    payload_of,
    people_of,
)
from mcsync.features.transactional.schemas import (
    MessageDetail,
    MessageStatus,
    MessageView,
    RecipientStatus,
    RecipientView,
    RejectList,
    RejectView,
    RenderInput,
    RenderView,
    StatusCount,
    TemplateList,
    TemplateView,
)
from mcsync.mailchimp import mailbox_of, spelled_domain, spellings
from mcsync.mailchimp.transactional import (
    MergeVar,
    Message,
    MessageTooLargeError,
    TemplateContent,
    UnknownTemplateError,
    check_size,
)

_FURTHEST: Final = timedelta(days=366)
_WAITING: Final = ("queued", "sending")
_DETAILS: Final = {
    "transactional_not_connected": "No Transactional account is connected; it goes once one is.",
    "mailchimp_key_refused": "Mailchimp refuses the key; it goes once transactional.connect has a new one.",
    "api_key_unreadable": "The stored key cannot be opened; see transactional.getConnection.",
    "content_unreadable": "The stored content cannot be opened with this server's master keys.",
    "mailchimp_busy": "Mailchimp takes no more mail for the moment; it is tried again.",
    "mailchimp_unavailable": "Mailchimp could not be reached; it is tried again.",
    "payment_required": "The Transactional account has to pay before it may do this.",
    "template_not_found": "There is no such template at Mailchimp Transactional.",
    "subaccount_not_found": "There is no such subaccount at Mailchimp Transactional.",
    "refused": "Mailchimp refused the message as a whole: an address, name or value is not as it must be.",
    "all_suppressed": "Every recipient was erased or is suppressed; nothing was handed over.",
    "answer_lost": "Mailchimp's answer was lost; the message is being looked for there.",
    "not_found_in_time": "Mailchimp's answer was lost and the message was not to be found there within 15"
    " minutes. It may have gone: look at Mailchimp, or send it again with transactional.resend.",
}


def context(org_id: UUID, message_id: UUID) -> str:
    """Where a message's content is sealed for."""
    return f"org:{org_id}|transactional_message|{message_id}"


def own_context(org_id: UUID, message_id: UUID, no: int) -> str:
    """Where what belongs to one recipient is sealed for."""
    return f"org:{org_id}|transactional_recipient|{message_id}|{no}"


async def send(
    resources: Resources, actor: Actor, given: SendInput | SendTemplateInput
) -> MessageView:
    """Stores a message and wakes a worker; with a known idempotency key answers the message there is.

    Raises ``TooLargeError`` (``message_too_large``), ``BadRequestError`` (``send_at_too_far``) and
    ``ConflictError`` (``transactional_not_connected``, ``idempotency_key_reused``); then nothing is stored.
    """
    if given.send_at is not None and given.send_at > resources.clock() + _FURTHEST:
        detail = "Mailchimp takes times up to a year ahead, and so does mcsync."
        raise BadRequestError(detail, code="send_at_too_far")
    message_id = uuid7()
    message = message_of(given, message_id.hex)
    _check_size(message)
    sealed = await asyncio.to_thread(
        _seal, resources, actor.org_id, message_id, payload_of(given, message), people_of(message)
    )
    async with resources.db.transaction(actor.org_id) as session:
        await links.require_live(session)
        key = await resources.hash_keys.hash_key(session)
        own_key = (
            keyed_digest(key, "idempotency_key", given.idempotency_key)
            if given.idempotency_key
            else None
        )
        values = {
            "id": message_id,
            "idempotency_digest": own_key,
            "request_digest": keyed_digest(key, "transactional_message", _request(given)),
            "template": getattr(given, "template", None),
            "tags": list(message.tags),
            "payload": sealed.payload,
            "size": sealed.size,
            "send_at": given.send_at,
            "allow_duplicates": given.allow_duplicates,
            # without one the database's own clock decides, which is the one that is compared with
            **({"next_attempt_at": given.send_at} if given.send_at else {}),
            "request_id": actor.request_id,
        }
        people = [
            {
                "no": each.no,
                "email": each.email,
                "address_key": keyed_hash(key, "address", mailbox_of(each.email)),
                "type": each.type,
                "own": each.own,
            }
            for each in sealed.people
        ]
        if not await repository.add(session, values, people):
            found = await repository.get_by_key(session, own_key or b"")
            if found is None or found.request_digest != values["request_digest"]:
                raise ConflictError(
                    "Another message has this idempotencyKey; make a new key for each new message.",
                    code="idempotency_key_reused",
                )
            return (await _views(session, [found]))[0]
        await repository.suppress(session, message_id)
        audit.record(
            session, actor, AuditAction.TRANSACTIONAL_SEND, entity="message", entity_id=message_id,
            diff={
                "recipients": len(people), "template": values["template"], "sendAt": given.send_at,
            },
        )  # fmt: skip
        if given.send_at is None or given.send_at <= resources.clock():
            after_commit(session, lambda: _ring(resources, message_id, actor.org_id))
        stored = await repository.get(session, message_id)
        assert stored is not None
        return (await _views(session, [stored]))[0]


async def get(resources: Resources, actor: Actor, message_id: UUID) -> MessageDetail:
    """A message with its recipients. Raises ``NotFoundError`` (``message_not_found``)."""
    async with resources.db.transaction(actor.org_id) as session:
        found = await _require(session, message_id)
        (view,) = await _views(session, [found])
        people = await repository.recipients(session, message_id)
    return MessageDetail(**view.model_dump(), people=[_person(each) for each in people])


async def list_messages(
    resources: Resources,
    actor: Actor,
    page: PageParams,
    *,
    status: MessageStatus | None = None,
    tag: str | None = None,
    email: str | None = None,
) -> Page[MessageView]:
    """Messages, newest first."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        key = await resources.hash_keys.hash_key(session)
        wanted = keyed_hash(key, "address", mailbox_of(email)) if email else None
        rows = await repository.list_messages(
            session, limit=page.limit + 1, before=None if after is None else after[0],
            status=status, tag=tag, address_key=wanted,
        )  # fmt: skip
        shown = rows[: page.limit]
        views = await _views(session, shown)
    return Page(
        items=views, next_cursor=encode_cursor(shown[-1].id) if len(rows) > page.limit else None
    )


async def cancel(resources: Resources, actor: Actor, message_id: UUID) -> MessageView:
    """Takes a message back before it is handed over.

    Raises ``NotFoundError`` (``message_not_found``) and ``ConflictError`` (``not_cancellable``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        if not await repository.cancel(session, message_id):
            found = await _require(session, message_id)
            raise ConflictError(
                f"The message is {found.status}: Mailchimp has it, or may have it, or it is at rest.",
                code="not_cancellable",
            )
        audit.record(
            session, actor, AuditAction.TRANSACTIONAL_CANCEL, entity="message",
            entity_id=message_id, diff={"status": ["queued", "cancelled"]},
        )  # fmt: skip
        return (await _views(session, [await _require(session, message_id)]))[0]


async def resend(resources: Resources, actor: Actor, message_id: UUID) -> MessageView:
    """Queues an unconfirmed message once more.

    Raises ``NotFoundError`` (``message_not_found``) and ``ConflictError`` (``not_unconfirmed``,
    ``content_gone``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        if not await repository.resend(session, message_id):
            found = await _require(session, message_id)
            if found.status == "unconfirmed":
                raise ConflictError("Its content is no longer kept.", code="content_gone")
            message = f"The message is {found.status}; only an unconfirmed one is sent again."
            raise ConflictError(message, code="not_unconfirmed")
        audit.record(
            session, actor, AuditAction.TRANSACTIONAL_RESEND, entity="message",
            entity_id=message_id, diff={"status": ["unconfirmed", "queued"]},
        )  # fmt: skip
        after_commit(session, lambda: _ring(resources, message_id, actor.org_id))
        return (await _views(session, [await _require(session, message_id)]))[0]


async def list_templates(
    resources: Resources, actor: Actor, *, label: str | None = None
) -> TemplateList:
    """The templates as they are at Mailchimp now."""
    async with links.calling(resources, actor.org_id) as link:
        found = await link.client.templates(label)
    return TemplateList(
        items=[
            TemplateView(
                template=each.slug,
                name=each.name,
                labels=list(each.labels),
                subject=each.publish_subject or each.subject or None,
                from_email=each.publish_from_email or each.from_email or None,
                from_name=each.publish_from_name or each.from_name or None,
                published_at=each.published_at,
                updated_at=each.updated_at,
            )
            for each in found
        ]
    )


async def render_template(resources: Resources, actor: Actor, given: RenderInput) -> RenderView:
    """The HTML of a template, filled in. Raises ``NotFoundError`` (``template_not_found``)."""
    content = [
        TemplateContent(name=name, content=part) for name, part in given.template_content.items()
    ]
    values = [MergeVar(name=name, content=value) for name, value in given.merge_vars.items()]
    async with links.calling(resources, actor.org_id) as link:
        try:
            html = await link.client.render_template(
                given.template, content=content, merge_vars=values
            )
        except UnknownTemplateError as error:
            message = "There is no such template; transactional.listTemplates shows all."
            raise NotFoundError(message, code="template_not_found") from error
    return RenderView(html=html)


async def list_rejects(
    resources: Resources, actor: Actor, *, email: str | None = None
) -> RejectList:
    """The rejects list as it is at Mailchimp now; of an address in all spellings of its domain."""
    asked = (email,) if email is None or spelled_domain(email) is None else spellings(email)
    async with links.calling(resources, actor.org_id) as link:
        found = [each for one in asked for each in await link.client.rejects(one)]
    return RejectList(
        items=[
            RejectView(
                email=each.email,
                reason=each.reason,
                detail=each.detail or None,
                created_at=each.created_at,
                last_event_at=each.last_event_at,
                expires_at=each.expires_at,
            )
            for each in found
        ]
    )


def _check_size(message: Message) -> None:
    try:
        check_size(message)
    except MessageTooLargeError as error:
        raise TooLargeError(
            f"The {error.part} has {error.size:,} bytes as it is sent, attachments as base64 included;"
            f" Mailchimp takes {error.limit:,}.",
            code="message_too_large",
            extra={"size": error.size, "limit": error.limit},
        ) from error


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A message as it is stored. ``size``: bytes of the content before it was sealed."""

    payload: str
    people: list[Person]
    size: int


def _seal(
    resources: Resources,
    org_id: UUID,
    message_id: UUID,
    payload: Payload,
    people: list[Person],
) -> _Sealed:
    packed, keys = payload.pack(), resources.keys
    return _Sealed(
        keys.seal(packed, context=context(org_id, message_id)),
        [
            replace(
                person,
                own=person.own
                and keys.seal(person.own, context=own_context(org_id, message_id, person.no)),
            )
            for person in people
        ],
        len(packed.encode()),
    )


def _request(given: SendInput | SendTemplateInput) -> str:
    """The request as it is compared with a later one under the same key."""
    return orjson.dumps(given.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS).decode()


async def _ring(resources: Resources, message_id: UUID, org_id: UUID) -> None:
    await resources.jobs.ring(TRANSACTIONAL_SEND, message_id, org_id)


async def _require(session: Any, message_id: UUID) -> TransactionalMessage:
    found = await repository.get(session, message_id)
    if found is None:
        message = "There is no such message; transactional.list shows all."
        raise NotFoundError(message, code="message_not_found")
    return found


async def _views(session: Any, rows: list[TransactionalMessage]) -> list[MessageView]:
    counted = await repository.outcomes(session, [row.id for row in rows])
    return [_view(row, counted.get(row.id, {})) for row in rows]


def _view(row: TransactionalMessage, counted: dict[str, int]) -> MessageView:
    return MessageView(
        id=row.id,
        status=cast("MessageStatus", row.status),
        error_code=row.error_code,
        error_detail=_DETAILS.get(row.error_code or ""),
        template=row.template,
        tags=row.tags,
        recipients=sum(counted.values()),
        outcomes=[
            StatusCount(status=cast("RecipientStatus", status), count=count)
            for status, count in counted.items()
        ],
        send_at=row.send_at,
        allow_duplicates=row.allow_duplicates,
        hand_ins=row.hand_ins,
        created_at=row.created_at,
        handed_in_at=row.handed_in_at,
        submitted_at=row.submitted_at,
        next_attempt_at=row.next_attempt_at if row.status in _WAITING else None,
    )


def _person(row: TransactionalRecipient) -> RecipientView:
    return RecipientView(
        email=row.email,
        type=cast("Any", row.type),
        status=cast("RecipientStatus", row.status),
        reason=row.reason,
        mailchimp_id=row.provider_id,
        opens=row.opens,
        clicks=row.clicks,
        last_event_at=row.last_event_at,
    )
