"""Doing one call, whether it came over the socket or within an asynchronous batch."""

from __future__ import annotations

from .. import problems
from ..exchange import Answer, Request, refusal
from . import router


async def look_ahead(request: Request) -> None:
    """Wait for what the handler needs to know from outside."""
    try:
        handler, request.args = router.find(request.method, request.path)
    except problems.Problem:
        return
    if ahead := router.AHEAD.get(handler):
        await ahead(request)


def perform(request: Request) -> Answer:
    """Find the handler and let it work; refusals become answers."""
    try:
        handler, request.args = router.find(request.method, request.path)
        return handler(request)
    except problems.Problem as problem:
        return refusal(problem, request.request_id)
