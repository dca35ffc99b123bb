"""docs/logs.md names every event that the code logs."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def _events(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        event = node.args[0]
        if not isinstance(event, ast.Constant) or not isinstance(event.value, str):
            continue
        match node.func:
            case ast.Attribute(value=ast.Name(id="_log" | "log"), attr=level):
                logged = level in _LEVELS
            case ast.Attribute(value=ast.Attribute(attr="_log"), attr=level):
                logged = level in _LEVELS
            case ast.Name(id="write"):
                logged = True
            case _:
                logged = False
        if logged:
            found.add(event.value)
    return found


def test_every_event_is_documented() -> None:
    documented = (ROOT / "docs" / "logs.md").read_text()
    events = set().union(
        *(
            _events(file.read_text())
            for part in ("core", "features")
            for file in (ROOT / "src" / "mcsync" / part).rglob("*.py")
        ),
        _events((ROOT / "src" / "mcsync" / "worker.py").read_text()),
    )
    assert len(events) > 60
    assert {event for event in events if f"`{event}`" not in documented} == set()
