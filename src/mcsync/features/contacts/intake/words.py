"""Which words state consent in the files that people have, and which withdraw it.

A word that is not understood never opts anybody in. ``docs/consent-in-files.md`` lists the words.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

OPT_STATUSES: Final = ("opted_in", "opted_out", "unset")

_OPT_IN: Final = frozenset({"optedin", "optin"})

CLEAR_WITHDRAWALS: Final = frozenset({
    "abgemeldet", "ausgetragen", "complained", "complaint", "consentrevoked", "consentwithdrawn",
    "declined", "decline", "désabonné", "désinscrit", "desabonne", "desinscrit", "disiscritto",
    "donotcontact", "donotemail", "donotmail", "donotmarket", "donotsend", "dontcontact", "dontemail",
    "nomarketing", "objected", "optedout", "optout", "refused", "revoked", "revoke", "unsub",
    "unsubscribe", "unsubscribed", "widerrufen", "withdraw", "withdrawal", "withdrawn", "withdrew",
})  # fmt: skip
"""Words that can mean nothing but a withdrawal, wherever they stand; without blanks and joints."""

WITHDRAWALS: Final = CLEAR_WITHDRAWALS | {
    "0", "00", "blocked", "denied", "dnc", "f", "false", "falsch", "falso", "faux", "n", "nao", "não", "nee",
    "nein", "nej", "no", "noemail", "nomail", "non", "off", "out", "rejected", "removed", "stop", "stopped",
}  # fmt: skip
"""Words that mean a withdrawal where they stand as ``optStatus``."""

OPT_OUT_COLUMNS: Final = frozenset({
    "donotcontact", "donotemail", "donotmail", "emailoptedout", "emailoptout", "emailunsubscribed",
    "hasoptedout", "hasoptedoutofemail", "isoptedout", "isunsubscribed", "optedout", "optout", "unsubscribed",
})  # fmt: skip
"""Names of columns that can mean nothing but a withdrawal where their value is yes; without blanks and joints."""

YES: Final = frozenset({
    "1", "checked", "ja", "oui", "on", "s", "si", "sim", "sì", "t", "true", "vero", "vrai", "wahr", "x", "y",
    "yes",
})  # fmt: skip
"""Values of such a column that mean yes."""

_DAY: Final = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\b")
_OPT_IN_JOINTS: Final = re.compile(r"[\s_-]+")
_JOINTS: Final = re.compile(r"[\W_]+")
_PHRASE: Final = 3
_MAX_WORD: Final = 500


def _tokens(value: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", value[:_MAX_WORD]).casefold()
    plain = plain.replace("'", "").replace("\u2019", "")
    return [token for token in _JOINTS.split(plain) if token]


def opt_status_of(value: str) -> str | None:
    """What a cell of ``optStatus`` states: ``opted_in``, ``opted_out``, ``unset``; ``None``: not understood.

    An opt-in must be exactly the word. A withdrawal may go on after the word ("unsubscribed by phone").
    """
    joined = _OPT_IN_JOINTS.sub("", value).lower()
    if joined in _OPT_IN:
        return "opted_in"
    if joined == "unset":
        return "unset"
    tokens = _tokens(value)
    if "".join(tokens) in WITHDRAWALS:
        return "opted_out"
    phrases = ("".join(tokens[:length]) for length in range(1, _PHRASE + 1))
    return "opted_out" if any(phrase in CLEAR_WITHDRAWALS for phrase in phrases) else None


def clearly_withdraws(value: str) -> bool:
    """Whether a cell holds a word of withdrawal that means nothing else, whatever column it is of."""
    return len(value) <= _MAX_WORD and "".join(_tokens(value)) in CLEAR_WITHDRAWALS


@lru_cache(maxsize=1_000)
def is_opt_out_column(name: str) -> bool:
    """Whether a column or member of this name says of a person that they withdrew, by yes or no."""
    return len(name) <= _MAX_WORD and "".join(_tokens(name)) in OPT_OUT_COLUMNS


def says_yes(value: object) -> bool:
    """Whether a value of such a column means yes; a word of withdrawal, or the day of one, means it too."""
    if isinstance(value, bool | int | float):
        return value == 1
    if not isinstance(value, str):
        return False
    return (
        "".join(_tokens(value)) in YES
        or clearly_withdraws(value)
        or bool(_DAY.match(value.strip()))
    )


class Statuses:
    """Remembers what words were read as: a file has few of them, many times."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, value: str) -> str | None:
        """Answers what :func:`opt_status_of` answers."""
        if value not in self._known:
            if len(self._known) > 1_000:
                self._known.clear()
            self._known[value] = opt_status_of(value)
        return self._known[value]
