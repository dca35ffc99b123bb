"""What a check answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "warning", "problem"]
SHOWN: Final = 25
"""Findings of one kind about single organisations; more are counted in one line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. ``warning`` is worth knowing and stops nothing."""

    check: str
    state: State
    detail: str
    fix: str = ""


def sound(findings: Sequence[Finding], *checks: str) -> bool:
    """Whether none of these checks found a problem."""
    return all(f.state != "problem" for f in findings if f.check in checks)


def short(error: Exception) -> str:
    """What an error says in one sentence, with PostgreSQL's own words where there are any."""
    from mcsync.cli.console import first_line

    says = first_line(error)
    # SQLAlchemy's name of an error tells nothing; PostgreSQL's own words do
    return (
        says if hasattr(error, "orig") and says else f"{type(error).__name__}: {says}".rstrip(": ")
    )


def ago(seconds: float) -> str:
    """A time span for people: ``42 s``, ``7 min``, ``3 h``, ``2 days``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} days"
