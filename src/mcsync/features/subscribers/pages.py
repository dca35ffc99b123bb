"""The pages that a plain HTML form is answered with: small, without scripts, and readable by everybody."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

from mcsync.core.errors import FieldProblem, McsyncError

_STYLE: Final = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}h1{font-size:1.5rem}small{color:#595959}"
)
_HEADERS: Final = {
    # the page needs nothing but its own style, and its address may carry the token
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';"
    " form-action 'none'",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""
_BACK: Final = "<p>Go back to the form with your browser's back button.</p>"


def requested() -> HTMLResponse:
    """The one answer to every post that was taken, whoever the address belongs to."""
    return _page(
        200,
        "Please confirm your subscription",
        "<p>Thank you. If this address can be subscribed, you will receive an email within a few minutes."
        " Open the link in it to confirm.</p>"
        "<p>If no email arrives, look into your spam folder.</p>",
    )


def refused(error: McsyncError, request_id: str | None) -> HTMLResponse:
    """What is wrong, and what to do."""
    match error.status:
        case 429:
            minutes = max(1, -(-(error.retry_after or 60) // 60))
            title = "Please try again later"
            unit = "minute" if minutes == 1 else "minutes"
            said = f"<p>There were too many requests. Try again in {minutes} {unit}.</p>"
        case 400 | 422:
            title = "Please check what you entered"
            said = f"<p>{escape(error.detail)}</p>{_listed(error.errors)}{_BACK}"
        case 401 | 403 | 404 | 413:
            title = "This form does not work"
            said = f"<p>{escape(error.detail)}</p><p>Please tell the owner of the website.</p>"
        case _:
            title = "Please try again later"
            said = f"<p>Your request could not be taken just now.</p>{_BACK}"
    if request_id:
        said += f"<p><small>{escape(error.code)} {escape(request_id)}</small></p>"
    page = _page(error.status, title, said)
    if error.retry_after is not None:
        page.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        page.headers["WWW-Authenticate"] = 'Bearer realm="mcsync"'
    return page


def _listed(errors: Sequence[FieldProblem]) -> str:
    lines = []
    for one in errors:
        name = one.pointer.rpartition("/")[2] or "form"
        lines.append(f"<li><strong>{escape(name)}</strong>: {escape(one.message)}</li>")
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _page(status: int, title: str, content: str) -> HTMLResponse:
    text = _PAGE.format(title=escape(title), style=_STYLE, content=content)
    return HTMLResponse(text, status, headers=_HEADERS)
