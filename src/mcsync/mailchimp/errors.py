"""What can go wrong with a Mailchimp call.

    MailchimpError
    ├── TransientError          5xx, 408, network trouble, an answer nobody can read: try again
    │   └── MailchimpTimeout    no answer in time
    ├── ThrottledError          429, or the edge's 403 without a problem document: slow down
    ├── CredentialError         401, or 403 with a problem document: this account must stop
    ├── NotFoundError           404
    ├── MethodNotAllowedError   405 (archiving what is already archived, MC 4.5)
    ├── RefusedError            400 about one contact; `code` says why
    └── InvalidRequestError     any other 4xx: the request as a whole was refused
        └── UnverifiableUrlError  400: a webhook's URL did not answer 200 when asked (MC 9)

Transient and permanent are different classes and are told apart here only. The text of an
error names status and title, never the detail: details carry e-mail addresses (MC 14), and
an error's text ends up in logs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import orjson


class RefusalCode(StrEnum):
    """Why Mailchimp does not take a contact (MC 3.3, 14)."""

    COMPLIANCE = "compliance"
    CLEANED = "cleaned"
    UNSUBSCRIBED = "unsubscribed"
    FORGOTTEN = "forgotten"
    FAKE = "fake"
    THROTTLED = "throttled"
    REQUIRED_FIELD_MISSING = "required_field_missing"
    INCOMPLETE_ADDRESS = "incomplete_address"
    INVALID_VALUE = "invalid_value"
    EXISTS = "exists"
    ARCHIVED = "archived"
    INVALID_ADDRESS = "invalid_address"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One entry of a problem document's `errors` array."""

    field: str
    message: str


