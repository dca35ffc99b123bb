"""The rows of an Excel workbook (.xlsx), as texts, one after the other.

Read by openpyxl in its read-only mode. A workbook is a zip of XML, so its parts are measured before any is
read: what a zip says of its sizes is the most that comes out of it. See docs/decisions/0016.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import IO, Any, Final, NoReturn

from mcsync.core.errors import BadRequestError, TooLargeError, UnsupportedMediaError

MAX_BYTES: Final = 50 << 20
"""The largest workbook, as it is sent."""

MAX_UNPACKED: Final = 1 << 30
MAX_TEXTS: Final = 64 << 20
MAX_PART: Final = 16 << 20
"""The most that the texts, which are kept in memory, and any other part but the sheets may unpack to."""

MAX_WITHOUT_ROW: Final = 16 << 20
"""The most of a sheet that is no row, or one row, and of a text: the parser holds so much at once."""

MAX_ROWS: Final = 1 << 20
"""Excel has no more."""

_SHEET: Final = re.compile(r"xl/worksheets/[^/]+\.xml")
_TEXTS: Final = "xl/sharedstrings.xml"
_ROW: Final = re.compile(rb"<(?:\w+:)?row[\s/>]")
_TEXT: Final = re.compile(rb"<(?:\w+:)?si[\s/>]")
_NO_RESULT: Final = re.compile(
    rb'<(?:\w+:)?c(?=[\s>])(?![^>]{0,300}\st="str")[^>]{0,300}>\s*'
    rb"<(?:\w+:)?f(?:\s[^<>]{0,300})?(?:/>|>[^<]{0,10000}</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
"""A cell with a formula and without a value; that of an empty text has one, which is empty."""

_OVERLAP: Final = 12_000
_ZEROS: Final = re.compile(r"0{2,30}")
_ERROR: Final = "\udcff"
_SAVE: Final = "Save the sheet as CSV in UTF-8."


class SheetRows:
    """The rows of the first visible sheet. May only be used by one thread at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises TooLargeError, UnsupportedMediaError and BadRequestError."""
        try:
            with zipfile.ZipFile(file) as archive:
                _measure(archive)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as error:
            _unreadable(error)
        self._file = file
        self._book: Any = None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's number, which counts from 1, and its cells. Raises BadRequestError, TooLargeError."""
        try:
            for number, cells in enumerate(self._sheet().iter_rows(), 1):
                if number > MAX_ROWS:
                    raise TooLargeError(
                        f"The sheet has rows below row {MAX_ROWS}. {_SAVE}",
                        code="spreadsheet_too_large",
                    )
                yield number, [_text(cell) for cell in cells]
        except (BadRequestError, TooLargeError, UnsupportedMediaError):
            raise
        except Exception as error:  # noqa: BLE001 - the library raises anything for a damaged file
            _unreadable(error)

    def close(self) -> None:
        """Lets go of the file."""
        if self._book is not None:
            self._book.close()

    def _sheet(self) -> Any:
        try:
            import openpyxl
        except ImportError:
            raise UnsupportedMediaError(
                f"Workbooks cannot be read here: pip install 'mcsync[xlsx]'. {_SAVE}",
                code="unreadable_file",
            ) from None
        # It warns of each thing that it leaves out, and quotes values.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\b")
        self._book = openpyxl.load_workbook(
            self._file, read_only=True, data_only=True, keep_links=False
        )
        sheets = self._book.worksheets
        visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"] or sheets
        if not visible:
            raise BadRequestError("The workbook has no sheet.", code="unreadable_spreadsheet")
        sheet = visible[0]
        sheet.reset_dimensions()  # what the file says of them need not be true
        with self._book._archive.open(sheet._worksheet_path) as part:  # noqa: SLF001 - no other way to it
            _check_formulas(part)
        return sheet


def _measure(archive: zipfile.ZipFile) -> None:
    """Refuses what is no workbook, and one that unpacks to too much."""
    parts = {part.filename.lower(): part.file_size for part in archive.infolist()}
    if "xl/workbook.xml" not in parts:
        kind = _kind(archive, parts)
        raise UnsupportedMediaError(
            f"The file is {kind}, which is not read. Save it as .xlsx, or as CSV in UTF-8.",
            code="unreadable_file",
        )
    for name, size in parts.items():
        longest = MAX_PART
        if _SHEET.fullmatch(name):
            longest = MAX_UNPACKED
        elif name == _TEXTS:
            longest = MAX_TEXTS
        if size > longest:
            _too_large()
    if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED:
        _too_large()
    for long in archive.infolist():
        if long.file_size > MAX_WITHOUT_ROW:
            with archive.open(long) as part:
                _check_stretches(part, _TEXT if long.filename.lower() == _TEXTS else _ROW)


def _kind(archive: zipfile.ZipFile, parts: dict[str, int]) -> str:
    if parts.get("mimetype", 1_000) < 100 and b"opendocument" in archive.read("mimetype"):
        return "an OpenDocument file (.ods)"
    if "xl/workbook.bin" in parts:
        return "a binary workbook (.xlsb)"
    return "a zip archive"


def _check_stretches(part: IO[bytes], element: re.Pattern[bytes]) -> None:
    """Refuses a part with a stretch without the element that is too long for the parser."""
    since_row, held = 0, b""
    while piece := part.read(1 << 18):
        since_row = 0 if element.search(held + piece) else since_row + len(piece)
        if since_row > MAX_WITHOUT_ROW:
            _too_large()
        held = piece[-100:]


def _check_formulas(part: IO[bytes]) -> None:
    """Refuses a sheet with formulas that have no stored result: their cells would look empty."""
    held = b""
    while piece := part.read(1 << 18):
        data = held + piece
        if (b"<f" in data or b":f" in data) and _NO_RESULT.search(data):
            raise BadRequestError(
                "The sheet has a formula whose result is not stored in the file. Open the file in a"
                f" spreadsheet program and save it there. Or: {_SAVE}",
                code="unreadable_spreadsheet",
            )
        held = data[-_OVERLAP:]


def _text(cell: Any) -> str:
    """A cell as CSV would have it, with dates and times as in ISO 8601."""
    value = cell.value
    if value is None:
        return ""
    if (
        cell.data_type == "e"
    ):  # #N/A and its like: told as a value that cannot be read, and never stored
        return _ERROR
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = _number(value)
        shown = cell.number_format
        return text.zfill(len(shown)) if _ZEROS.fullmatch(shown) and text.isdigit() else text
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def _number(value: float) -> str:
    """A number in all its digits: no ``.0``, no exponent, and no more digits than Excel keeps."""
    if value == int(value):
        return str(int(value))
    text = f"{value:.15g}"
    return f"{value:.15f}".rstrip("0") if "e" in text else text


def _moment(value: datetime) -> str:
    rounded = (value + timedelta(microseconds=500_000)).replace(microsecond=0)
    return rounded.isoformat() if rounded.time() != time() else rounded.date().isoformat()


def _too_large() -> NoReturn:
    raise TooLargeError(
        f"The workbook is larger than what is read of one. {_SAVE}", code="spreadsheet_too_large"
    )


def _unreadable(error: Exception) -> NoReturn:
    raise BadRequestError(
        "The file is said to be a workbook (.xlsx) and cannot be read as one. It may be damaged; open it in"
        f" a spreadsheet program and save it there. Or: {_SAVE}",
        code="unreadable_spreadsheet",
    ) from error
