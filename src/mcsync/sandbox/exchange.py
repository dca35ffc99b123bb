"""One request and its answer, without the socket: what the handlers of the API see."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from . import problems
from .clock import parse_time
from .fields import Selection
from .history import Actor

if TYPE_CHECKING:
    from .audience import Audience
    from .config import SandboxConfig
    from .world import Account, World

_TRUE = {"true", "1"}
_MOST = 1000
_DEFAULT_COUNT = 10


@dataclass(slots=True)
class Answer:
    """Status, body and extra headers. A body of None goes out empty."""

    status: int
    body: bytes | None
    content_type: str = "application/json; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Request:
    """One call to the Marketing API, authenticated and routed."""

    world: World
    account: Account
    method: str
    path: str
    """After /3.0, as it came."""
    query: dict[str, str]
    body: Any
    request_id: str
    host: str = ""
    caller: str = ""
    """The network address that the call came from."""
    args: tuple[str, ...] = field(default=())
    """The variable parts of the path, percent-decoded."""
    probed: int | None = None
    """What a webhook's URL answered when it was asked ahead; 0 if nothing."""

    @property
    def config(self) -> SandboxConfig:
        return self.world.config

    def actor(self, via: str) -> Actor:
        return Actor("api", via, self.world.clock.now(), self.request_id)

    def audience(self) -> Audience:
        """The list named by the first part of the path; 404 if this account has none of that id."""
        found = self.account.lists.get(self.args[0])
        if found is None:
            raise problems.not_found()
        return found

    def json_object(self) -> dict[str, Any]:
        """The body, which must be an object (MC 14)."""
        if not isinstance(self.body, dict):
            raise problems.invalid_resource(
                None, ("", "Schema describes object, other type found instead")
            )
        return self.body

    # Query parameters (MC 2)

    def flag(self, name: str) -> bool:
        """true, false, 1, 0 in any case; anything else counts as false."""
        return self.query.get(name, "").lower() in _TRUE

    def flags(self, *names: str) -> dict[str, bool]:
        return {name: self.flag(name) for name in names}

    def paging(self) -> tuple[int, int]:
        """Offset and count; a count above 1000 yields 1000, silently."""
        try:
            offset = int(self.query.get("offset", 0))
            count = int(self.query.get("count", _DEFAULT_COUNT))
        except ValueError:
            raise problems.bad_request("count and offset must be whole numbers.") from None
        if offset < 0 or count < 0:
            raise problems.bad_request("count and offset must not be negative.")
        return offset, min(count, _MOST)

    def time(self, name: str) -> int | None:
        """The whole second of a time parameter; None if it is absent."""
        if name not in self.query:
            return None
        second = parse_time(self.query[name])
        if second is None:
            raise problems.bad_request(f"{name} is not a valid ISO 8601 time.")
        return second

    def selection(self) -> Selection:
        """What `fields` or `exclude_fields` leave of the answer."""
        include = "" if self.config.fields_ignored else self.query.get("fields", "")
        return Selection.parse(include, self.query.get("exclude_fields", ""))


def parse_query(raw: bytes) -> dict[str, str]:
    """The last value of each parameter."""
    if not raw:
        return {}
    return dict(urllib.parse.parse_qsl(raw.decode("latin-1"), keep_blank_values=True))


def ok(body: dict[str, Any], request: Request) -> Answer:
    """200 with what the request selected of a body; creations too answer 200, never 201 (MC 2)."""
    return Answer(200, orjson.dumps(request.selection().apply(body)))


def no_content() -> Answer:
    return Answer(204, None)


def refusal(problem: problems.Problem, request_id: str) -> Answer:
    """A problem as application/problem+json (MC 14)."""
    body = orjson.dumps(problem.body(request_id))
    kind = "application/problem+json; charset=utf-8"
    return Answer(problem.status, body, kind, problem.headers)
