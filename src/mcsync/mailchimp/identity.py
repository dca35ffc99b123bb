"""Who a contact and an account are in Mailchimp's eyes (MC 1, 4.1).

Mailchimp finds a member by the MD5 of its lower-cased address and an account by the data
centre written at the end of its API key. Both are derived here, in one place, so that every
join in mcsync uses the same spelling of an address.
"""

import hashlib
import re
from typing import Final

KEY_PATTERN: Final = re.compile(r"^[0-9A-Za-z]{20,64}-(us[0-9]{1,3})$")
"""Shape of a Marketing API key: a secret, a dash, the data centre (MC 1).

Use it with `fullmatch`: `$` alone would also accept a trailing newline.
"""

# What pasted addresses drag along at their ends: every Unicode white space (NBSP among it),
# zero-width and direction marks, the byte order mark.
_AROUND: Final = (
    "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
    + "\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
)


class InvalidApiKey(ValueError):
    """The text is not a Mailchimp API key. The message never repeats the text."""


def normalise_address(email: str) -> str:
    """Return the address as Mailchimp compares it: trimmed and lower-cased (MC 4.1).

    Invisible characters at both ends are dropped; dots and plus-tags stay, they are
    significant. Lower-casing is Unicode-wide and independent of the locale.
    """
    return email.strip(_AROUND).lower()


def subscriber_hash(email: str) -> str:
    """Return the member id of an address: hex MD5 of its normal form in UTF-8 (MC 4.1).

    For addresses outside ASCII Mailchimp's own lower-casing is unknown, so prefer the `id`
    that Mailchimp returned after a write over a hash computed here.
    """
    digest = hashlib.md5(normalise_address(email).encode(), usedforsecurity=False)
    return digest.hexdigest()


def data_centre(api_key: str) -> str:
    """Return the data centre named by an API key, such as `us6` (MC 1).

    Raises `InvalidApiKey` for anything but exactly one key: the data centre becomes part of
    a host name, so nothing else may slip into it.
    """
    match = KEY_PATTERN.fullmatch(api_key)
    if match is None:
        message = "not a Mailchimp API key: expected letters and digits, '-', a data centre"
        raise InvalidApiKey(message)
    return match.group(1)
