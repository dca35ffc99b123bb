"""Commands as people and as scripts run them, in this process: whole, from the arguments to the exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from mcsync.cli.entry import main


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Its result."""
        return orjson.loads(self.stdout)

    @property
    def error(self) -> Any:
        """Its error."""
        return orjson.loads(self.stderr)["error"]


class _Stream(io.TextIOWrapper):
    def __init__(self, terminal: bool, content: bytes = b"") -> None:
        self.terminal = terminal
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def call(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    terminal: bool = False,
    columns: int = 80,
    typed: bytes = b"",
) -> Ended:
    """Runs ``mcsync`` with the arguments and in this environment; ``typed`` is its standard input."""
    out, err = _Stream(terminal), _Stream(terminal)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **env,
            "COLUMNS": str(columns),
            "NO_COLOR": "1",
            "TERM": "xterm",
        }.items():
            patch.setenv(name, value)
        for name, stream in {
            "stdin": _Stream(terminal, typed),
            "stdout": out,
            "stderr": err,
        }.items():
            patch.setattr(sys, name, stream)
        code: int | str | None = 0
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, out.text(), err.text())
