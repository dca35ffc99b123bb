"""GET / and GET /ping (MC 1.1)."""

from __future__ import annotations

from ..exchange import Answer, Request, ok
from ..render import render_account


def show(request: Request) -> Answer:
    return ok(render_account(request.account), request)


def ping(request: Request) -> Answer:
    return ok({"health_status": "Everything's Chimpy!"}, request)
