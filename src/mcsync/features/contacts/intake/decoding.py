"""The encoding of a file: what its first bytes and its content type say, and how it becomes UTF-8."""

from __future__ import annotations

import codecs
import re
from typing import Final

from mcsync.core.errors import UnsupportedMediaError

_MARKS: Final = (  # UTF-32 first: its little-endian mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNICODE: Final = {
    "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "ascii",
}  # fmt: skip
_WIDER: Final = {
    "iso8859_1": "cp1252", "iso8859_9": "cp1254", "tis_620": "cp874", "iso8859_11": "cp874",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "cp950", "gb2312": "gb18030", "gbk": "gb18030",
}  # fmt: skip
"""Programs declare the standard's name and write Windows' larger set, as the WHATWG Encoding Standard says."""

_ALSO_CALLED: Final = {
    "ansi_x3.4-1968": "ascii", "cn-big5": "big5", "dos-874": "cp874", "iso-10646-ucs-2": "utf-16",
    "iso-8859-8-i": "iso-8859-8", "iso88591": "latin1", "koi8": "koi8-r", "mac": "macintosh", "ucs-2": "utf-16",
    "unicode": "utf-16", "windows-31j": "cp932", "windows-874": "cp874", "windows-949": "cp949",
}  # fmt: skip
"""Names of that standard, and of Excel, that Python does not know."""

_NOT_FOR_FILES: Final = {"idna", "punycode", "raw_unicode_escape", "mbcs", "oem"}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_READABLE: Final = bytes([9, 10, 13, *range(0x20, 0x7F)])

_UNDECODABLE: Final = "mcsync.undecodable"
codecs.register_error(_UNDECODABLE, lambda error: ("\udcff", getattr(error, "end")))  # noqa: B009
"""Marks what is no character in the file's encoding by a byte that is none in UTF-8, so that the row is told."""


def codec_of(charset: str) -> str:
    """The codec of a charset's name. Raises UnsupportedMediaError (``unknown_charset``)."""
    name = charset.strip()
    if _NAME.fullmatch(name):
        for spelled in (name.lower(), name.lower().removeprefix("x-")):
            found = _codec(_ALSO_CALLED.get(spelled, spelled))
            if found is not None:
                return found
    raise UnsupportedMediaError(
        "The charset of the content type is not known. Name one such as utf-8, utf-16, windows-1252,"
        " iso-8859-15 or shift_jis, or save the file as CSV in UTF-8.",
        code="unknown_charset",
    )


def _codec(name: str) -> str | None:
    """The codec that reads a charset, if it is one in which text files are written."""
    try:
        plain = codecs.lookup(name).name.replace("-", "_")
        if plain in _UNICODE:
            return "utf-8" if plain in ("ascii", "utf_8_sig") else plain.replace("_", "-")
        readable = _READABLE.decode(plain) == _READABLE.decode("ascii")
    except (LookupError, ValueError):  # UnicodeError is a ValueError
        return None
    return _WIDER.get(plain, plain) if readable and plain not in _NOT_FOR_FILES else None


def encoding_of(start: bytes, charset: str | None) -> str:
    """The codec of a file that starts like this; a byte order mark says more than ``charset``.

    Without both it is UTF-8, or UTF-16 if the first two characters are plain letters of that.
    Raises UnsupportedMediaError (``unknown_charset``).
    """
    declared = codec_of(charset) if charset else None
    for mark, codec in _MARKS:
        if start.startswith(mark):
            return codec
    if declared == "utf-32":
        return "utf-32-be" if start[:1] == b"\0" else "utf-32-le"
    if declared not in (None, "utf-16"):
        return declared
    zeros = [byte == 0 for byte in start[:4]]
    if zeros == [True, False, True, False]:
        return "utf-16-be"
    if declared == "utf-16" or zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-8"


class Decoder:
    """Turns pieces of a file into pieces of UTF-8."""

    def __init__(self, codec: str) -> None:
        self._decoder = codecs.getincrementaldecoder(codec)(_UNDECODABLE)

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """The next piece; an undecodable character becomes the byte FF, which is none in UTF-8."""
        return self._decoder.decode(data, last).encode("utf-8", "surrogateescape")


def parameter(content_type: str, name: str) -> str | None:
    """A parameter of a content type, such as its ``charset``, without quotes."""
    for given in content_type.split(";")[1:]:
        key, _, value = given.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip("\"'").strip() or None
    return None


__all__ = ["Decoder", "codec_of", "encoding_of", "parameter"]
