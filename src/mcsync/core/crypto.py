"""Secrets at rest, and keyed hashes.

A secret is sealed with AES-256-GCM under a data key made for it alone; the data key is wrapped with a
master key. What is stored is base64 of a JSON object::

    {"v": 1, "alg": "A256GCM", "kid": master key id,
     "edk": base64(nonce | wrapped data key | tag), "n": base64(nonce), "ct": base64(ciphertext | tag)}

Both steps are bound to the place where the secret lives (organisation, purpose, row) by associated
data, which the reader computes anew: an envelope moved to another row or organisation does not open.
Rotating a master key wraps the data keys anew and never touches the secrets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

if TYPE_CHECKING:
    from mcsync.core.settings import Settings

_VERSION: Final = 1
_ALGORITHM: Final = "A256GCM"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_CACHED_ORGANISATIONS: Final = 10_000


class SecretError(Exception):
    """A stored secret cannot be read. The text names no secret and no context."""


class UnknownKeyError(SecretError):
    """The envelope was sealed with a master key that is not configured (any more)."""


class UndecryptableError(SecretError):
    """The envelope is damaged, of an unknown kind, or belongs to another place."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    kid: str
    edk: bytes
    nonce: bytes
    ciphertext: bytes

    def pack(self) -> str:
        """The stored form. Its alphabet is the same in base64 and base64url (JSON is ASCII)."""
        document = {
            "v": _VERSION,
            "alg": _ALGORITHM,
            "kid": self.kid,
            "edk": base64.b64encode(self.edk).decode(),
            "n": base64.b64encode(self.nonce).decode(),
            "ct": base64.b64encode(self.ciphertext).decode(),
        }
        return base64.urlsafe_b64encode(
            json.dumps(document, separators=(",", ":")).encode()
        ).decode()

    @classmethod
    def unpack(cls, envelope: str) -> _Envelope:
        try:
            document = json.loads(base64.b64decode(envelope, altchars=b"-_", validate=True))
            known = document["v"] == _VERSION and document["alg"] == _ALGORITHM
            edk, nonce, ciphertext = (
                base64.b64decode(document[name], validate=True) for name in ("edk", "n", "ct")
            )
            kid = document["kid"]
        except (binascii.Error, ValueError, TypeError, KeyError) as error:
            message = "the stored secret is damaged"
            raise UndecryptableError(message) from error
        if not known or not isinstance(kid, str):
            message = "the stored secret is of a kind that this version does not know"
            raise UndecryptableError(message)
        return cls(kid, edk, nonce, ciphertext)


def key_id(envelope: str) -> str:
    """The id of the master key that an envelope needs. Raises :class:`UndecryptableError`."""
    return _Envelope.unpack(envelope).kid


