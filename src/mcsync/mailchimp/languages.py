"""The codes of Mailchimp's language property, and what other spellings of a language mean there (MC 4.3)."""

from __future__ import annotations

import re
from typing import Final

LANGUAGES: Final = frozenset(
    [
        "af",
        "ar",
        "be",
        "bg",
        "ca",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "es",
        "es_ES",
        "et",
        "fa",
        "fi",
        "fr",
        "fr_CA",
        "ga",
        "he",
        "hi",
        "hr",
        "hu",
        "id",
        "is",
        "it",
        "ja",
        "km",
        "ko",
        "lt",
        "lv",
        "mk",
        "ms",
        "mt",
        "nl",
        "no",
        "pl",
        "pt",
        "pt_PT",
        "ro",
        "ru",
        "sk",
        "sl",
        "sr",
        "sv",
        "sw",
        "ta",
        "th",
        "tr",
        "uk",
        "vi",
        "zh",
    ]
)
"""Mailchimp's `es` is the Spanish of Mexico, `fr` that of France, `pt` the Portuguese of Brazil."""

# Codes that ISO replaced, two written forms of Norwegian, and codes of three letters.
_OTHERS: Final = {
    "iw": "he", "in": "id", "nb": "no", "nn": "no", "eng": "en", "deu": "de", "ger": "de", "fra": "fr",
    "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl", "dut": "nl", "cmn": "zh", "zho": "zh",
}  # fmt: skip
# Regions that Mailchimp tells apart from the rest of their language.
_REGIONAL: Final = {code.lower(): code for code in LANGUAGES if "_" in code}
# A language tag (RFC 5646), or a locale of POSIX, with whatever follows the language and its region.
_TAG: Final = re.compile(
    r"([a-z]{2,3})(?:[-_][a-z]{3})?(?:[-_][a-z]{4})?(?:[-_]([a-z]{2}|[0-9]{3}))?"
    r"(?:[-_][a-z0-9]{1,8})*(?:\.[a-z0-9-]+)?(?:@[a-z0-9]+)?",
    re.IGNORECASE,
)


def language_code(text: str) -> str | None:
    """Mailchimp's code of a language tag such as `de-DE` or `pt_BR.UTF-8`; None where it has none."""
    found = _TAG.fullmatch(text.strip())
    if found is None:
        return None
    language, region = found[1].lower(), (found[2] or "").lower()
    language = _OTHERS.get(language, language)
    return _REGIONAL.get(f"{language}_{region}") or (language if language in LANGUAGES else None)
