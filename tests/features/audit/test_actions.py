"""The list of what the audit knows is the list of what happens."""

from __future__ import annotations

import re
from pathlib import Path

import mcsync
from mcsync.features.audit import AuditAction


def test_every_action_is_written_somewhere() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted(Path(mcsync.__file__).parent.rglob("*.py"))
    )
    written = set(re.findall(r"\bAuditAction\.([A-Z_]+)\b", source))
    assert {action.name for action in AuditAction} == written
