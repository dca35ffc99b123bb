"""The client with which the sandbox posts to webhooks."""

from __future__ import annotations

import ssl

import httpx


def webhook_client() -> httpx.AsyncClient:
    """Trusts OpenSSL's own choice of authorities: SSL_CERT_FILE can name one that was made for a rehearsal."""
    return httpx.AsyncClient(
        trust_env=False, follow_redirects=False, verify=ssl.create_default_context()
    )
