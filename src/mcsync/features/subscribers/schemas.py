"""What the subscribers' procedures take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import Page, RequestModel, ResponseModel
from mcsync.features.audiences.schemas import AudienceId
from mcsync.features.contacts.intake.addresses import MAX_EMAIL, Addresses
from mcsync.features.preferences.schemas import Moment, Proof

_ADDRESSES: Final = Addresses(bytes(32))
"""Only for what can be an address; nothing is hashed with it."""


def _usable(value: str) -> str:
    usable = _ADDRESSES.usable(value)
    if usable is None:
        message = "this is not a valid email address"
        raise ValueError(message)
    return usable


Email = Annotated[
    str,
    Field(min_length=3, max_length=MAX_EMAIL + 20, description="The person's e-mail address."),
    AfterValidator(_usable),
]
Part = Annotated[str, StringConstraints(max_length=255)]
MergeValue = (
    Annotated[str, StringConstraints(max_length=500)]
    | Annotated[float, Field(ge=-1e15, le=1e15)]
    | Annotated[dict[Annotated[str, StringConstraints(max_length=20)], Part], Field(max_length=10)]
)
MergeTag = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_]{1,10}$")]
MergeFields = Annotated[
    dict[MergeTag, MergeValue],
    Field(
        max_length=80,
        description='Merge fields by tag, in any case. `""` empties one; an address field takes an object with `addr1`,'
        " `city`, `state`, `zip` and `country`.",
    ),
]
Language = Annotated[
    str,
    StringConstraints(max_length=60),
    Field(
        description="One of Mailchimp's codes, such as `en` or `pt_PT`, or a language tag: `de-DE` is taken as"
        " `de`, `pt-BR` as `pt`. Mailchimp writes confirmations in this language. One that Mailchimp does not"
        " have is refused (`unknown_language`); from a form it is left out."
    ),
]
Source = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Field(description="Where it comes from, such as `newsletter form` or `by telephone`."),
]
Wanted = Literal["pending", "subscribed"]
Status = Annotated[
    str,
    Field(
        description="`subscribed`, `unsubscribed`, `pending` (asked to confirm), `cleaned` (it bounced),"
        " `archived`, `transactional`, or `not_on_list`."
    ),
]

_WHO: JsonDict = {"audienceId": "a1f0c3d2e4", "email": "ada@lindqvist.example"}
_PERSON: JsonDict = {
    **_WHO,
    "status": "subscribed",
    "mergeFields": {"FNAME": "Ada", "LNAME": "Lindqvist"},
    "tags": ["mcsync: Lisbon operations"],
    "language": "en",
    "vip": False,
    "source": "API - Generic",
    "unsubscribeReason": None,
    "signedUpAt": "2026-11-20T08:30:00Z",
    "optedInAt": "2026-11-20T08:31:12Z",
    "lastChangedAt": "2026-11-23T05:00:09Z",
    "consent": {
        "withdrawn": False,
        "givenAt": "2026-11-20T08:31:12Z",
        "givenSource": "mailchimp",
        "withdrawnAt": None,
        "withdrawnSource": None,
    },
}


class SubscriptionInput(RequestModel):
    """What subscribing and creating have in common."""

    audience_id: AudienceId
    email: Email
    status: Wanted = Field(
        "pending",
        description="`pending`: Mailchimp asks the person to confirm. `subscribed`: at once, which needs"
        " the scope `subscribers:direct`, `consentGivenAt` and `proof`.",
    )
    merge_fields: MergeFields = Field(default_factory=dict)
    language: Language | None = None
    source: Source = "subscribers"
    consent_given_at: Moment | None = Field(
        None, description="When the person opted in. Only with `subscribed`."
    )
    proof: Proof | None = Field(None, description="How the request or the consent can be proven.")


class SubscribeInput(SubscriptionInput):
    """Somebody who wants to be subscribed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_WHO,
                    "mergeFields": {"FNAME": "Ada"},
                    "source": "newsletter form",
                    "proof": {"form": "/newsletter", "wordingVersion": "2026-03"},
                }
            ]
        }
    )

    website: str = Field(
        "",
        max_length=500,
        description="A trap for robots: put it into the form where people do not see it, and leave it empty."
        " What comes filled in is answered like any other post, and nothing is done.",
    )


