"""One control call, as its handlers see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from ..audience import Audience
from ..exchange import Answer
from ..world import World
from .state import Sandbox


class Unknown(Exception):
    """The thing named in the path does not exist."""


@dataclass(slots=True, frozen=True)
class ControlCall:
    """Path parts, query and JSON body."""

    sandbox: Sandbox
    args: tuple[str, ...]
    query: dict[str, list[str]]
    body: dict[str, Any]

    @property
    def world(self) -> World:
        return self.sandbox.world

    def audience(self) -> Audience:
        """The list named in the path, of any account."""
        found = self.world.audiences.get(self.args[0])
        if found is None:
            raise Unknown(f"no list {self.args[0]}")
        return found

    def first(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]


def reply(body: Any) -> Answer:
    return Answer(200, orjson.dumps(body))
