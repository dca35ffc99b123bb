"""Contacts in a workbook: its rows go the careful way of CSV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.csv_file import CsvIntake
from mcsync.features.contacts.intake.xlsx import SheetRows

_ROWS: Final = 250
"""So many rows at once, so that others get their turn."""


class SheetIntake:
    """Stages the rows of a sheet by ``rows``, which reads CSV otherwise. The line of a row is its number."""

    kind = "xlsx"

    def __init__(self, rows: CsvIntake) -> None:
        self._rows = rows

    @property
    def received(self) -> int:
        return self._rows.received

    @property
    def fields(self) -> frozenset[str]:
        return self._rows.fields

    @property
    def masked(self) -> bool:
        return self._rows.masked

    @property
    def consent(self) -> bool:
        return self._rows.consent

    def lines(self, sheet: SheetRows) -> Iterator[bytes]:
        """COPY lines, some rows at a time. Raises BadRequestError and TooLargeError."""
        rows = iter(sheet)
        for _, names in rows:
            if any(map(str.strip, names)):
                self._rows.name_columns(names)
                break
        else:
            raise BadRequestError(
                "The first sheet is empty; its first row must name the columns.",
                code="missing_columns",
            )
        width = len(names)
        while batch := list(islice(rows, _ROWS)):
            yield "".join([self._stage(number, cells, width) for number, cells in batch]).encode(
                errors="surrogateescape"
            )

    def _stage(self, number: int, cells: list[str], width: int) -> str:
        """A row; a sheet does not keep its empty last cells, so a short row has not shifted."""
        return self._rows.take_row(number, cells + [""] * (width - len(cells)))

    def feed(self, data: bytes) -> bytes:
        """A workbook is not read in pieces: its directory stands at the end."""
        raise NotImplementedError

    def finish(self) -> bytes:
        """As :meth:`feed`."""
        raise NotImplementedError