class CreateOrUpdateInput(SubscriptionInput):
    """Somebody who is to be on the list with these fields."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_WHO,
                    "strategy": "update_first",
                    "mergeFields": {"FNAME": "Ada", "LNAME": "Lindqvist"},
                    "source": "shop",
                }
            ]
        }
    )

    strategy: Literal["update_first", "create_first"] = Field(
        "update_first",
        description="Which call is tried first. `update_first` where most are on the list already, as with"
        " data that grows slowly; `create_first` where most are new, as in a large import.",
    )


class UpdateInput(RequestModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_WHO, "mergeFields": {"LNAME": "Lindqvist-Sol"}}]}
    )

    audience_id: AudienceId
    email: Email
    merge_fields: MergeFields = Field(default_factory=dict)
    language: Language | None = None
    vip: bool | None = None


class UnsubscribeInput(RequestModel):
    """Somebody who wants no more mail."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_WHO, "source": "by telephone"}]})

    audience_id: AudienceId
    email: Email
    source: Source = "subscribers"
    proof: Proof | None = None


class ArchiveInput(RequestModel):
    """A member to archive."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WHO]})

    audience_id: AudienceId
    email: Email


class ConsentView(ResponseModel):
    """What is on record here of the address itself."""

    withdrawn: bool
    given_at: datetime | None
    given_source: str | None
    withdrawn_at: datetime | None
    withdrawn_source: str | None


class SubscriberView(ResponseModel):
    """A member of an audience as Mailchimp has it now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PERSON]})

    audience_id: AudienceId
    email: str | None = Field(
        description="As Mailchimp spells it; null where it is not on the list."
    )
    status: Status
    merge_fields: dict[str, Any]
    tags: list[str]
    language: str | None
    vip: bool
    source: str | None = Field(description="Mailchimp's word for how the member came.")
    unsubscribe_reason: str | None
    signed_up_at: datetime | None
    opted_in_at: datetime | None
    last_changed_at: datetime | None
    consent: ConsentView


class SubscribeResult(ResponseModel):
    """What became of a wish to be subscribed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "requested", "subscriber": None}]}
    )

    status: Literal["requested", "pending", "subscribed"] = Field(
        description="`requested` is all that a form is ever told: whether the address was known, or"
        " anything was sent, cannot be seen. Others see `pending` or `subscribed`."
    )
    subscriber: SubscriberView | None


class CreateOrUpdateResult(ResponseModel):
    """A member that was made or changed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"created": False, "subscriber": _PERSON}]}
    )

    created: bool
    subscriber: SubscriberView


