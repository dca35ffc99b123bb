"""Posts of plain HTML forms, without a script: the same request as in JSON, answered by a page.

A browser sends fields by name, all of them text, and every field that was left empty. What they mean is
decided here; what is done with them is decided in :mod:`forms`, as for a post in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcsync.core.auth import Actor
from mcsync.core.auth.tokens import TokenVerifier, with_request
from mcsync.core.errors import (
    BadRequestError,
    FieldProblem,
    ForbiddenError,
    McsyncError,
    UnauthenticatedError,
)
from mcsync.core.origins import browser_origin
from mcsync.core.resources import Resources
from mcsync.core.web.errors import ACTOR, as_mcsync_error, problem_response, request_id_of
from mcsync.features.subscribers import forms, pages
from mcsync.features.subscribers.schemas import SubscribeInput

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
_MOST_FIELDS: Final = 200
_OURS: Final = {
    name.lower(): name
    for name in ("audienceId", "email", "language", "source", "website", "token", "redirect")
}
# `mergeFields[FNAME]`, `mergeFields[HOME][city]`, `HOME[city]`, `proof[form]`, `FNAME`
_MERGE: Final = re.compile(
    r"(?:mergeFields\[([^\[\]]{1,64})\]|([^\[\]]{1,64}))(?:\[([^\[\]]{1,64})\])?"
)


def is_form(request: Request) -> bool:
    """Whether this is the post of an HTML form, and not of a program that holds a secret token.

    With a secret token the body has to be JSON, and is refused as ever where it is not.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
    return kind in {URLENCODED, MULTIPART} and (not bearer or bearer.startswith("mcp_"))


async def answer(request: Request) -> Response:
    """Takes in the post; answers a page, a redirect, or JSON to a script that did not ask for a page."""
    try:
        return await _taken(request)
    except (McsyncError, RequestValidationError, HTTPException) as raised:
        error = as_mcsync_error(raised)
        request_id = request_id_of(request.scope)
        if not _wants_page(request):
            return problem_response(error, request_id=request_id)
        return pages.refused(error, request_id)


async def _taken(request: Request) -> Response:
    resources: Resources = request.app.state.resources
    fields = _joined(_pairs(request.headers.get("content-type", ""), await request.body()))
    actor = await _actor(request, fields.pop("token", None))
    redirect = fields.pop("redirect", None)
    target = None if redirect is None else _allowed(resources, redirect)
    if "audienceId" not in fields and actor.audiences is not None and len(actor.audiences) == 1:
        fields["audienceId"] = next(iter(actor.audiences))
    fields.setdefault("source", "html form")
    try:
        given = SubscribeInput.model_validate(fields)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(found, body=fields) from error
    client_ip = request.client.host if request.client else None
    result = await forms.post(resources, actor, given, client_ip)
    if target is not None:
        # 303: the browser asks for the page with GET, and reloading it posts nothing
        return RedirectResponse(target, 303, headers={"Referrer-Policy": "no-referrer"})
    if not _wants_page(request):
        return Response(result.model_dump_json(by_alias=True), media_type="application/json")
    return pages.requested()


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "").lower()


async def _actor(request: Request, given: str | None) -> Actor:
    """Who posts. Raises ``UnauthenticatedError``, and ``ForbiddenError`` for a secret token in a page."""
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    token = (given or request.query_params.get("token") or bearer).strip()
    if not token:
        raise UnauthenticatedError(
            "The form has no token. Put a publishable one into a hidden field with the name token."
        )
    if not token.startswith("mcp_"):
        raise ForbiddenError(
            "This is no publishable token, and must not stand in a page. Revoke it, and make one with"
            " `mcsync token create --publishable`.",
            code="token_not_publishable",
        )
    verifier: TokenVerifier = request.app.state.tokens
    actor = request.scope[ACTOR] = await verifier.verify(token)
    return with_request(actor, request_id_of(request.scope))


