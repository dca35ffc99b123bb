"""Every refusal the Marketing API makes, as RFC 7807 problems (MC 14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DOCS = "https://mailchimp.com/developer/marketing/docs/errors/"

Detail = tuple[str, str]
"""One entry of `errors[]`: field and message."""


class Problem(Exception):
    """An answer of 4xx or 5xx. `typed=False` leaves `type` out, as the member refusals do in real logs (MC 14)."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: Sequence[Detail] = (),
        typed: bool = True,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.typed = typed
        self.headers = tuple(headers)

    def body(self, instance: str) -> dict[str, Any]:
        """The problem document; `instance` equals the X-Request-Id header (MC 1)."""
        document: dict[str, Any] = {"type": DOCS} if self.typed else {}
        document |= {
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            document["errors"] = [{"field": field, "message": text} for field, text in self.errors]
        return document


def invalid_resource(detail: str | None = None, *errors: Detail) -> Problem:
    """400 Invalid Resource; without a detail the generic sentence that points at `errors` (MC 14)."""
    text = detail or (
        "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    )
    return Problem(400, "Invalid Resource", text, errors=errors)


def bad_request(detail: str) -> Problem:
    return Problem(400, "Bad Request", detail)


def not_found() -> Problem:
    return Problem(404, "Resource Not Found", "The requested resource could not be found.")


def method_not_allowed(allow: str, detail: str | None = None) -> Problem:
    text = detail or (
        "The requested method and resource are not compatible. "
        "See the Allow header for this resource's available methods."
    )
    return Problem(405, "Method Not Allowed", text, headers=(("allow", allow),))


def not_archivable() -> Problem:
    """DELETE of a member that is archived, pending or cleaned (MC 4.5)."""
    text = "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived"
    return method_not_allowed("GET, PUT", text)


def member_exists(email: str) -> Problem:
    text = f"{email} is already a list member. Use PUT to insert or update list members."
    return Problem(400, "Member Exists", text, typed=False)


def listed_already(email: str, status: str) -> Problem:
    """A change of address onto one that the list knows (MC 21)."""
    text = f'"{email}" is already in this list with a status of "{status.capitalize()}".'
    return invalid_resource(None, ("email address", text))


def in_compliance_state(
    email: str, status: str, *, via: str = "", other_words: bool = False
) -> Problem:
    """A person who left, or an address that bounced, cannot be subscribed (MC 14, 21)."""
    if other_words:
        text = (
            f"{email} has previously unsubscribed from this list and must opt in again."
            if status == "unsubscribed"
            else f'This member\'s status is "{status}."'
        )
        return invalid_resource(None, ("", text))
    state = "already a list member in compliance" if via == "post" else "in a compliance"
    text = (
        f"{email} is {state} state due to unsubscribe, bounce, or compliance review "
        "and cannot be subscribed."
    )
    return Problem(400, "Member In Compliance State", text, typed=False)


def forgotten(email: str, *, other_words: bool = False) -> Problem:
    if other_words:
        text = (
            f"{email} was previously removed from this audience. "
            "To rejoin, they'll need to sign up using a Mailchimp form."
        )
        return invalid_resource(None, ("", text))
    text = (
        f"{email} was permanently deleted and cannot be re-imported. "
        "The contact must re-subscribe to get back on the list."
    )
    return Problem(400, "Forgotten Email Not Subscribed", text, typed=False)


def fake_address(email: str) -> Problem:
    return invalid_resource(f"{email} looks fake or invalid, please enter a real email address.")


def throttled_address(email: str) -> Problem:
    return invalid_resource(
        f"{email} has signed up to a lot of lists very recently; we're not allowing more signups for now"
    )


def key_invalid() -> Problem:
    text = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
    return Problem(401, "API Key Invalid", text)


def key_missing() -> Problem:
    return Problem(401, "API Key Missing", "Your request did not include an API key.")


def too_many_requests(limit: int = 10) -> Problem:
    text = f"You have exceeded the limit of {limit} simultaneous connections."
    return Problem(429, "Too Many Requests", text)


def method_override() -> Problem:
    text = "The X-HTTP-Method-Override header can only be used with the POST method."
    return Problem(422, "Invalid Method Override", text)


_UNEXPECTED = (
    "An unexpected internal error has occurred. Please contact Support for more information."
)

_BY_STATUS = {
    400: bad_request("The request could not be understood by the server."),
    401: key_invalid(),
    403: Problem(403, "Forbidden", "User does not have access to the requested operation"),
    404: not_found(),
    405: method_not_allowed("GET"),
    422: method_override(),
    426: Problem(426, "Upgrade Required", "HTTPS is required."),
    429: too_many_requests(),
    500: Problem(500, "Internal Server Error", _UNEXPECTED),
}

_GLOSSARY = {
    "badrequest": _BY_STATUS[400],
    "invalidaction": Problem(
        400, "Invalid Action", "The action requested was not valid for this resource."
    ),
    "invalidresource": invalid_resource(),
    "jsonparseerror": Problem(
        400, "JSON Parse Error", "We encountered an unspecified JSON parsing error."
    ),
    "apikeymissing": key_missing(),
    "apikeyinvalid": key_invalid(),
    "forbidden": _BY_STATUS[403],
    "userdisabled": Problem(403, "User Disabled", "This account has been deactivated."),
    "wrongdatacenter": Problem(
        403, "Wrong Datacenter", "The API key provided is linked to a different datacenter."
    ),
    "resourcenotfound": not_found(),
    "methodnotallowed": _BY_STATUS[405],
    "resourcenestingtoodeep": Problem(
        414, "Resource Nesting Too Deep", "The requested path is nested too deep."
    ),
    "invalidmethodoverride": method_override(),
    "requestedfieldsinvalid": Problem(
        400, "Requested Fields Invalid", "Some requested fields do not exist."
    ),
    "toomanyrequests": too_many_requests(),
    "internalservererror": _BY_STATUS[500],
    "compliancerelated": Problem(599, "Compliance Related", "This account has been suspended."),
}


def by_status(status: int) -> Problem:
    """The usual problem of a bare HTTP status, for targeted faults."""
    return _BY_STATUS.get(status) or Problem(
        status, "Error", "The sandbox was told to answer this."
    )


def by_name(name: str) -> Problem | None:
    """The problem that `X-Trigger-Error: <name>` asks for (MC 1, glossary in MC 14)."""
    return _GLOSSARY.get(name.replace(" ", "").lower())