class KeyRing:
    """The master keys of this process: one seals, all open."""

    def __init__(self, keys: Mapping[str, bytes], active: str) -> None:
        if active not in keys or any(len(key) != _KEY_BYTES for key in keys.values()):
            message = "the active key must be one of the keys, and every key must have 32 bytes"
            raise ValueError(message)
        self._ciphers = {kid: AESGCM(key) for kid, key in keys.items()}
        self.active = active

    @classmethod
    def from_settings(cls, settings: Settings) -> KeyRing:
        """The ring that the settings describe. Raises ``SettingsError`` for missing or weak keys."""
        keys = settings.decoded_master_keys()
        return cls(keys, settings.active_key_id or "")

    def __repr__(self) -> str:
        """Names the keys, shows none."""
        return f"KeyRing({sorted(self._ciphers)}, active={self.active!r})"

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys at hand."""
        return frozenset(self._ciphers)

    def seal(self, plaintext: str, *, context: str) -> str:
        """Encrypts for one place; ``context`` is e.g. ``org:<id>|mailchimp_api_key|<row id>``."""
        data_key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        aad = _aad(context)
        ciphertext = AESGCM(data_key).encrypt(nonce, plaintext.encode(), aad)
        return _Envelope(self.active, self._wrap(data_key, aad), nonce, ciphertext).pack()

    def open(self, envelope: str, *, context: str) -> str:
        """Decrypts. Raises :class:`UnknownKeyError` or :class:`UndecryptableError`; never guesses."""
        parts, aad = _Envelope.unpack(envelope), _aad(context)
        data_key = self._unwrap(parts, aad)
        return _decrypt(AESGCM(data_key), parts.nonce, parts.ciphertext, aad).decode()

    def rewrap(self, envelope: str, context: str) -> str:
        """The same secret under the active master key; unchanged where it already is."""
        parts, aad = _Envelope.unpack(envelope), _aad(context)
        data_key = self._unwrap(parts, aad)
        # Proves that the whole envelope opens here, so that a rotation never hides a damaged one.
        _decrypt(AESGCM(data_key), parts.nonce, parts.ciphertext, aad)
        if parts.kid == self.active:
            return envelope
        wrapped = self._wrap(data_key, aad)
        return _Envelope(self.active, wrapped, parts.nonce, parts.ciphertext).pack()

    @staticmethod
    def key_id(envelope: str) -> str:
        """See :func:`key_id`."""
        return key_id(envelope)

    def _wrap(self, data_key: bytes, aad: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self.active].encrypt(nonce, data_key, aad)

    def _unwrap(self, parts: _Envelope, aad: bytes) -> bytes:
        master = self._ciphers.get(parts.kid)
        if master is None:
            message = "the stored secret needs a master key that is not configured"
            raise UnknownKeyError(message)
        data_key = _decrypt(master, parts.edk[:_NONCE_BYTES], parts.edk[_NONCE_BYTES:], aad)
        if len(data_key) != _KEY_BYTES:
            message = "the stored secret is damaged"
            raise UndecryptableError(message)
        return data_key


def _aad(context: str) -> bytes:
    return f"mcsync|v{_VERSION}|{context}".encode()


def _decrypt(cipher: AESGCM, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        message = "the stored secret is damaged, or was moved here from another place"
        raise UndecryptableError(message) from error


def new_path_token() -> str:
    """The secret part of a path that others post to: 32 random bytes."""
    return secrets.token_urlsafe(32)


def path_token_hash(token: str) -> bytes:
    """How such a token is stored and found. It is random, so that no key is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def keyed_digest(key: bytes, kind: str, value: str) -> bytes:
    """HMAC-SHA256 of ``kind`` NUL ``value``: 32 bytes."""
    return hmac.digest(key, f"{kind}\0{value}".encode(), hashlib.sha256)


def keyed_hash(key: bytes, kind: str, value: str) -> UUID:
    """The first 16 bytes of :func:`keyed_digest`, as the UUID that the tables keep.

    Addresses use kind ``address`` and ``mailbox_of(email)``.
    """
    return UUID(bytes=keyed_digest(key, kind, value)[:16])


def hash_key_context(org_id: UUID) -> str:
    """Where an organisation's hash key is sealed for."""
    return f"org:{org_id}|hash_key"


def new_hash_key(keys: KeyRing, org_id: UUID) -> str:
    """The envelope of a fresh hash key, for a new organisation's row."""
    secret = base64.b64encode(os.urandom(_KEY_BYTES)).decode()
    return keys.seal(secret, context=hash_key_context(org_id))


class HashKeys:
    """Each organisation's key for keyed hashes; opened once in a process, then remembered.

    The key itself never changes (rotation only wraps it anew), so remembering it is safe.
    """

    def __init__(
        self,
        keys: KeyRing,
        transaction: Callable[[UUID], AbstractAsyncContextManager[AsyncSession]],
    ) -> None:
        self._keys = keys
        self._transaction = transaction
        self._known: dict[UUID, bytes] = {}

    async def hash_key(self, where: AsyncSession | UUID) -> bytes:
        """The 32 bytes of the session's organisation, or of the one with this id.

        Raises ``LookupError`` where the organisation does not exist, and :class:`SecretError`.
        """
        org_id = where if isinstance(where, UUID) else where.info["org_id"]
        known = self._known.get(org_id)
        if known is not None:
            return known
        if isinstance(where, UUID):
            async with self._transaction(org_id) as session:
                envelope = await self._load(session, org_id)
        else:
            envelope = await self._load(where, org_id)
        return self.remember(org_id, envelope)

    def remember(self, org_id: UUID, envelope: str) -> bytes:
        """Opens an envelope that was read together with something else, and keeps the key."""
        key = base64.b64decode(self._keys.open(envelope, context=hash_key_context(org_id)))
        if len(self._known) >= _CACHED_ORGANISATIONS:
            self._known.clear()
        self._known[org_id] = key
        return key

    @staticmethod
    async def _load(session: AsyncSession, org_id: UUID) -> str:
        found = await session.execute(
            text("select hash_key from organisations where id = :org"), {"org": org_id}
        )
        envelope = found.scalar_one_or_none()
        if envelope is None:
            message = "no such organisation"
            raise LookupError(message)
        return str(envelope)
