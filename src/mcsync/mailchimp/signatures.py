"""Whether a webhook's post comes from Mailchimp (MC 9)."""

import hashlib
import hmac
from datetime import datetime
from enum import StrEnum
from typing import Final

SIGNATURE_HEADER: Final = "X-Mailchimp-Signature"
TOLERANCE_SECONDS: Final = 300
_MOST_HEADER: Final = 1024
_MOST_DIGITS: Final = 12


class SignatureReason(StrEnum):
    """What is wrong with a signature."""

    MISSING = "missing"
    MALFORMED = "malformed"
    EXPIRED = "expired"
    MISMATCH = "mismatch"


class WebhookSignatureError(Exception):
    """The post is not to be believed; `reason` says why. The text repeats nothing of it."""

    def __init__(self, reason: SignatureReason) -> None:
        super().__init__(f"webhook signature: {reason.value}")
        self.reason = reason


def verify_webhook_signature(
    secret: str,
    header: str | None,
    raw_body: bytes,
    now: datetime,
    tolerance: float = TOLERANCE_SECONDS,
) -> None:
    """Return if `header` signs the raw body; raise `WebhookSignatureError` otherwise.

    The header is `t=<unix seconds>,v1=<hex>`, with v1 the HMAC-SHA256 of the seconds, a dot
    and the body as it came. `tolerance` is in seconds, before and after `now`. A missing
    header is an error: whoever calls this has switched signing on. Compares in constant time.
    """
    if not header:
        raise WebhookSignatureError(SignatureReason.MISSING)
    sent, signatures = _parts(header)
    expected = hmac.new(secret.encode(), sent.encode() + b"." + raw_body, hashlib.sha256)
    text = expected.hexdigest().encode()
    # All are compared, so that the time says nothing about which of them fits.
    fits = [hmac.compare_digest(text, each.lower().encode()) for each in signatures]
    if not any(fits):
        raise WebhookSignatureError(SignatureReason.MISMATCH)
    if abs(now.timestamp() - int(sent)) > tolerance:
        raise WebhookSignatureError(SignatureReason.EXPIRED)


def _parts(header: str) -> tuple[str, list[str]]:
    """The time and the version 1 signatures; other versions are left alone."""
    sent: list[str] = []
    signatures: list[str] = []
    if len(header) <= _MOST_HEADER:
        for part in header.split(","):
            name, _, value = part.strip().partition("=")
            if name == "t":
                sent.append(value)
            elif name == "v1":
                signatures.append(value)
    if len(sent) != 1 or not signatures or not _is_seconds(sent[0]):
        raise WebhookSignatureError(SignatureReason.MALFORMED)
    return sent[0], signatures


def _is_seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
