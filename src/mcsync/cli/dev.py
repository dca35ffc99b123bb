"""``mcsync dev``: the whole service on this machine, kept running."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from mcsync.cli.console import Exit, Output, explained

if TYPE_CHECKING:
    from mcsync.stack import Ready

DEFAULT_PORT = 8000


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM set a flag instead of tearing the process out of what it does."""
    wanted = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        wanted.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield wanted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def dev(
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help=f"Port of the API; default: {DEFAULT_PORT}, or a free one."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many workers.")] = 1,
    no_sandbox: Annotated[
        bool,
        typer.Option(
            "--no-sandbox", help="Use MCSYNC_MAILCHIMP_URL (default: the real Mailchimp)."
        ),
    ] = False,
    data_dir: Annotated[Path, typer.Option(help="Where the data is kept.")] = Path(".mcsync"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when everything is ready.")
    ] = False,
) -> None:
    """Run PostgreSQL, Valkey, the Mailchimp sandbox, the API and a worker until SIGINT or SIGTERM."""
    from mcsync.stack import Options, Stack, StackError, StopRequested

    out = Output(as_json)
    out.json = as_json  # a pipe is no reason to hide the logs
    options = Options(
        data_dir=data_dir.resolve(),
        port=port,
        preferred_port=DEFAULT_PORT, workers=workers, sandbox=not no_sandbox, quiet=as_json
    )  # fmt: skip
    with stop_signals() as stop_wanted:
        stack = Stack(options, tell=out.note, stop_wanted=stop_wanted)
        try:
            ready = explained(out, stack.start)
        except StopRequested:
            return
        except StackError as error:
            out.fail(Exit.FAILED, str(error), kind="not_started")
        try:
            if as_json:
                sys.stdout.write(json.dumps(ready.line()) + "\n")
                sys.stdout.flush()
            else:
                _say(out, ready)
            explained(out, stack.supervise)
        finally:
            out.note("Stopping")
            stack.stop()


def _from_here(file: Path) -> str:
    """The file as a shell in this folder may name it: `.` looks up a bare name in PATH."""
    near = Path.cwd()
    return f"./{file.relative_to(near)}" if file.is_relative_to(near) else str(file)


def _say(out: Output, ready: Ready) -> None:
    url, token = ready.url, ready.token
    out.console.print(f"\n[bold]mcsync is ready:[/] {url}/docs", markup=True)
    out.console.print(f"  token      {token}", soft_wrap=True)
    out.console.print(f"  Mailchimp  {ready.mailchimp_url}", soft_wrap=True)
    if ready.mailchimp_key:  # the sandbox's; it is connected already
        out.console.print(f"  API key    {ready.mailchimp_key}", soft_wrap=True)
    if ready.mandrill_key:
        out.console.print(f"  mail key   {ready.mandrill_key}", soft_wrap=True)
    out.console.print(f"  try        curl -H 'Authorization: Bearer {token}' "
                      f"{url}/mailchimp/connection/get", soft_wrap=True)  # fmt: skip
    if ready.shell:
        called = sys.argv[0] if Path(sys.argv[0]).name == "mcsync" else "mcsync"
        out.console.print(f"  commands   . {shlex.quote(_from_here(ready.shell))}; "
                          f"{shlex.quote(called)} segments list", soft_wrap=True)  # fmt: skip
    out.console.print("  stop       Ctrl-C\n")
