"""A run on a progress bar: the steps it goes through, and how far the push is."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

PUSHED = ("add", "update", "resubscribe", "unsubscribe", "untag", "archive", "rename")
STEPS = {
    "queued": "waiting for a worker",
    "pulling": "pulling what changed at Mailchimp",
    "planning": "planning",
    "pushing": "pushing",
    "awaiting_approval": "waits for approval",
    "succeeded": "done",
    "succeeded_with_errors": "done, some rows were refused",
    "failed": "failed",
    "cancelled": "cancelled",
}


class RunProgress:
    """A context in which :meth:`show` draws the latest state of a run (its JSON form)."""

    def __init__(self, console: Console, *, quiet: bool = False, label: str = "") -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[label]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[sent]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.description}"),
            console=console,
            disable=quiet,
            refresh_per_second=12,
        )
        self._task = self._progress.add_task("starting", total=None, label=label, sent="", rate="")

    def show(self, view: Mapping[str, Any]) -> None:
        """Draws a state of the run."""
        counts = view["counts"]
        total = sum(counts[action] for action in PUSHED) - view["held"]
        done = counts["done"] + counts["failed"]
        planned = view["status"] not in {"queued", "pulling", "planning"}
        rate = view["ratePerSecond"]
        eta = view["etaSeconds"]
        speed = f"{rate:,.0f}/s" if rate else ""
        left = f", {eta:.0f} s left" if eta else ""
        self._progress.update(
            self._task,
            total=max(total, 1) if planned else None,
            completed=done if total else int(planned),
            sent=f"{done}/{total}" if planned else "",
            rate=speed + left,
            description=STEPS.get(view["status"], view["status"]),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.stop()
