"""What can go wrong with a Transactional call (MC 17.5).

    MailchimpError
    ├── SendUncertainError         a send whose answer is not known: look the message up
    ├── TransientError             not applied, or safe to repeat: try again
    │   └── MailchimpTimeout
    ├── ThrottledError             429; not applied
    ├── CredentialError            the key is refused
    ├── NotFoundError
    │   ├── UnknownMessageError    also: not in the index yet
    │   ├── UnknownTemplateError
    │   ├── UnknownSubaccountError
    │   ├── UnknownWebhookError
    │   └── UnknownRejectError
    └── InvalidRequestError        refused as a whole
        ├── ValidationFailedError
        └── PaymentRequiredError

`SendUncertainError` is on purpose no `TransientError`: whoever repeats those must not repeat
a message. Before 2023 nearly every refusal was an HTTP 500, so the `name` in the body decides
and the status only where there is none. The text of an error is status and name, never
Mandrill's message, which quotes what was sent.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from mcsync.mailchimp.errors import (
    CredentialError,
    InvalidRequestError,
    MailchimpError,
    MailchimpTimeout,
    NotFoundError,
    ThrottledError,
    TransientError,
)


class SendUncertainError(MailchimpError):
    """Nobody knows whether the message was taken: no answer, a reset, a 5xx, a web page.

    Never repeated by itself. `timed_out` tells a time-out from the rest.
    """

    timed_out: bool = False


class UnknownMessageError(NotFoundError):
    """No message has this id; a new one may not be in the index yet."""


class UnknownTemplateError(NotFoundError):
    """No template has this name."""


class UnknownSubaccountError(NotFoundError):
    """No subaccount has this id."""


class UnknownWebhookError(NotFoundError):
    """No webhook has this id."""


class UnknownRejectError(NotFoundError):
    """The address is not on the rejects list."""


class ValidationFailedError(InvalidRequestError):
    """A parameter is missing or malformed; `detail` says which and may quote it."""


class PaymentRequiredError(InvalidRequestError):
    """The account has to pay before it may do this."""


_BY_NAME: Final[dict[str, type[MailchimpError]]] = {
    "invalidkey": CredentialError,
    "paymentrequired": PaymentRequiredError,
    "requestlimitexceeded": ThrottledError,
    "unknownmessage": UnknownMessageError,
    "unknowntemplate": UnknownTemplateError,
    "unknownsubaccount": UnknownSubaccountError,
    "unknownwebhook": UnknownWebhookError,
    "invalidreject": UnknownRejectError,
    "validationerror": ValidationFailedError,
}
# Their HTTP status was a 500 for years, so names end the matter where they speak clearly.
_REFUSING: Final = (("unknown", NotFoundError), ("invalid", InvalidRequestError))
_TROUBLE: Final = frozenset({"generalerror", "serviceunavailable"})
_SERVER_ERROR: Final = 500
_REQUEST_TIMEOUT: Final = 408


def error_from_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, sends: bool, changes: bool
) -> MailchimpError:
    """Turn an answer that is not a success into the error it means.

    `sends` says that the call hands in a message, `changes` that a 5xx may hide an applied
    change. `headers` is looked up without regard to case.
    """
    name, detail = _named(body)
    kind = _kind(status, name)
    if kind is None and sends:
        return SendUncertainError(name, status=status, detail=detail)
    if kind is None:
        trouble = TransientError(name, status=status, detail=detail)
        trouble.outcome_unknown = changes
        return trouble
    error = kind(name, status=status, detail=detail)
    if isinstance(error, CredentialError):
        error.code = "transactional_key_invalid"
    wait = next((text for key, text in headers.items() if key.lower() == "retry-after"), "")
    if wait.isascii() and wait.isdigit():
        error.retry_after = float(wait)
    return error


def as_uncertain(error: TransientError) -> SendUncertainError:
    """The same trouble, of a send that may have been applied."""
    uncertain = SendUncertainError(error.title, status=error.status, detail=error.detail)
    uncertain.timed_out = isinstance(error, MailchimpTimeout)
    return uncertain


def _named(body: bytes) -> tuple[str, str]:
    """`name` and `message` of an error, empty where the body is something else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    name, message = document.get("name"), document.get("message")
    return (
        name if isinstance(name, str) else "",
        message if isinstance(message, str) else "",
    )


def _kind(status: int, name: str) -> type[MailchimpError] | None:
    """The class; None where the call may have been applied all the same."""
    compact = name.replace("_", "").replace(" ", "").lower()
    if compact in _BY_NAME:
        return _BY_NAME[compact]
    if compact not in _TROUBLE:
        for prefix, kind in _REFUSING:
            if compact.startswith(prefix):
                return kind
    if status == 429:
        return ThrottledError
    if status == 401:
        return CredentialError
    if status == 403 and not name:
        # The edge refuses busy addresses with a web page; the key is not to blame (MC 18.20).
        return ThrottledError
    if status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT:
        return None
    if status < 400:
        # Mandrill never redirects: whoever answered is something in between.
        return TransientError
    # Also a 404 without a name: then the address is wrong, not the message's id.
    return InvalidRequestError
