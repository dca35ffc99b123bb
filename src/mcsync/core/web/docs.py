"""/docs without a CDN, and a page for each error code.

The assets are vendored from swagger-ui-dist (Apache-2.0, see static/): the pages work offline and under
a content security policy without inline scripts.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from mcsync.core.errors import NotFoundError
from mcsync.core.web.problems import ProblemKind, all_problems

_STATIC: Final = Path(__file__).parent / "static"
# Swagger UI sets styles from its script, and shows its icons as data URLs.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_DOCS: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mcsync API</title>
<link rel="icon" type="image/png" href="/docs/static/favicon-32x32.png">
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The description itself is at
<a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/docs/static/docs.js"></script>
</body>
</html>
"""
_PROBLEMS: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="/docs/static/favicon-32x32.png">
</head>
<body>
<main>
<h1>{title}</h1>
{content}
<p><a href="/problems">All codes</a> &middot; <a href="/docs">API</a></p>
</main>
</body>
</html>
"""

_CODE: Final = re.compile("`([^`]*)`")

router = APIRouter(include_in_schema=False)


@router.get("/")
@router.head("/")
async def root() -> RedirectResponse:
    """Whoever only knows the address of the service lands where the rest is explained."""
    return RedirectResponse("/docs", status_code=307, headers=_HEADERS)


@router.get("/docs")
@router.head("/docs")
async def docs() -> HTMLResponse:
    """Swagger UI."""
    return HTMLResponse(_DOCS, headers=_HEADERS)


@router.get("/problems")
async def problems() -> HTMLResponse:
    """Every error code."""
    rows = "\n".join(
        f'<dt><a href="/problems/{escape(kind.code)}"><code>{escape(kind.code)}</code></a> '
        f"({kind.status})</dt>\n<dd>{_text(kind.title)}. {_text(kind.advice)}</dd>"
        for kind in all_problems()
    )
    return _page("Error codes", f"<dl>\n{rows}\n</dl>")


@router.get("/problems/{code}")
async def problem(code: str) -> HTMLResponse:
    """One error code."""
    kinds: dict[str, ProblemKind] = {kind.code: kind for kind in all_problems()}
    kind = kinds.get(code)
    if kind is None:
        message = "There is no page for this code; /problems lists all that have one."
        raise NotFoundError(message)
    return _page(
        kind.title,
        f"<p>Code <code>{escape(kind.code)}</code>, HTTP status {kind.status}.</p>"
        f"\n<p>{_text(kind.advice)}</p>",
    )


def _text(plain: str) -> str:
    """A sentence as HTML: what stands in backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(plain))


def _page(title: str, content: str) -> HTMLResponse:
    page = _PROBLEMS.format(title=escape(title), content=content)
    return HTMLResponse(page, headers=_HEADERS)


def install_docs(app: FastAPI) -> None:
    """Adds /docs, where / leads, its assets and /problems."""
    app.include_router(router)
    app.mount("/docs/static", StaticFiles(directory=_STATIC), name="docs-static")
