"""Secrets at rest: what opens, and what must not."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcsync.core.crypto import (
    KeyRing,
    UndecryptableError,
    UnknownKeyError,
    hash_key_context,
    key_id,
    keyed_digest,
    keyed_hash,
)
from mcsync.core.resources import Resources
from tests.support.organisations import Org

CONTEXT = "org:0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11|mailchimp_api_key|0198c1d2-8b21"
SECRET = "0123456789abcdef0123456789abcdef-us6"


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing({"k1": bytes(range(32)), "k2": os.urandom(32)}, "k1")


def _unpacked(envelope: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.b64decode(envelope))
    return document


def _packed(document: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


class TestEnvelope:
    def test_opens_where_it_was_sealed(self, ring: KeyRing) -> None:
        assert ring.open(ring.seal(SECRET, context=CONTEXT), context=CONTEXT) == SECRET

    def test_is_base64_of_json_with_the_documented_fields(self, ring: KeyRing) -> None:
        envelope = ring.seal(SECRET, context=CONTEXT)
        document = _unpacked(envelope)
        assert base64.urlsafe_b64decode(envelope) == base64.b64decode(envelope, validate=True)
        assert set(document) == {"v", "alg", "kid", "edk", "n", "ct"}
        assert (document["v"], document["alg"], document["kid"]) == (1, "A256GCM", "k1")
        assert len(base64.b64decode(document["edk"])) == 12 + 32 + 16
        assert len(base64.b64decode(document["n"])) == 12

    def test_can_be_opened_by_the_format_alone(self, ring: KeyRing) -> None:
        """The vector of the format: nothing but AES-256-GCM and the associated data is needed."""
        document = _unpacked(ring.seal(SECRET, context=CONTEXT))
        aad = f"mcsync|v1|{CONTEXT}".encode()
        edk = base64.b64decode(document["edk"])
        data_key = AESGCM(bytes(range(32))).decrypt(edk[:12], edk[12:], aad)
        nonce, ciphertext = base64.b64decode(document["n"]), base64.b64decode(document["ct"])
        assert AESGCM(data_key).decrypt(nonce, ciphertext, aad) == SECRET.encode()

    def test_opens_an_envelope_of_the_first_version(self) -> None:
        """Made once and kept: whoever changes the format must still read this."""
        envelope = (
            "eyJ2IjoxLCJhbGciOiJBMjU2R0NNIiwia2lkIjoib2xkIiwiZWRrIjoiR1BsODZ6UTBTS2RqTnZyN2pL"
            "UEM4TlhOeWdVTEErTVhTNWl5UENERzhudDhLeWxlQzdkTDBvbjJrSzk5SUZsWHhDRnNSRVV5SG51amIv"
            "SDAiLCJuIjoiZFJDM2NVZXRldzFVSDMvYyIsImN0IjoiMCtRZTF1SllNUGhBWFJNTVl5NkhTSUVBU0px"
            "ckpPNmdqZVBlSHhkcTNkcz0ifQ=="
        )
        ring = KeyRing({"old": bytes(range(32))}, "old")
        assert ring.open(envelope, context=CONTEXT) == "a secret of 2026"

    def test_never_repeats_itself(self, ring: KeyRing) -> None:
        assert ring.seal(SECRET, context=CONTEXT) != ring.seal(SECRET, context=CONTEXT)

    def test_moved_to_another_place_does_not_open(self, ring: KeyRing) -> None:
        envelope = ring.seal(SECRET, context=CONTEXT)
        for elsewhere in (CONTEXT + "1", CONTEXT.replace("api_key", "hash_key"), ""):
            with pytest.raises(UndecryptableError):
                ring.open(envelope, context=elsewhere)

    @pytest.mark.parametrize("field", ["edk", "n", "ct"])
    def test_with_one_bit_changed_does_not_open(self, ring: KeyRing, field: str) -> None:
        document = _unpacked(ring.seal(SECRET, context=CONTEXT))
        raw = bytearray(base64.b64decode(document[field]))
        raw[-1] ^= 1
        document[field] = base64.b64encode(raw).decode()
        with pytest.raises(UndecryptableError):
            ring.open(_packed(document), context=CONTEXT)

    @pytest.mark.parametrize(
        "envelope",
        [
            "",
            "no base64",
            _packed({}),
            base64.b64encode(b"[]").decode(),
            base64.b64encode(b"\xff").decode(),
        ],
    )
    def test_rubbish_is_a_typed_error(self, ring: KeyRing, envelope: str) -> None:
        with pytest.raises(UndecryptableError):
            ring.open(envelope, context=CONTEXT)

    @pytest.mark.parametrize("change", [{"v": 2}, {"alg": "none"}, {"kid": 7}])
    def test_of_an_unknown_kind_does_not_open(
        self, ring: KeyRing, change: dict[str, object]
    ) -> None:
        document: dict[str, object] = {**_unpacked(ring.seal(SECRET, context=CONTEXT)), **change}
        with pytest.raises(UndecryptableError):
            ring.open(_packed(document), context=CONTEXT)

    def test_of_an_unknown_key_says_so(self, ring: KeyRing) -> None:
        envelope = KeyRing({"gone": os.urandom(32)}, "gone").seal(SECRET, context=CONTEXT)
        assert key_id(envelope) == "gone"
        with pytest.raises(UnknownKeyError):
            ring.open(envelope, context=CONTEXT)

    def test_errors_and_representations_show_no_secret(self, ring: KeyRing) -> None:
        with pytest.raises(UndecryptableError) as caught:
            ring.open(ring.seal(SECRET, context=CONTEXT), context="elsewhere")
        assert SECRET not in repr(caught.value)
        assert repr(ring) == "KeyRing(['k1', 'k2'], active='k1')"


class TestRotation:
    def test_rewraps_the_data_key_and_nothing_else(self, ring: KeyRing) -> None:
        keys = {"k1": bytes(range(32)), "k3": os.urandom(32)}
        envelope = ring.seal(SECRET, context=CONTEXT)
        rotated = KeyRing(keys, "k3").rewrap(envelope, CONTEXT)
        assert key_id(rotated) == "k3"
        assert _unpacked(rotated)["ct"] == _unpacked(envelope)["ct"]
        only_new = KeyRing({"k3": keys["k3"]}, "k3")
        assert only_new.open(rotated, context=CONTEXT) == SECRET

    def test_leaves_alone_what_is_under_the_active_key(self, ring: KeyRing) -> None:
        envelope = ring.seal(SECRET, context=CONTEXT)
        assert ring.rewrap(envelope, CONTEXT) == envelope

    def test_refuses_a_damaged_secret(self, ring: KeyRing) -> None:
        envelope = ring.seal(SECRET, context=CONTEXT)
        with pytest.raises(UndecryptableError):
            ring.rewrap(envelope, "elsewhere")


class TestKeyedHashes:
    def test_are_hmac_sha256_of_kind_and_value(self) -> None:
        """Computed with `openssl dgst -sha256 -mac hmac`: the stored hashes must never change."""
        key = bytes(range(32))
        assert (
            keyed_digest(key, "address", "bob@example.org").hex()
            == "9b8816374b98ff644e64fb9475d4ad35982406026c00e833a2d6fe3d3327727f"
        )
        assert keyed_hash(key, "address", "bob@example.org") == UUID(
            "9b881637-4b98-ff64-4e64-fb9475d4ad35"
        )

    def test_differ_by_key_and_kind(self) -> None:
        one, other = os.urandom(32), os.urandom(32)
        assert keyed_hash(one, "address", "x") != keyed_hash(other, "address", "x")
        assert keyed_hash(one, "address", "x") != keyed_hash(one, "entity", "x")

    async def test_key_of_an_organisation_is_found_by_id_and_session(
        self, resources: Resources, organisation: Org, other_organisation: Org
    ) -> None:
        by_id = await resources.hash_keys.hash_key(organisation.id)
        async with resources.db.transaction(organisation.id) as session:
            assert await resources.hash_keys.hash_key(session) == by_id
        assert len(by_id) == 32
        assert by_id != await resources.hash_keys.hash_key(other_organisation.id)

    async def test_key_of_no_organisation_is_an_error(self, resources: Resources) -> None:
        with pytest.raises(LookupError):
            await resources.hash_keys.hash_key(uuid4())

    async def test_envelope_of_another_organisation_does_not_open(
        self, resources: Resources, organisation: Org
    ) -> None:
        stolen = resources.keys.seal("x", context=hash_key_context(uuid4()))
        with pytest.raises(UndecryptableError):
            resources.hash_keys.remember(organisation.id, stolen)
