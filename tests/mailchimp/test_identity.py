"""Addresses and keys as Mailchimp reads them."""

import hashlib

import pytest

from mcsync.mailchimp import (
    KEY_PATTERN,
    InvalidApiKey,
    data_centre,
    normalise_address,
    subscriber_hash,
)

KEY = "0123456789abcdef0123456789abcdef-us6"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ada.lovelace@example.com", "2b9150605ac374d671a306b5fcee60a0"),
        ("Freddie@Example.com", "a27d287ece304faf3da8de511cc8b5a8"),
        (" user+tag@grouparoo.com\n", "b607b4e86997314b2e1320366402a832"),
        ("MÜLLER@exämple.de", "ac572296ab671985cafca2c7bb4d9e1d"),
    ],
)
def test_hashes_are_those_of_the_fact_sheet(address: str, expected: str) -> None:
    assert subscriber_hash(address) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("\u00a0Ada@x.org\u200b", "ada@x.org"),
        ("\ufeff \u200b\tada@x.org \ufeff\u00a0", "ada@x.org"),
        ("ada.b+c@x.org", "ada.b+c@x.org"),
        ("I@x.org", "i@x.org"),
        ("ΟΔΟΣ@x.org", "οδος@x.org"),
        ("", ""),
    ],
)
def test_addresses_are_trimmed_and_lowered(raw: str, expected: str) -> None:
    assert normalise_address(raw) == expected
    assert subscriber_hash(raw) == hashlib.md5(expected.encode(), usedforsecurity=False).hexdigest()


def test_a_key_names_its_data_centre() -> None:
    assert data_centre(KEY) == "us6"
    assert data_centre("0" * 32 + "-us123") == "us123"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        KEY + "\n",
        " " + KEY,
        KEY + ".evil.org",
        "0" * 32 + "-us1234",
        "0" * 32 + "-US6",
        "0" * 32 + "-us٣",
        "0" * 32 + "-us6/..",
        "0" * 19 + "-us6",
        "0" * 65 + "-us6",
        "0" * 32,
    ],
)
def test_anything_else_is_no_key_and_is_not_repeated(bad: str) -> None:
    assert KEY_PATTERN.fullmatch(bad) is None
    with pytest.raises(InvalidApiKey) as caught:
        data_centre(bad)
    assert not bad or bad not in str(caught.value)
