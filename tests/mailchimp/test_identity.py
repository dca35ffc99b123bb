"""Addresses and keys as Mailchimp reads them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsync.mailchimp import (
    KEY_PATTERN,
    InvalidApiKey,
    data_centre,
    mailbox_hash,
    mailbox_of,
    normalise_address,
    spelled_domain,
    spellings,
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


@pytest.mark.parametrize(
    "spelled",
    [
        "x@bücher.test",
        "X@BÜCHER.test",
        "x@bu\u0308cher.test",
        "x@bücher\u3002test",
        "x@bücher\uff0etest",
        "x@xn--bcher-kva.test",
        "X@XN--BCHER-KVA.TEST",
        "\u00a0x@bücher.test\u200b",
    ],
)
def test_every_spelling_of_a_domain_is_one_mailbox(spelled: str) -> None:
    assert mailbox_of(spelled) == "x@xn--bcher-kva.test"
    assert mailbox_hash(spelled) == subscriber_hash("x@xn--bcher-kva.test")
    assert {"x@xn--bcher-kva.test", "x@bücher.test"} <= set(spellings(spelled))
    assert spellings(spelled)[0] == normalise_address(spelled)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x@straße.test", "x@strasse.test"),  # IDNA 2008: two domains
        ("x@bücher.test", "x@bucher.test"),
        ("x@bücher.test", "y@bücher.test"),
        ("x.y@bücher.test", "xy@bücher.test"),
    ],
)
def test_others_are_not(one: str, other: str) -> None:
    assert mailbox_of(one) != mailbox_of(other)


@pytest.mark.parametrize("plain", ["Ada.B+c@X.org", "", "nobody", "a@b@c.org", "ü@plain.test"])
def test_an_address_with_one_spelling_keeps_its_hash(plain: str) -> None:
    assert mailbox_of(plain) == normalise_address(plain)
    assert mailbox_hash(plain) == subscriber_hash(plain)
    assert spellings(plain) == (normalise_address(plain),)
    assert spelled_domain(plain) is None


@pytest.mark.parametrize(
    "odd", ["x@☃.test", "x@xn--a.test", "x@" + "ü" * 70 + ".test", "x@ü..test"]
)
def test_domains_outside_the_standard_are_taken_as_they_are_or_by_the_older_one(odd: str) -> None:
    assert mailbox_of(odd) in spellings(odd)
    assert mailbox_of(mailbox_of(odd)) == mailbox_of(odd)
    assert mailbox_of("x@☃.test") == "x@xn--n3h.test"


@given(st.text(alphabet="abxn-.@ÜüßÖİıΣςé\u0308\u3002\uff0e☃日本", max_size=24))
def test_a_mailbox_has_one_form_whatever_the_text(text: str) -> None:
    form = mailbox_of(text)
    assert mailbox_of(form) == form
    for each in spellings(text):
        assert mailbox_of(each) == form
