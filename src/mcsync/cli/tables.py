"""Tables at any width: a table that does not fit loses columns, and never a part of an id or a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_BETWEEN: Final = 3
"""Characters between two columns."""
_WHOLE: Final = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?",
    re.IGNORECASE,
)
"""Ids and times: copied into the next command, so they stay in one piece."""
_LONGEST_WORD: Final = 24
"""Longer words that are neither an id nor a time may be broken."""


class FittingTable:
    """A plain table; cells are text, not markup. At a terminal that is too narrow it leaves out columns.

    The first column always stays; of the others those stay that fit, in their order. What was left out
    is said below the table.
    """

    def __init__(
        self, headings: Iterable[str], rows: Iterable[Sequence[str]], *, title: str = ""
    ) -> None:
        self._headings = list(headings)
        self._rows = [list(row) for row in rows]
        self._title = title

    def fitting(self, width: int) -> list[int]:
        """The numbers of the columns that are shown at this width."""
        least = [self._least(number) for number in range(len(self._headings))]
        shown: list[int] = []
        used = -_BETWEEN
        for number, needed in enumerate(least):
            if not shown or used + _BETWEEN + needed <= width:
                shown.append(number)
                used += _BETWEEN + needed
        return shown

    def _least(self, number: int) -> int:
        cells = [self._headings[number], *(row[number] for row in self._rows)]
        return max(_least_width(cell) for cell in cells)

    def _table(self, shown: Sequence[int]) -> Table:
        from rich.table import Table
        from rich.text import Text

        title = Text(self._title) if self._title else None
        table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
        for number in shown:
            table.add_column(
                Text(self._headings[number]), overflow="fold", min_width=self._least(number)
            )
        for row in self._rows:
            table.add_row(*(Text(row[number]) for number in shown))
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints: the table, and what it leaves out."""
        from rich.text import Text

        shown = self.fitting(options.max_width)
        yield self._table(shown)
        missing = [name for n, name in enumerate(self._headings) if n not in shown]
        if missing:
            yield Text(f"Left out at this width: {', '.join(missing)}. --json shows everything.")


def _least_width(cell: str) -> int:
    if _WHOLE.fullmatch(cell):
        return cell_len(cell)
    return max((_least_of_word(word) for word in cell.split()), default=1)


def _least_of_word(word: str) -> int:
    length = cell_len(word)
    return length if _WHOLE.search(word) else min(length, _LONGEST_WORD)


def make_table(
    headings: Iterable[str], rows: Iterable[Sequence[str]], *, title: str = ""
) -> FittingTable:
    """A table for :meth:`rich.console.Console.print`."""
    return FittingTable(headings, rows, title=title)