def _allowed(resources: Resources, redirect: str) -> str:
    """The address to lead to, if it is on a site of the settings. Raises ``BadRequestError``.

    An address is only taken as browsers read it in one way: no user, no backslash, no control character.
    """
    parts = urlsplit(redirect)
    try:
        plain = redirect.isascii() and not re.search(r"[\x00-\x20\\]", redirect)
        origin = browser_origin(f"{parts.scheme}://{parts.netloc}") if plain else ""
    except ValueError:
        origin = ""
    if not origin or origin not in resources.settings.form_origins:
        message = (
            "The address to lead back to is on no site of MCSYNC_FORM_ORIGINS. Write it in full, with"
            " https:// and percent-encoding, or add its origin to the setting."
        )
        raise BadRequestError(
            message, code="redirect_not_allowed",
            errors=[FieldProblem("/redirect", "redirect_not_allowed", message)],
        )  # fmt: skip
    return redirect


def _pairs(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields by name, in their order. Raises ``BadRequestError``."""
    try:
        if content_type.lower().lstrip().startswith(MULTIPART):
            return _of_multipart(content_type, body)
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict",
            max_num_fields=_MOST_FIELDS,
        )  # fmt: skip
    except UnicodeError:
        message = 'The form is not in UTF-8. Give the form the attribute accept-charset="UTF-8".'
        raise BadRequestError(message, code="form_unreadable") from None
    except ValueError:
        message = "The form cannot be read, or it has too many fields."
        raise BadRequestError(message, code="form_unreadable") from None


def _of_multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Raises ``ValueError`` for what is not multipart, or for a file."""
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = message_from_bytes(head + body, policy=HTTP)
    if not message.is_multipart() or message.defects:
        raise ValueError
    found = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes) or part.get_filename():
            raise ValueError
        found.append((name, content.decode()))
    if len(found) > _MOST_FIELDS:
        raise ValueError
    return found


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The fields as the JSON body would have them. What was left empty is left out.

    Raises ``BadRequestError`` for a name that means nothing, and for one that is given twice.
    """
    body: dict[str, Any] = {}
    merge: dict[str, Any] = {}
    proof: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for name, raw in pairs:
        value = raw.strip()
        found = _MERGE.fullmatch(name)
        if name.startswith("_") or (not value and found is not None):
            continue  # `_charset_` and the like are the browser's or the page's own
        if found is None or not _is_known(*found.groups()):
            problems.append(
                _problem(name, "unknown_field", "The form has a field that means nothing.")
            )
            continue
        wrapped, plain, part = found.groups()
        place: Any
        if plain is not None and part is None and plain.lower() in _OURS:
            place, key = body, _OURS[plain.lower()]
        elif plain == "proof" and part is not None:
            place, key, part = proof, part, None
        else:
            place, key = merge, (wrapped or plain).upper()
        if part is not None:
            place, key = place.setdefault(key, {}), part
        if not isinstance(place, dict) or place.get(key, value) != value:
            problems.append(_problem(name, "given_twice", "This field is given twice."))
            continue
        place[key] = value
    if problems:
        raise BadRequestError(
            "The form has fields that cannot be taken; see errors.",
            code="invalid_merge_fields", errors=problems,
        )  # fmt: skip
    return body | ({"mergeFields": merge} if merge else {}) | ({"proof": proof} if proof else {})


def _is_known(wrapped: str | None, plain: str | None, part: str | None) -> bool:
    """Whether a name is one of ours, or can be a merge tag."""
    if plain is not None and (plain == "proof" if part else plain.lower() in _OURS):
        return True
    return re.fullmatch(r"[0-9A-Za-z_]{1,10}", wrapped or plain or "") is not None


def _problem(name: str, code: str, message: str) -> FieldProblem:
    shown = re.sub(r"[^0-9A-Za-z_]", "*", name)[:64]
    return FieldProblem(f"/{shown}", code, message)
