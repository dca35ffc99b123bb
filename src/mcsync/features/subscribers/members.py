"""Mailchimp's side of subscribers: how a member is shown, and what a refusal means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from mcsync.core.errors import BadRequestError, ConflictError, FieldProblem, McsyncError
from mcsync.features.audiences import mirror
from mcsync.features.audiences.field_values import PROBLEMS, problem_of, sent_as
from mcsync.features.audiences.merge_map import Field
from mcsync.features.audiences.models import Audience
from mcsync.features.preferences.by_address import Address, Recorded
from mcsync.features.subscribers.schemas import ConsentView, SubscriberView
from mcsync.mailchimp import (
    MailchimpClient,
    Member,
    RefusalCode,
    RefusedError,
    is_admin_reason,
    merge_tag,
    spellings,
    subscriber_hash,
)
from mcsync.mailchimp.languages import language_code

ON_LIST = ("subscribed", "pending")
_NOT_A_TAG = "*"
_FIRST: Final = ("subscribed", "pending", "cleaned", "unsubscribed", "transactional", "archived")
"""Which of the two members of one mailbox counts: one on the list, else the one that is harder to bring back."""


def has_two_spellings(address: Address) -> bool:
    """Whether Mailchimp may know the mailbox by two addresses."""
    return len(spellings(address.email)) > 1


async def find(client: MailchimpClient, list_id: str, address: Address) -> Member | None:
    """The member with the address, under whichever spelling of its domain it is there."""
    found = [
        member
        for spelled in spellings(address.email)
        if (member := await client.find_member(list_id, subscriber_hash(spelled))) is not None
    ]
    known = {status: place for place, status in enumerate(_FIRST)}
    return min(found, key=lambda m: known.get(m.status, len(known)), default=None)


def address_there(address: Address, member: Member | None) -> Address:
    """The address as the member has it at Mailchimp, with the hash that names it there.

    As it was given, where there is no member: so it is added.
    """
    if member is None or not has_two_spellings(address):
        return replace(address, hash=UUID(hex=subscriber_hash(address.email)))
    return replace(address, email=member.email_address, hash=mirror.member_hash(member))


def view(list_id: str, member: Member | None, consent: Recorded | None) -> SubscriberView:
    """A member, or the absence of one."""
    recorded = ConsentView(
        withdrawn=consent is not None and consent.withdrawn,
        given_at=consent.given_at if consent else None,
        given_source=consent.given_source if consent else None,
        withdrawn_at=consent.withdrawn_at if consent else None,
        withdrawn_source=consent.withdrawn_source if consent else None,
    )
    known = member or Member()
    return SubscriberView(
        audience_id=list_id,
        email=known.email_address or None,
        status="not_on_list" if member is None else known.status,
        merge_fields=known.merge_fields,
        tags=[tag.name for tag in known.tags],
        language=known.language or None,
        vip=known.vip,
        source=known.source or None,
        unsubscribe_reason=known.unsubscribe_reason or None,
        signed_up_at=known.timestamp_signup,
        opted_in_at=known.timestamp_opt,
        last_changed_at=known.last_changed,
        consent=recorded,
    )


def left_by_themselves(member: Member, *, by_us: bool) -> bool:
    """Unsubscribed by the person: nobody else may bring them back.

    A reason that is empty or unknown is the person's. ``by_us``: the mirror knows the unsubscribe for our
    own, which explains an empty reason.
    """
    reason = member.unsubscribe_reason.strip()
    if member.status != "unsubscribed" or is_admin_reason(reason):
        return False
    return bool(reason) or not by_us


def checked_fields(
    audience: Audience, given: Mapping[str, Any], *, required: bool, values: bool = False
) -> dict[str, Any]:
    """The merge fields under their tags as Mailchimp spells them, whatever the case they were given in.

    Compared with what the mirror knows of the audience's fields; Mailchimp has the last word. ``required``:
    the required ones must be there; ``values``: each value must be one that its field takes. Raises
    ``BadRequestError``: ``invalid_merge_fields`` or ``required_fields_missing``.
    """
    known = audience.merge_fields_at is not None
    fields = {field.tag.upper(): field for field in Field.stored(audience.merge_fields)}
    problems: list[FieldProblem] = []
    found: dict[str, Any] = {}
    for name, value in given.items():
        field = fields.get(name.upper())
        tag = field.tag if field is not None else name.upper()
        if known and field is None:
            problems.append(_wrong(name, "unknown_tag", "The audience has no such field."))
        elif tag in found:
            problems.append(_wrong(name, "given_twice", "This field is given twice."))
        elif values and field is not None and (problem := problem_of(field, _text(value))):
            problems.append(
                _wrong(name, problem, f"The value cannot be taken: {PROBLEMS[problem]}.")
            )
        found[tag] = _as_sent(field, value) if values and field is not None else value
    if problems:
        raise BadRequestError(
            "Some merge fields cannot be taken; see errors.",
            code="invalid_merge_fields",
            errors=problems,
        )
    if required and known:
        missing = [one.tag for one in fields.values() if one.required and _is_empty(found, one.tag)]
        if missing:
            raise _missing(missing)
    return found


def _text(value: Any) -> str | Mapping[str, object]:
    if isinstance(value, float):
        return f"{value:.15g}"
    assert isinstance(value, str | Mapping)
    return value


def _as_sent(field: Field, value: Any) -> Any:
    """The value as Mailchimp is sent it: a date of birth as month and day, a choice in its own case."""
    read = _text(value)
    return sent_as(field, read) if isinstance(read, str) else value


def required_fields(audience: Audience, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the merge fields that the audience requires."""
    required = {field.tag for field in Field.stored(audience.merge_fields) if field.required}
    return {tag: value for tag, value in given.items() if tag in required}


