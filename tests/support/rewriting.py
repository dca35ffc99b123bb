"""Answers of the sandbox with some of their values replaced, on their way to the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson

Change = Callable[[dict[str, Any]], None]
"""Changes a JSON object in place; asked for every object of an answer."""


def rewrite_answers(http: httpx.AsyncClient, change: Change, *, path: str = "") -> None:
    """From now on every JSON object in the answers to paths that hold ``path`` is changed."""

    async def rewrite(response: httpx.Response) -> None:
        if path not in response.request.url.path:
            return
        if "json" not in response.headers.get("content-type", ""):
            return
        found = orjson.loads(await response.aread())
        for each in objects(found):
            change(each)
        response._content = orjson.dumps(found)

    http.event_hooks["response"].append(rewrite)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value, outer ones first."""
    if isinstance(value, dict):
        yield value
        for each in list(value.values()):
            yield from objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from objects(each)
