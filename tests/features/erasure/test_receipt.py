"""A receipt proves itself, and nothing in it may be changed."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any
from uuid import UUID

import pytest
from uuid6 import uuid7

from mcsync.features.erasure import receipt

KEY = bytes(range(32))
ORG = UUID("019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10")


def document(hash_key: bytes = KEY, org: UUID = ORG) -> dict[str, Any]:
    """A signed receipt, as getErasure answers it."""
    content = {
        "erasureId": str(uuid7()), "addresses": 1, "completedAt": "2026-11-23T09:30:03.000Z",
        "stores": [{"store": "contacts", "what": "Everything: tudo, até o fim.", "rows": 1}],
        "targets": [{"audience": "a1", "deleteAnswers": [{"status": 204}], "closed": None}],
    }  # fmt: skip
    signed, signature = receipt.sign(content, hash_key, org)
    return {"id": "x", "receipt": signed, "signature": signature}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values that are no containers."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in places(v, (*path, k))]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in places(v, (*path, k))]
    return [path]


def test_it_verifies_however_it_is_printed() -> None:
    made = document()
    key = receipt.public_key(KEY, ORG)
    for text in (
        json.dumps(made),
        json.dumps(made, indent=4, sort_keys=True, ensure_ascii=False),
    ):
        verdict = receipt.verify(json.loads(text), expected_key=key)
        assert verdict.valid, verdict.reason
        assert verdict.public_key == key


def test_no_value_in_it_can_be_changed() -> None:
    made = document()
    for path in places(made["receipt"]):
        changed = copy.deepcopy(made)
        inside = changed["receipt"]
        for step in path[:-1]:
            inside = inside[step]
        was = inside[path[-1]]
        inside[path[-1]] = was + 1 if isinstance(was, int) else f"{was}."
        assert not receipt.verify(changed).valid, path
    changed = copy.deepcopy(made)
    changed["receipt"]["more"] = 1
    assert not receipt.verify(changed).valid


def test_no_byte_of_it_can_be_changed() -> None:
    made = document()
    text = receipt.canonical(made["receipt"])
    for at in range(len(text)):
        spoilt = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        try:
            read = json.loads(spoilt)
        except ValueError:
            continue
        assert not receipt.verify({"receipt": read, "signature": made["signature"]}).valid, at
    signature = made["signature"]
    for at in range(len(signature)):
        other = "A" if signature[at] != "A" else "B"
        spoilt_signature = signature[:at] + other + signature[at + 1 :]
        assert not receipt.verify({**made, "signature": spoilt_signature}).valid, at


def test_somebody_elses_key_is_told_from_the_organisations() -> None:
    forged = document(hash_key=bytes(32))
    assert receipt.verify(forged).valid
    assert not receipt.verify(forged, expected_key=receipt.public_key(KEY, ORG)).valid
    assert receipt.public_key(KEY, ORG) != receipt.public_key(KEY, uuid7())


@pytest.mark.parametrize(
    "nonsense",
    [None, [], "x", {}, {"receipt": {}, "signature": ""}, {"receipt": [], "signature": "x"},
     {"receipt": {"publicKey": "x"}, "signature": "x"}],
)  # fmt: skip
def test_what_is_no_receipt_is_told_so(nonsense: object) -> None:
    verdict = receipt.verify(nonsense)
    assert not verdict.valid
    assert verdict.reason


def test_a_public_key_that_is_none_verifies_nothing() -> None:
    made = document()
    for key in ("", "x", base64.urlsafe_b64encode(bytes(31)).decode(), "é"):
        made["receipt"]["publicKey"] = key
        assert not receipt.verify(made).valid
