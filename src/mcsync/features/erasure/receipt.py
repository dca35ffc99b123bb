"""The receipt of an erasure: what was done, signed so that a changed byte shows.

Ed25519, under a key derived from the organisation's hash key (HKDF-SHA-256), over the canonical JSON of the
receipt: keys sorted, no white space, UTF-8. The public key stands in the receipt. A signature alone only
says that the receipt is whole; that it is the organisation's follows from comparing the key with the one
in another of its receipts, or with its own (:func:`public_key`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KIND: Final = "mcsync erasure receipt"
VERSION: Final = 1
_ALGORITHM: Final = "Ed25519"
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a receipt is what was signed. ``reason`` is empty where it is."""

    valid: bool
    reason: str
    public_key: str
    receipt: Mapping[str, Any]


def canonical(receipt: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the same for the same receipt, however it was stored or printed."""
    return json.dumps(
        receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def public_key(hash_key: bytes, org_id: UUID) -> str:
    """The organisation's public key for receipts, base64url."""
    raw = _private_key(hash_key, org_id).public_key().public_bytes_raw()
    return base64.urlsafe_b64encode(raw).decode()


def sign(content: Mapping[str, Any], hash_key: bytes, org_id: UUID) -> tuple[dict[str, Any], str]:
    """The complete receipt, and its signature in base64url."""
    receipt = {
        **content,
        "kind": KIND,
        "version": VERSION,
        "algorithm": _ALGORITHM,
        "publicKey": public_key(hash_key, org_id),
    }
    signature = _private_key(hash_key, org_id).sign(canonical(receipt))
    return receipt, base64.urlsafe_b64encode(signature).decode()


def verify(document: object, *, expected_key: str | None = None) -> Verdict:
    """Checks ``{"receipt": ..., "signature": ...}`` (other members are ignored); never raises.

    ``expected_key``: the public key that must have signed it, if it is known from elsewhere.
    """
    receipt = document.get("receipt") if isinstance(document, Mapping) else None
    signature = document.get("signature") if isinstance(document, Mapping) else None
    if not isinstance(receipt, Mapping) or not isinstance(signature, str):
        return Verdict(False, "This is no receipt: it lacks `receipt` or `signature`.", "", {})
    key = receipt.get("publicKey")
    told = (receipt.get("kind"), receipt.get("version"), receipt.get("algorithm"))
    if told != (KIND, VERSION, _ALGORITHM) or not isinstance(key, str):
        return Verdict(False, "This is a receipt of a kind that is not known here.", "", receipt)
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(key)).verify(
            _decoded(signature), canonical(receipt)
        )
    except (InvalidSignature, ValueError, TypeError):
        return Verdict(False, "The receipt was changed after it was signed.", key, receipt)
    if expected_key is not None and key.rstrip("=") != expected_key.rstrip("="):
        return Verdict(False, "It is signed, but with another key.", key, receipt)
    return Verdict(True, "", key, receipt)


def moment(value: datetime | None) -> str | None:
    """A time as receipts write it."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stores_of(
    stores: Sequence[tuple[str, str, str]], *passes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The stores as (name, what, how), with the rows that all passes touched in each."""
    return [
        {"store": name, "what": what, "how": how, "rows": sum(one.get(name, 0) for one in passes)}
        for name, what, how in stores
    ]


def _private_key(hash_key: bytes, org_id: UUID) -> Ed25519PrivateKey:
    info = f"mcsync|erasure_receipt|v{VERSION}|org:{org_id}".encode()
    seed = HKDF(algorithm=SHA256(), length=_SEED_BYTES, salt=None, info=info).derive(hash_key)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _decoded(value: str) -> bytes:
    try:
        # strict, so that no two texts stand for the same signature
        raw = base64.b64decode(value, altchars=b"-_", validate=True)
    except binascii.Error as error:
        message = "not base64url"
        raise ValueError(message) from error
    if base64.urlsafe_b64encode(raw).decode() != value:
        message = "not canonical base64url"
        raise ValueError(message)
    return raw
