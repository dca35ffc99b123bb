"""Posts of public forms: taken in without a word about the address, worked behind the scenes.

Every post takes the same steps and gets the same answer, whoever the address belongs to: it is counted,
checked against the audience's fields, stored, answered. What is to be done is decided by a worker.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog

from mcsync.core.auth import Actor
from mcsync.core.crypto import keyed_hash
from mcsync.core.db import after_commit
from mcsync.core.errors import (
    BadRequestError,
    ConflictError,
    McsyncError,
    NotFoundError,
    ThrottledError,
)
from mcsync.core.jobs import FORM_POST, Due
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audiences import repository as audiences
from mcsync.features.audiences import service as audiences_service
from mcsync.features.audiences.models import Audience
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.preferences import by_address
from mcsync.features.preferences.by_address import Address
from mcsync.features.subscribers import members, repository, service
from mcsync.features.subscribers.repository import FormPost
from mcsync.features.subscribers.schemas import SubscribeInput, SubscribeResult
from mcsync.mailchimp import CredentialError, InvalidRequestError, Lane, MailchimpError
from mcsync.mailchimp.languages import language_code

_log = structlog.get_logger(__name__)

_ANSWER: Final = SubscribeResult(status="requested", subscriber=None)
LANGUAGE_UNKNOWN: Final = "language_unknown"
"""The person was asked, but in no language of theirs: Mailchimp does not have the one that was sent."""
_MINUTE, _HOUR = 60, 3600
_LEASE_SECONDS: Final = 300.0
_GIVE_UP_DAYS: Final = 7
"""A confirmation that comes later than this would surprise."""
_WAIT_FOR_WITHDRAWAL_SECONDS: Final = 5.0
_WAIT_FOR_KEY_SECONDS: Final = 300.0


async def post(
    resources: Resources, actor: Actor, given: SubscribeInput, client_ip: str | None
) -> SubscribeResult:
    """Takes in a post of a form. Raises ``ThrottledError``, ``NotFoundError`` for an audience that the
    token is not for, and ``BadRequestError`` for fields that the audience does not take.
    """
    address = await by_address.address_of(actor.org_id, resources.hash_keys, given.email)
    await _count(resources, actor, address, client_ip)
    async with resources.db.transaction(actor.org_id) as session:
        audience = await audiences.by_list_id(session, given.audience_id)
    if (
        audience is None
        or audience.gone_at is not None
        or given.audience_id not in (actor.audiences or ())
    ):
        raise _not_for_this()
    fields = await _fields(resources, actor, audience, given.merge_fields)
    if given.website:
        return _ANSWER
    language = language_code(given.language) if given.language else None
    note = LANGUAGE_UNKNOWN if given.language and language is None else None
    proof = {
        **(given.proof.model_dump(by_alias=True, exclude_none=True) if given.proof else {}),
        **({"ipAddress": client_ip} if client_ip else {}),
    }
    async with resources.db.transaction(actor.org_id) as session:
        request_id = await repository.add_request(
            session, audience.id, address, wanted="pending", via="form", source=given.source,
            proof=proof, state="queued", merge_fields=fields, language=language, note=note,
        )  # fmt: skip
        audit.record(
            session, actor, AuditAction.SUBSCRIBERS_REQUEST, entity="audience",
            entity_id=audience.id, diff={"request": request_id},
        )  # fmt: skip
        after_commit(session, partial(resources.jobs.ring, FORM_POST, request_id, actor.org_id))
    return _ANSWER


async def _fields(
    resources: Resources, actor: Actor, audience: Audience, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The merge fields, checked against the mirror; it is read once more before a post is refused by it.

    Nothing of this depends on the address, so that the answer tells nothing about it. Raises
    ``BadRequestError``.
    """
    try:
        return members.checked_fields(audience, given, required=True, values=True)
    except BadRequestError:
        read_at = audience.merge_fields_at
        if read_at is None or resources.clock() - read_at < audiences_service.FIELDS_ARE_FRESH:
            raise
        fresh = await _read_fields(resources, actor.org_id, audience)
        if fresh is None:
            raise
    return members.checked_fields(fresh, given, required=True, values=True)


async def _read_fields(resources: Resources, org_id: UUID, audience: Audience) -> Audience | None:
    """The audience with its fields as Mailchimp has them now; None where they were not read.

    At most once in five minutes: wrong posts must not become calls to Mailchimp.
    """
    seconds = int(audiences_service.FIELDS_ARE_FRESH.total_seconds())
    name = f"form:{org_id}:fields:{audience.id}"
    if await resources.limits.take(name, limit=1, seconds=seconds) is not None:
        return None
    try:
        return await audiences_service.refresh_merge_fields(resources, org_id, audience)
    except (MailchimpError, McsyncError) as error:
        _log.info("form_fields_not_read", error=type(error).__name__)
        return None


