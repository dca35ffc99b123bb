"""Terminals of any width and kind, and none: what is printed stays whole, and nothing ends in a traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping

import orjson
import pytest
import typer.main
from rich.console import Console

from mcsync.cli.app import app
from mcsync.cli.tables import make_table
from tests.cli.terminal import call

ID = "01a22fff-0000-7000-8000-000000000000"
TIME = "2026-12-01T04:05:06.123456Z"
MCSYNC = (sys.executable, "-m", "mcsync")
# Nothing listens at port 9, the discard service.
NOBODY = {
    "MCSYNC_DATABASE_URL": "postgresql://nobody:word@127.0.0.1:9/x",
    "MCSYNC_REDIS_URL": "redis://127.0.0.1:9/0",
    "MCSYNC_MASTER_KEYS": '{"k": "NywDwCCXc/7EMA/bY93H6/YfROuiKO5CKnHrc8Qrud0="}',
}


def _environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MCSYNC_")} | more


def _drawn(width: int, headings: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(make_table(headings, rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestTables:
    @pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
    @pytest.mark.parametrize(
        ("headings", "row"),
        [
            (("id", "name", "created"), (ID, "Nordlicht", TIME)),
            (("id", "status", "trigger", "changes", "failed", "created"),
             (ID, "succeeded_with_errors", "manual", "12 add, 3 update", "0", TIME)),
            (("id", "who", "note", "expires", "used"), (ID, "x" * 120, "many words " * 20, TIME, TIME)),
            (("when", "id", "other"), (TIME, ID, ID)),
            (("address", "id"), ("somebody.with.a.long.name@department.corp.example", ID)),
        ],
    )  # fmt: skip
    def test_ids_and_times_stay_whole_and_what_is_left_out_is_said(
        self, width: int, headings: tuple[str, ...], row: tuple[str, ...]
    ) -> None:
        said = _drawn(width, headings, row)
        assert max(map(len, said.splitlines())) <= width
        plain = " ".join(said.split())
        left = plain.split("Left out at this width: ")[1:]
        missing = left[0].split(". --json")[0].split(", ") if left else []
        assert headings[0] not in missing
        for heading, cell in zip(headings, row, strict=True):
            if cell in {ID, TIME} and heading not in missing:
                assert any(cell in line for line in said.splitlines()), (heading, said)
        assert width < 200 or not missing

    @pytest.mark.parametrize(("width", "missing"), [(80, []), (60, ["created"])])
    def test_organisations(self, width: int, missing: list[str]) -> None:
        said = _drawn(width, ("id", "name", "created"), (ID, "Nordlicht", "2026-12-01T04:05:06Z"))
        assert ("2026-12-01T04:05:06Z" in said) is (not missing)
        assert ("Left out at this width: created." in said) is bool(missing)

    def test_cells_are_text(self) -> None:
        said = _drawn(60, ("name",), ("[/b]",), ("[bold]x[/bold]",), (":smile:",), ("\\[x]",))
        for cell in ("[/b]", "[bold]x[/bold]", ":smile:", "\\[x]"):
            assert cell in said


class TestStreams:
    @pytest.mark.parametrize("line", ["--help", "keys generate", "openapi"])
    def test_a_reader_that_goes_away_is_no_error(self, line: str) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [*MCSYNC, *line.split()], stdout=writer, stderr=subprocess.PIPE,
                env=_environment(), timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")

    @pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
    @pytest.mark.parametrize("line", ["keys generate", "org list", "erasures verify -"])
    def test_closed_streams(self, line: str, closed: str) -> None:
        script = f'exec "$0" -m mcsync {line} {closed}'
        done = subprocess.run(
            ["/bin/sh", "-c", script, sys.executable], env=_environment(), capture_output=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == {"keys generate": 0, "org list": 3, "erasures verify -": 2}[line]
        assert b"Traceback" not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        "locale",
        [
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"PYTHONIOENCODING": "ascii"},
        ],
    )
    def test_a_locale_without_utf_8(self, locale: Mapping[str, str]) -> None:
        name = "schlüssel" if "PYTHONIOENCODING" in locale else "key"
        done = subprocess.run(
            [*MCSYNC, "keys", "generate", "--name", name], env=_environment(**locale),
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        assert list(orjson.loads(done.stdout)) == [name]
        refused = subprocess.run(
            [*MCSYNC, "contacts", "import", "nirgends-ü.csv"], env=_environment(**locale),
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 2
        assert b"Traceback" not in refused.stderr

    def test_an_argument_that_is_no_text_is_wrong_usage(self) -> None:
        done = subprocess.run(
            [*(part.encode() for part in MCSYNC), b"org", b"create", b"\xff\xfe"],
            env=_environment(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert orjson.loads(done.stderr)["error"]["code"] == "usage"


class TestFailures:
    @pytest.mark.parametrize(
        "line",
        ["org list", "token list", "contacts list", "segments list", "runs list", "webhooks list",
         "erasures list", "erasures export", "audit verify", "sources list", "campaigns list",
         "transactional list", "keys doctor", "keys rotate", "migrate"],
    )  # fmt: skip
    def test_unreachable_and_not_configured(self, line: str) -> None:
        assert call(line.split(), env=NOBODY).code == 5
        none = dict.fromkeys(NOBODY, "")
        done = call(line.split(), env=none)
        assert (done.code, done.error["code"]) == (3, "not_configured")
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("terminal", [True, False])
    def test_what_nobody_expected_is_one_sentence(
        self, terminal: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            message = "of mcs_0356yuaJXjlRX9uXPm6iM_ssqdfCnGVqbno"
            raise AttributeError(message)

        monkeypatch.setattr("mcsync.cli.keys.print_json", broken)
        done = call(["keys", "generate"], env=_environment(), terminal=terminal)
        assert done.code == 1
        said = done.stderr if terminal else done.error["message"]
        assert "AttributeError" in said
        assert "MCSYNC_LOG_LEVEL=DEBUG" in " ".join(said.split())
        assert "mcs_0356" not in said
        assert "Traceback" not in said
        with pytest.raises(AttributeError):
            call(["keys", "generate"], env=_environment(MCSYNC_LOG_LEVEL="DEBUG"))


HEAVY = ("fastapi", "starlette", "sqlalchemy", "asyncpg", "redis", "arq", "httpx", "cryptography", "structlog",
         "uvicorn", "alembic", "mcsync.core.settings", "mcsync.core.resources", "mcsync.mailchimp")  # fmt: skip


def _imported(line: str, **more: str) -> set[str]:
    """The modules that a command has imported when it is over."""
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write('\\n'.join(['', 'MODULES', *sys.modules])))\n"
        "from mcsync.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *line.split()], env=_environment(**more), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    return set(done.stderr.split("\nMODULES\n")[1].split())


COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


class TestStart:
    """What a command imports decides how soon it starts."""

    @pytest.mark.parametrize(
        "line",
        ["--help", "--version", "nonsense", "keys generate", "org create",
         *(f"{name} --help" for name in COMMANDS)],
    )  # fmt: skip
    def test_help_and_wrong_usage_import_nothing_heavy(self, line: str) -> None:
        allowed = {"demo --help": {"httpx"}}.get(line, set())
        assert _imported(line) & set(HEAVY) - allowed == set()

    def test_completion_imports_no_command(self) -> None:
        found = _imported(
            "", _MCSYNC_COMPLETE="complete_bash", COMP_WORDS="mcsync se", COMP_CWORD="1"
        )
        assert found & set(HEAVY) == set()
        assert "mcsync.cli.segments" not in found

    @pytest.mark.parametrize(
        "line", ["org list", "token list", "audit list", "contacts list", "segments list",
                 "runs list", "webhooks list", "erasures list", "sources list",
                 "campaigns list", "transactional list", "keys doctor", "doctor"]
    )  # fmt: skip
    def test_no_command_but_the_api_imports_the_web_framework(self, line: str) -> None:
        found = _imported(line, **NOBODY)
        assert "sqlalchemy" in found
        assert found & {"fastapi", "starlette", "uvicorn", "mcsync.app"} == set()
