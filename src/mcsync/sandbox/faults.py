"""Faults on purpose: what the network, the edge and the servers do to calls (MC 14, 15, 18.20, 18.23).

Kinds: `429_json`, `429_empty`, `500`, `502_html`, `403_html` answer at once and apply nothing; any other three digits
answer the usual problem of that status. `504_after` applies the call, then answers 504. `reset` drops the connection
before anything is applied, `reset_after` when all is applied. `slow` or `slow:2.5` adds seconds to the call's time.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import problems
from .exchange import Answer, refusal

if TYPE_CHECKING:
    from .config import Faults

RESET = "reset"
AFTER = {"504_after", "reset_after"}

_KIND = re.compile(
    r"(\d{3}|429_json|429_empty|502_html|403_html|504_after|reset|reset_after|slow(:\d+(\.\d+)?)?)\Z"
)
_HTML = "text/html; charset=utf-8"
_BAD_GATEWAY = (
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
)
_TIMEOUT = b"<html><head><title>504 Gateway Time-out</title></head><body><h1>504 Gateway Time-out</h1></body></html>"
_DENIED = (
    b"<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY><H1>Access Denied</H1>"
    b"You don't have permission to access this server.<P>Reference #18.5d7c1202.1718000000.1a2b3c4d</BODY></HTML>"
)


def check_kind(kind: str) -> str:
    """The kind, or ValueError if there is none of this name."""
    if not _KIND.match(kind):
        raise ValueError(f"unknown fault: {kind}")
    return kind


@dataclass(slots=True)
class Targeted:
    """The next `times` calls that match are hit."""

    method: str
    path: re.Pattern[str]
    kind: str
    times: int


class FaultPlan:
    """Decides for each call whether a fault hits it. The same seed and order of calls give the same faults."""

    def __init__(self, faults: Faults) -> None:
        for kind in faults.kinds:
            check_kind(kind)
        if faults.rate and not faults.kinds:
            raise ValueError("faults.kinds is needed together with faults.rate")
        self.faults = faults
        self.random = random.Random(faults.seed)
        self.targeted: list[Targeted] = []

    def choose(self, method: str, path: str) -> str:
        """The kind of fault for this call, or an empty text."""
        for target in self.targeted:
            if target.times > 0 and target.method in ("", method) and target.path.search(path):
                target.times -= 1
                return target.kind
        faults = self.faults
        if not faults.rate or (faults.methods and method not in faults.methods):
            return ""
        if faults.path and not re.search(faults.path, path):
            return ""
        if self.random.random() >= faults.rate:
            return ""
        return self.random.choices(list(faults.kinds), list(faults.kinds.values()))[0]

    def slowness(self, kind: str) -> float:
        """Seconds that a fault adds to a call."""
        if not kind.startswith("slow"):
            return 0.0
        _, colon, seconds = kind.partition(":")
        return float(seconds) if colon else self.faults.slow_seconds


def answer_at_once(kind: str, request_id: str) -> Answer | None:
    """The answer of a fault that applies nothing; None for the others."""
    if kind == "429_json":
        return refusal(problems.too_many_requests(), request_id)
    if kind == "429_empty":
        return Answer(429, None)
    if kind == "502_html":
        return Answer(502, _BAD_GATEWAY, _HTML)
    if kind == "403_html":
        return Answer(403, _DENIED, _HTML)
    if len(kind) == 3 and kind.isdigit():
        return refusal(problems.by_status(int(kind)), request_id)
    return None


def gateway_timeout() -> Answer:
    """504 of the gateway: the result is unknown to the client (MC 18.23)."""
    return Answer(504, _TIMEOUT, _HTML)