async def _count(
    resources: Resources, actor: Actor, address: Address, client_ip: str | None
) -> None:
    """Both are always counted, so that which of them refuses tells nothing either."""
    settings, limits = resources.settings, resources.limits
    key = await resources.hash_keys.hash_key(actor.org_id)
    client = keyed_hash(key, "form_client", _network(client_ip))
    waits = [
        await limits.take(
            f"form:{actor.org_id}:client:{client}",
            limit=settings.form_per_client_minute, seconds=_MINUTE,
        ),
        await limits.take(
            f"form:{actor.org_id}:address:{address.key}",
            limit=settings.form_per_address_hour, seconds=_HOUR,
        ),
    ]  # fmt: skip
    wait = max((one for one in waits if one is not None), default=None)
    if wait is not None:
        raise ThrottledError(
            "There were many posts from here, or for this address; try again later.",
            retry_after=wait,
        )


def _network(client_ip: str | None) -> str:
    """Whom to count: an address, or of IPv6 the network that one household has."""
    try:
        address = ipaddress.ip_address(client_ip or "")
    except ValueError:
        return client_ip or "unknown"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _not_for_this() -> NotFoundError:
    return NotFoundError("This token is for no audience with this id.", code="audience_not_found")


# ---- behind the scenes


DUE: Final = (Due("mcsync_due_form_posts", FORM_POST),)
"""Every form post that is due and that nobody holds."""


async def work_on(resources: Resources, org_id: UUID, request_id: UUID) -> None:
    """Takes a form post to Mailchimp, if it is due and free; harmless when called twice.

    On the bulk slots: a flood of posts must not make withdrawals wait.
    """
    async with resources.db.transaction(org_id) as session:
        taken = await repository.claim_post(session, request_id, _LEASE_SECONDS, _GIVE_UP_DAYS)
    if taken is None:
        return
    if taken.overdue:
        await _end(resources, org_id, taken, "dropped", "expired")
        return
    try:
        await _work(resources, org_id, taken)
    except CredentialError as error:
        detail = connection.refused_detail(error)
        await connection.mark_needs_attention(resources, org_id, error.code, detail)
        await _later(resources, org_id, taken, _WAIT_FOR_KEY_SECONDS, "mailchimp_key_refused")
    except InvalidRequestError:
        await _end(resources, org_id, taken, "refused", "mailchimp_refused")
    except MailchimpError as error:
        _log.info("form_post_delayed", error=type(error).__name__, status=error.status)
        await _later(resources, org_id, taken, _pause(taken), type(error).__name__)
    except McsyncError as error:
        if error.code == "withdrawal_under_way":
            await _later(resources, org_id, taken, _WAIT_FOR_WITHDRAWAL_SECONDS, error.code)
        elif isinstance(error, ConflictError) and error.code in {
            "not_connected", "api_key_unreadable", "account_mismatch",
        }:  # fmt: skip
            await _later(resources, org_id, taken, _WAIT_FOR_KEY_SECONDS, error.code)
        elif error.code == "already_on_list":
            await _end(resources, org_id, taken, "already", None)
        else:
            state = "dropped" if error.code == "suppressed" else "refused"
            await _end(resources, org_id, taken, state, error.code)


async def _work(resources: Resources, org_id: UUID, taken: FormPost) -> None:
    actor = Actor.system(org_id, FORM_POST)
    link = await connection.open_link(resources, org_id, lane=Lane.BULK)
    async with resources.db.transaction(org_id) as session:
        audience = await audiences.get(session, taken.audience_id)
    if audience is None or audience.account_id != link.account_id:
        raise ConflictError("Another account is connected.", code="account_mismatch")
    if audience.gone_at is not None:
        await _end(resources, org_id, taken, "dropped", "audience_gone")
        return
    address = Address(taken.email, taken.address_hash, taken.address_key)
    member = await members.find(link.client, audience.list_id, address)
    if member is not None and member.status in members.ON_LIST:
        await _end(resources, org_id, taken, "already", member.status)
        return
    if audience.merge_fields_at is None:
        # later posts are checked before they are taken; this one is Mailchimp's to judge
        audience = await _read_fields(resources, org_id, audience) or audience
    required = members.required_fields(audience, taken.merge_fields)
    lesser = taken.language is not None or len(required) < len(taken.merge_fields)
    wish = service.Wish(
        "pending", taken.merge_fields, "form", taken.language, taken.proof, request_id=taken.id,
        without=required if lesser else None, note=taken.note,
    )  # fmt: skip
    await service.carry(resources, actor, link.client, audience, address, wish, member)


async def _end(
    resources: Resources, org_id: UUID, taken: FormPost, state: str, outcome: str | None
) -> None:
    if state in {"refused", "dropped"}:
        _log.warning("form_post_not_taken", request=str(taken.id), status=state, code=outcome)
    async with resources.db.transaction(org_id) as session:
        await repository.end_request(session, taken.id, state=state, outcome=outcome)


async def _later(
    resources: Resources, org_id: UUID, taken: FormPost, seconds: float, error: str
) -> None:
    async with resources.db.transaction(org_id) as session:
        await repository.post_later(session, taken, seconds, error)


def _pause(taken: FormPost) -> float:
    return float(min(900, 10 * 2 ** min(taken.attempts, 7)))