class UnsubscribeResult(ResponseModel):
    """A withdrawal on its way."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"audienceId": "a1f0c3d2e4", "status": "opted_out", "contacts": 1, "audiences": 2}
            ]
        }
    )

    audience_id: AudienceId
    status: Literal["opted_out"]
    contacts: int = Field(description="How many contacts with the address were withdrawn by this.")
    audiences: int = Field(
        description="How many audiences it is on its way to, within seconds: all of the account that mcsync"
        " knows of."
    )


RequestStatus = Literal[
    "queued", "asking", "asked", "subscribed", "already", "refused", "dropped", "unknown"
]
_REQUEST: JsonDict = {
    "id": "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10",
    "audienceId": "a1f0c3d2e4",
    "via": "form",
    "source": "footer form",
    "wanted": "pending",
    "status": "asked",
    "code": "values_refused",
    "message": "Mailchimp has asked the person to confirm, without the optional fields and the language,"
    " since it refused one of their values.",
    "email": None,
    "requestedAt": "2026-11-23T09:30:01Z",
    "endedAt": "2026-11-23T09:30:03Z",
    "nextAttemptAt": None,
    "lastError": None,
}


class RequestView(ResponseModel):
    """A request to be subscribed, and what became of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REQUEST]})

    id: UUID
    audience_id: str
    via: Literal["form", "api"] = Field(
        description="`form`: a post with a publishable token. `api`: another token, or the command line."
    )
    source: str = Field(description="The `source` that was sent with it.")
    wanted: Wanted
    status: RequestStatus = Field(
        description="`queued` and `asking` are under way. `asked`: Mailchimp asked the person to confirm."
        " `subscribed`: they were subscribed. `already`: they were on the list. `refused`: Mailchimp refused."
        " `dropped`: it was not sent to Mailchimp. `unknown`: Mailchimp did not answer an operator's request."
    )
    code: str | None = Field(description="Why it ended so, or what was left out. Decide by it.")
    message: str = Field(description="The same in words.")
    email: str | None = Field(
        description="The address of a form post under way. It is not kept once the request has ended."
    )
    requested_at: datetime
    ended_at: datetime | None
    next_attempt_at: datetime | None = Field(description="When a form post is tried again.")
    last_error: str | None = Field(description="Why the last attempt came to nothing.")


class RequestPage(Page[RequestView]):
    """One page of requests."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [_REQUEST], "nextCursor": None, "counts": {"asked": 1}},
            ]
        }
    )

    counts: dict[str, int] = Field(
        description="How many requests of the last 30 days are in each status, over all pages."
    )


for _problem in (
    ("invalid_merge_fields", 400, "Some merge fields cannot be taken",
     "`errors` names each; audiences.get shows the audience's fields and their types."),
    ("required_fields_missing", 400, "The audience requires merge fields that are missing",
     "Send those that `errors` names; audiences.get shows which fields are required."),
    ("proof_required", 400, "A direct subscription needs proof of consent",
     "Send consentGivenAt and proof, or leave the status pending so that the person confirms."),
    ("fake_address", 400, "Mailchimp takes this for no real address", "Check the address."),
    ("redirect_not_allowed", 400, "The form leads back to a site that is not allowed",
     "Add the origin of the address in the field redirect to MCSYNC_FORM_ORIGINS."),
    ("form_unreadable", 400, "The post of the form cannot be read",
     "Post it in UTF-8 as application/x-www-form-urlencoded, or as multipart/form-data without files."),
    ("token_not_publishable", 403, "A secret token stands in a form",
     "Revoke it, and make one with `mcsync token create --publishable --audience LIST`."),
    ("unknown_language", 400, "Mailchimp has no such language",
     "Send a code such as en or pt_PT, or a language tag such as de-DE, or leave language out."),
    ("nothing_to_change", 400, "There is nothing to change", "Name at least one field to change."),
    ("not_on_list", 404, "The address is not on this list",
     "subscribers.subscribe asks the person to confirm; subscribers.createOrUpdate does either."),
    ("already_on_list", 409, "The address is on this list already",
     "`memberStatus` tells how; subscribers.update changes its fields."),
    ("suppressed", 409, "The address was erased and is wanted nowhere",
     "An owner may lift the suppression; nothing else brings it back."),
    ("compliance", 409, "Only the person can come back",
     "They unsubscribed by themselves: send the status pending, so that they confirm."),
    ("cleaned", 409, "Mail to this address bounced", "Only the person can come back, by a form."),
    ("forgotten", 409, "The address was permanently deleted at Mailchimp",
     "Only the person can come back, by one of Mailchimp's own forms."),
    ("signup_throttled", 409, "Mailchimp holds sign-ups of this address back", "Try again in a day."),
    ("cannot_archive", 409, "Mailchimp does not archive a member in this state",
     "Pending and bounced members cannot be archived; to erase a person use preferences.gdprDelete."),
    ("withdrawal_under_way", 409, "A withdrawal of this address is on its way",
     "Repeat after some seconds."),
):  # fmt: skip
    register_problem(*_problem)
