"""Every code that an answer may carry is registered, with its own status, and so has a page."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mcsync
from mcsync.app import create_app
from mcsync.core.errors import McsyncError
from mcsync.core.web.problems import all_problems

SOURCE = Path(mcsync.__file__).parent


def _errors(kind: type[McsyncError] = McsyncError) -> Iterator[type[McsyncError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)


def _raised() -> Iterator[tuple[str, int, str]]:
    """Code, status and place of each error that is made with a code of its own."""
    kinds = {kind.__name__: kind for kind in _errors()}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        # the commands' own errors are on no page: nothing serves them; only a command probes
        if place.startswith(("cli/", "features/probe/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            if name not in kinds:
                continue
            for given in node.keywords:
                if given.arg == "code" and isinstance(given.value, ast.Constant):
                    yield str(given.value.value), kinds[name].status, f"{place}:{node.lineno}"


def test_every_code_that_is_raised_has_a_page() -> None:
    create_app()
    known = {(kind.code, kind.status) for kind in all_problems()}
    raised = list(_raised())
    assert len(raised) > 30
    assert [one for one in raised if one[:2] not in known] == []
    codes = {code for code, _ in known}
    assert [kind for kind in _errors() if kind.default_code not in codes] == []


def test_every_kind_says_what_to_do() -> None:
    create_app()
    assert [kind.code for kind in all_problems() if not (kind.title and kind.advice)] == []
