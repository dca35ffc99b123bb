"""Who a contact and an account are in Mailchimp's eyes (MC 1, 4.1).

Mailchimp finds a member by the MD5 of its lower-cased address and an account by the data
centre written at the end of its API key. Both are derived here, in one place, so that every
join in mcsync uses the same spelling of an address.

A domain outside ASCII has two spellings, its Unicode form and its A-label form (`xn--...`). They name
one mailbox, and Mailchimp may keep them as two members: `subscriber_hash` names a member,
`mailbox_hash` the mailbox.
"""

import hashlib
import re
from functools import lru_cache
from typing import Final
from unicodedata import normalize

import idna

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


@lru_cache(maxsize=4096)
def _a_label(domain: str) -> str:
    """The domain in its A-label form; as it stands where it has none."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:
        try:  # what only the older standard takes, such as emoji
            return domain.encode("idna").decode("ascii")
        except UnicodeError:
            return domain


@lru_cache(maxsize=4096)
def _u_label(domain: str) -> str:
    """The domain in its Unicode form; as it stands where it has none."""
    try:
        return idna.decode(domain)
    except UnicodeError:
        try:
            return domain.encode("ascii").decode("idna")
        except UnicodeError:
            return domain


def mailbox_of(email: str) -> str:
    """Return the one form of an address that stands for its mailbox, whatever the spelling.

    Its domain is in the A-label form, so that both spellings, full-width dots and decomposed letters
    come out the same. An ASCII address comes out as `normalise_address` leaves it.
    """
    address = normalise_address(email)
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    return normalize("NFC", local) + at + (domain if domain.isascii() else _a_label(domain))


def mailbox_hash(email: str) -> str:
    """Return the hex MD5 of `mailbox_of`: the same for every spelling of a mailbox.

    For most addresses this is `subscriber_hash`. Where the address is spelled in Unicode it is another,
    and no member of Mailchimp's need have it.
    """
    return hashlib.md5(mailbox_of(email).encode(), usedforsecurity=False).hexdigest()


def spelled_domain(email: str) -> str | None:
    """Return the domain as it is spelled (normalised), where it has two spellings; else None."""
    domain = normalise_address(email).rpartition("@")[2]
    return domain if domain and (not domain.isascii() or "xn--" in domain) else None


def spellings(email: str) -> tuple[str, ...]:
    """Return the spellings under which Mailchimp may know a mailbox, the given one first.

    All are normalised. One where the domain has one spelling only.
    """
    given = normalise_address(email)
    if spelled_domain(given) is None:
        return (given,)
    ascii_form = mailbox_of(given)
    local, at, domain = ascii_form.rpartition("@")
    return tuple(dict.fromkeys((given, ascii_form, local + at + _u_label(domain))))


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
