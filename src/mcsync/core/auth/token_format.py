"""What a service token looks like: ``mcs_<22: id>_<43: secret><6: checksum>``, all base62.

One that may stand in a public page begins with ``mcp_``, so that nobody takes it for the other kind.

No character ends a word, so that a double-click selects it whole; the prefix lets secret scanners
find it; the CRC-32 refuses a typo without asking the database.
"""

from __future__ import annotations

import re
import secrets
import zlib
from typing import Final
from uuid import UUID

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_ID_DIGITS, _SECRET_DIGITS, _CHECK_DIGITS = 22, 43, 6
_FORM: Final = re.compile(r"mc[sp]_([0-9A-Za-z]{22})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})")


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text


def _number(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 62 + _VALUE[digit]
    return number


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK_DIGITS)


def make_token(token_id: UUID, *, publishable: bool = False) -> str:
    """A fresh token with 256 random bits."""
    secret = _base62(secrets.randbits(256), _SECRET_DIGITS)
    body = f"{'mcp' if publishable else 'mcs'}_{_base62(token_id.int, _ID_DIGITS)}_{secret}"
    return body + _check(body)


def read_token_id(token: str) -> UUID | None:
    """The id in a well-formed token; None for anything else."""
    form = _FORM.fullmatch(token)
    if form is None or _check(token[:-_CHECK_DIGITS]) != form.group(2):
        return None
    number = _number(form.group(1))
    return UUID(int=number) if number < 1 << 128 else None