class MailchimpError(Exception):
    """A call to Mailchimp did not succeed.

    `status` is the HTTP status, None when there was no answer; `title`, `detail` and
    `instance` (Mailchimp's request id) are empty when the body did not tell. `detail` and
    `errors` may hold personal data.
    """

    def __init__(
        self,
        title: str = "",
        *,
        status: int | None = None,
        detail: str = "",
        instance: str = "",
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(" ".join(part for part in (str(status or ""), title) if part))
        self.status = status
        self.title = title
        self.detail = detail
        self.instance = instance
        self.errors = errors
        self.retry_after: float | None = None
        """Seconds the server asked to wait; Mailchimp sends none today (MC 1)."""


class TransientError(MailchimpError):
    """The call may succeed when repeated: 5xx, network trouble, an unreadable answer.

    `outcome_unknown` is True where the call may have been applied all the same (MC 18.23).
    """

    outcome_unknown: bool = False

    def __init__(
        self,
        title: str = "",
        *,
        status: int | None = None,
        detail: str = "",
        instance: str = "",
        errors: tuple[FieldError, ...] = (),
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(title, status=status, detail=detail, instance=instance, errors=errors)
        self.outcome_unknown = outcome_unknown


class UnsafeConnectionError(TransientError):
    """TLS failed, or the egress proxy did: nothing was sent, and the key has nothing to do with it.

    The title says what is wrong and what to do, in a sentence.
    """


class MailchimpTimeout(TransientError):
    """No answer in time; Mailchimp may still be working on the call (MC 15)."""


class ThrottledError(MailchimpError):
    """Too many calls at once; the call was not applied (MC 14, 15)."""


class CredentialError(MailchimpError):
    """The key is refused, or may not do this; repeating does not help (MC 14).

    `code` is the title in snake case: `api_key_invalid`, `api_key_missing`, `forbidden`,
    `user_disabled`, `wrong_datacenter`, ...
    """

    code: str = "api_key_invalid"


class NotFoundError(MailchimpError):
    """404: the thing does not exist, or was permanently deleted (MC 4.5)."""


class MethodNotAllowedError(MailchimpError):
    """405: not possible in the thing's present state, for instance already archived."""


class RefusedError(MailchimpError):
    """400 about one contact; `code` says why.

    `member_status` is the status that Mailchimp says the member has (`unsubscribed`, `cleaned`, `deleted`,
    ...), in lower case; empty where it does not say.
    """

    code: RefusalCode = RefusalCode.OTHER
    member_status: str = ""


class InvalidRequestError(MailchimpError):
    """The request as a whole was refused; repeating it unchanged does not help."""


class UnverifiableUrlError(InvalidRequestError):
    """A webhook's URL did not answer 200 to Mailchimp's GET; nothing was changed (MC 9)."""


# First match wins. The compliance text also names unsubscribe and bounce, so it leads.
_REASONS: Final[tuple[tuple[RefusalCode, tuple[str, ...]], ...]] = (
    (RefusalCode.COMPLIANCE, ("compliance state",)),
    (
        RefusalCode.FORGOTTEN,
        ("permanently deleted", "previously removed from", "sign up using a mailchimp form"),
    ),
    (RefusalCode.FAKE, ("fake or invalid",)),
    (RefusalCode.THROTTLED, ("signed up to a lot of lists", "too many recent signup")),
    (RefusalCode.EXISTS, ("already a list member",)),
    (RefusalCode.INCOMPLETE_ADDRESS, ("complete address",)),
    (RefusalCode.INVALID_ADDRESS, ("valid email",)),
    (RefusalCode.REQUIRED_FIELD_MISSING, ("enter a value", "required fields were not provided")),
    (
        RefusalCode.UNSUBSCRIBED,
        (
            *("is unsubscribed", "has unsubscribed", "was unsubscribed"),
            *("must opt in again", "previously unsubscribed"),
        ),
    ),
    (RefusalCode.CLEANED, ("is cleaned", "was cleaned", "been cleaned", "has bounced")),
    (
        RefusalCode.INVALID_VALUE,
        (
            "please enter a",
            "please enter the",
            "did not match any of the schemas",
            "schema describes",
            "merge fields were invalid",
            "value must be one of",
            "is not a valid choice",
            "is not one of the accepted values",
        ),
    ),
)
_ADDRESS_FIELDS: Final = ("email_address", "email")
_LISTED_AS: Final = re.compile(r"already in this list with a status of\W*([a-z]+)")
_STATUS_IS: Final = re.compile(r"this member.{0,2}s status is\W*([a-z]+)")
_BY_STATUS: Final = {
    "cleaned": RefusalCode.CLEANED,
    "unsubscribed": RefusalCode.UNSUBSCRIBED,
    "archived": RefusalCode.ARCHIVED,
}
_TAG: Final = re.compile(r"[A-Z0-9_]{1,30}")
_TITLES: Final = {
    "memberincompliancestate": RefusalCode.COMPLIANCE,
    "forgottenemailnotsubscribed": RefusalCode.FORGOTTEN,
    "memberexists": RefusalCode.EXISTS,
}


def classify_refusal(
    text: str, *, error_code: str = "", field: str = "", field_message: str = ""
) -> RefusalCode:
    """Say why a contact was refused, from Mailchimp's words (MC 3.3, 14).

    `text` is a title, a detail, both, or a batch row's `error`; the other arguments are the
    row's, or a field error's. Only the text tells refusals apart, so wording decides.
    """
    words = f"{text}\n{field_message}".lower()
    if _LISTED_AS.search(words):
        return RefusalCode.EXISTS
    if status := _STATUS_IS.search(words):
        return _BY_STATUS.get(status[1], RefusalCode.EXISTS)
    compact = re.sub(r"\s+", "", text).lower()
    for title, code in _TITLES.items():
        if title in compact:
            return code
    if error_code.upper() == "ERROR_CONTACT_EXISTS":
        return RefusalCode.EXISTS
    of_address = _plain(field) in _ADDRESS_FIELDS
    for code, needles in _REASONS:
        if any(needle in words for needle in needles):
            if code is RefusalCode.INVALID_VALUE and of_address:
                return RefusalCode.INVALID_ADDRESS
            return code
    return (
        RefusalCode.INVALID_VALUE
        if field and field_message and not of_address
        else RefusalCode.OTHER
    )


def member_status(text: str) -> str:
    """Return the status that a refusal says the member has, in lower case; empty where it says none."""
    words = text.lower()
    found = _LISTED_AS.search(words) or _STATUS_IS.search(words)
    return found[1] if found else ""


def merge_tag(field: str) -> str | None:
    """Return the merge field that an error is about, None for the address, a status or none at all.

    Mailchimp names it `FNAME`, `merge_fields.FNAME` or `members.item:0.merge_fields.FNAME`.
    """
    tag = field.rpartition("merge_fields.")[2].strip()
    if _TAG.fullmatch(tag.upper()) is None or _plain(tag) in _ADDRESS_FIELDS:
        return None
    # without the prefix only capitals are a tag: `status` and `language` are no merge fields
    return tag if tag.isupper() or "merge_fields." in field else None


def _plain(field: str) -> str:
    return field.strip().lower().replace(" ", "_").rpartition(".")[2]


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    write: bool = True,
    about_contact: bool = True,
) -> MailchimpError:
    """Turn an answer that is not a success into the error it means (MC 14).

    `headers` is looked up without regard to case. `write` says whether a 5xx may hide an
    applied change; `about_contact` whether a 400 can concern one contact. Bodies are read
    leniently: `type` may be missing, the body empty or a web page.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    problem = _Problem.read(status, body)
    is_problem = "application/problem+json" in lowered.get("content-type", "").lower()
    error = _by_status(problem, is_problem=is_problem, write=write, about_contact=about_contact)
    error.retry_after = _seconds(lowered.get("retry-after", ""))
    return error


_Kind = TypeVar("_Kind", bound=MailchimpError)
_UNVERIFIED: Final = "couldn't verify the url"
_CLIENT_ERROR: Final = 400
_FORBIDDEN: Final = 403
_REQUEST_TIMEOUT: Final = 408
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class _Problem:
    status: int
    title: str = ""
    detail: str = ""
    instance: str = ""
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def read(cls, status: int, body: bytes) -> "_Problem":
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return cls(status)
        if not isinstance(document, dict):
            return cls(status)
        listed = document.get("errors")
        errors = tuple(
            FieldError(_text(entry.get("field")), _text(entry.get("message")))
            if isinstance(entry, dict)
            else FieldError("", entry)
            for entry in (listed if isinstance(listed, list) else ())
            if isinstance(entry, dict | str)
        )
        title, detail, instance = (
            _text(document.get(key)) for key in ("title", "detail", "instance")
        )
        return cls(status, title, detail, instance, errors)

    def refusal(self) -> RefusalCode:
        text = f"{self.title}\n{self.detail}"
        for entry in self.errors:
            code = classify_refusal(text, field=entry.field, field_message=entry.message)
            if code is not RefusalCode.OTHER:
                return code
        return classify_refusal(text)

    def member_status(self) -> str:
        return member_status("\n".join([self.detail, *(entry.message for entry in self.errors)]))

    def into(self, kind: type[_Kind]) -> _Kind:
        return kind(
            self.title,
            status=self.status,
            detail=self.detail,
            instance=self.instance,
            errors=self.errors,
        )


def _by_status(
    problem: _Problem, *, is_problem: bool, write: bool, about_contact: bool
) -> MailchimpError:
    match problem.status:
        case 429:
            return problem.into(ThrottledError)
        case 403 if not is_problem:
            # The edge in front of Mailchimp refuses busy addresses with a web page (MC 18.20).
            return problem.into(ThrottledError)
        case 401 | 403:
            return _credential(problem)
        case 404:
            return problem.into(NotFoundError)
        case 405:
            return problem.into(MethodNotAllowedError)
        case 400 if about_contact and problem.refusal() is not RefusalCode.OTHER:
            refused = problem.into(RefusedError)
            refused.code = problem.refusal()
            refused.member_status = problem.member_status()
            return refused
        case 400 if _UNVERIFIED in problem.detail.lower():
            return problem.into(UnverifiableUrlError)
        case status if status >= _SERVER_ERROR:
            error = problem.into(TransientError)
            error.outcome_unknown = write
            return error
        case status if status < _CLIENT_ERROR or status == _REQUEST_TIMEOUT:
            # Mailchimp never redirects: whoever answered is something in between.
            return problem.into(TransientError)
        case _:
            return problem.into(InvalidRequestError)


def _credential(problem: _Problem) -> CredentialError:
    error = problem.into(CredentialError)
    code = "_".join(re.findall(r"[a-z0-9]+", problem.title.lower()))
    if "deactivated" in problem.detail.lower():
        code = "user_disabled"
    default = "forbidden" if problem.status == _FORBIDDEN else "api_key_invalid"
    error.code = code or default
    return error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: str) -> float | None:
    return float(value) if value.isascii() and value.isdigit() else None
