"""Named points at which a test may end the process, as a power cut would."""

from __future__ import annotations

from collections.abc import Callable

_hooks: list[Callable[[str], None]] = []


def crash_point(name: str) -> None:
    """Does nothing, unless a test put a hook here."""
    for hook in _hooks:
        hook(name)


def on_crash_point(hook: Callable[[str], None]) -> Callable[[], None]:
    """Calls ``hook`` with the name of every point that is passed; for tests. Answers how to undo it."""
    _hooks.append(hook)
    return lambda: _hooks.remove(hook)
