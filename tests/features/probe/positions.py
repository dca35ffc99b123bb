"""The sandbox's switches as parameters of tests."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from mcsync.sandbox.switches import SWITCHES


class Position(NamedTuple):
    """One answer to one question. ``default``: the sandbox gives it by itself."""

    question: str
    answer: str
    settings: dict[str, Any]
    """As the control API names them."""
    needs_person: bool
    default: bool

    def __str__(self) -> str:
        return f"{self.question}-{self.answer}"


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


POSITIONS = tuple(
    Position(
        switch.question,
        answer,
        {_camel(name): value for name, value in settings.items()},
        switch.needs_person,
        answer == switch.default,
    )
    for switch in SWITCHES
    for answer, settings in switch.positions.items()
)


def position(question: str, answer: str) -> Position:
    """The one of this name."""
    return next(each for each in POSITIONS if each[:2] == (question, answer))
