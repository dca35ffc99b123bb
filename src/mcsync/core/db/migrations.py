"""Where the migrations lie, and which is the newest; from a checkout and from the wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mcsync


@cache
def migrations_directory() -> Path:
    """The directory of Alembic's environment. Raises ``FileNotFoundError``."""
    package = Path(mcsync.__file__).parent
    for candidate in (package / "migrations", package.parents[1] / "migrations"):
        if (candidate / "env.py").is_file():
            return candidate
    message = "the migrations are not installed"
    raise FileNotFoundError(message)


@cache
def head_revision() -> str:
    """The newest revision that this version knows."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory(str(migrations_directory())).get_current_head()
    assert head is not None
    return head
