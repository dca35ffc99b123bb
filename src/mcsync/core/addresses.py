"""Whether a text can be an e-mail address, and how it is kept."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email


def validated(email: str) -> str | None:
    """The address as it is to be kept; ``None`` for what cannot be one.

    The domain keeps the spelling that was given: an A-label (``xn--...``) stays one, and so does a domain
    in Unicode, of which only case, full-width dots and composed letters are normalised. Names under ``.test``
    are taken: they are what people try mcsync with (RFC 6761), and reach nobody.
    """
    if email.lower().endswith("@test"):
        return None
    try:
        found = validate_email(
            email, check_deliverability=False, strict=True, test_environment=True
        )
    except EmailNotValidError:
        return None
    if email.rpartition("@")[2].isascii():
        return f"{found.local_part}@{found.ascii_domain}"
    return found.normalized