def _is_empty(given: Mapping[str, Any], tag: str) -> bool:
    return given.get(tag, "") in ("", {})


def _wrong(name: str, code: str, message: str) -> FieldProblem:
    return FieldProblem(f"/mergeFields/{name}", code, message)


def read_language(text: str | None) -> str | None:
    """Mailchimp's code of a language. Raises ``BadRequestError`` (``unknown_language``)."""
    if not text:
        return None
    code = language_code(text)
    if code is None:
        message = (
            "Mailchimp has no such language. Send one of its codes, such as en or pt_PT, or a language tag"
            " such as de-DE, or leave language out."
        )
        raise BadRequestError(
            message,
            code="unknown_language",
            errors=[FieldProblem("/language", "unknown_language", message)],
        )
    return code


def _missing(tags: Collection[str]) -> BadRequestError:
    return BadRequestError(
        "The audience requires merge fields that are missing; see errors.",
        code="required_fields_missing",
        errors=[
            FieldProblem(f"/mergeFields/{tag}", "required", "The audience requires this field.")
            for tag in tags
        ],
    )


def refusal(error: RefusedError) -> McsyncError:
    """What Mailchimp's refusal of a person means for the caller, without Mailchimp's own words: they
    quote addresses."""
    named = (merge_tag(one.field) for one in error.errors)
    tags = [tag for tag in named if tag] or [_NOT_A_TAG]
    match error.code:
        case RefusalCode.REQUIRED_FIELD_MISSING:
            return _missing(tags)
        case RefusalCode.INVALID_VALUE | RefusalCode.INCOMPLETE_ADDRESS:
            return BadRequestError(
                "Mailchimp does not take a value of these merge fields; see errors.",
                code="invalid_merge_fields",
                errors=[
                    FieldProblem(
                        f"/mergeFields/{tag}", error.code.value, "Not of the field's type."
                    )
                    for tag in tags
                ],
            )
        case RefusalCode.INVALID_ADDRESS | RefusalCode.FAKE:
            return BadRequestError(
                "Mailchimp takes this for no real address.",
                code="fake_address",
                errors=[FieldProblem("/email", "fake_address", "Mailchimp refuses this address.")],
            )
        case RefusalCode.COMPLIANCE | RefusalCode.UNSUBSCRIBED:
            return left()
        case RefusalCode.CLEANED:
            return bounced()
        case RefusalCode.FORGOTTEN:
            return ConflictError(
                "This address was permanently deleted at Mailchimp; only the person can come back, by one"
                " of Mailchimp's own forms.",
                code="forgotten",
            )
        case RefusalCode.THROTTLED:
            return ConflictError(
                "This address signed up to many lists lately; Mailchimp holds it back for some days.",
                code="signup_throttled",
            )
        case RefusalCode.EXISTS:
            return on_list(error.member_status)
    return ConflictError("Mailchimp does not take this person as asked.", code="conflict")


def left() -> ConflictError:
    """The person unsubscribed: only they can come back."""
    return ConflictError(
        "This person unsubscribed by themselves, or bounced; only they can come back. Send the status"
        " pending, so that Mailchimp asks them.",
        code="compliance",
    )


def bounced() -> ConflictError:
    """Mail to the address bounced."""
    return ConflictError(
        "Mail to this address bounced, and Mailchimp takes it back only from the person.",
        code="cleaned",
    )


def on_list(status: str) -> ConflictError:
    """The member is there already."""
    return ConflictError(
        "This address is on the list already; subscribers.update changes its fields.",
        code="already_on_list",
        extra={"memberStatus": status} if status else {},
    )


def suppressed() -> ConflictError:
    """The address was erased."""
    return ConflictError(
        "This address was erased and is wanted nowhere until an owner lifts the suppression.",
        code="suppressed",
    )


def withdrawal_under_way() -> ConflictError:
    """A withdrawal goes first."""
    return ConflictError(
        "A withdrawal of this address is on its way to this audience and goes first; repeat this after"
        " some seconds.",
        code="withdrawal_under_way",
        retry_after=5,
    )


def fields_for(wanted: str, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The body of a call; empty parts are left out."""
    body = {"status": wanted, "merge_fields": dict(given), **more}
    return {name: value for name, value in body.items() if value not in (None, {}, "")}
