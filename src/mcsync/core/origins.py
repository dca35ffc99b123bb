"""Origins of web pages, spelled as browsers send them in the header ``Origin`` (RFC 6454, 6.1)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import idna

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(
    r"(?=.{1,253}\.?$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?"
)
_EXAMPLE: Final = "https://www.example.com"


def browser_origin(text: str) -> str:
    """The origin as a browser sends it: lower case, A-labels, no default port, no slash at its end.

    Raises ``ValueError`` for a text that no browser sends as an origin; its message says what to write.
    """
    given = text.strip()
    scheme = _scheme(given)
    try:
        parts = urlsplit(given)
        host, port = _host(parts.hostname or ""), parts.port
        if port == 0 or parts.netloc.endswith(":"):
            raise ValueError
    except ValueError:
        raise ValueError(f"the host or the port is not one; write it as {_EXAMPLE}") from None
    origin = f"{scheme}://{host}"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        origin += f":{port}"
    if "@" in parts.netloc:
        raise ValueError(f"an origin has no user and no password; write {origin}")
    if parts.path not in {"", "/"} or "?" in given or "#" in given:
        raise ValueError(f"an origin has no path, query or fragment; write {origin}")
    return origin


def _scheme(given: str) -> str:
    """The scheme of what looks like an origin. Raises ``ValueError``."""
    if "*" in given:
        raise ValueError(
            "a wildcard is not an origin; write each site by itself, with commas between:"
            " https://www.example.com,https://shop.example.com"
        )
    if given.lower() == "null":
        raise ValueError(
            f"`null` is sent by every page without an origin; write the site's, such as {_EXAMPLE}"
        )
    if any(ord(letter) <= 32 or letter == "\\" for letter in given):
        raise ValueError(f"an origin has no blanks and no backslashes; write it as {_EXAMPLE}")
    scheme, separator, _ = given.lower().partition("://")
    if not separator:
        raise ValueError(f"the scheme is missing; write https:// before the host: {_EXAMPLE}")
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"only https:// and http:// sites can have forms; write it as {_EXAMPLE}")
    return scheme


def _host(host: str) -> str:
    """The host as browsers write it. Raises ``ValueError``."""
    if ":" in host and "%" not in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    if not host.isascii():
        # the mapping that browsers apply first (UTS 46): case, width, the ideographic full stop
        host = idna.encode(host, uts46=True).decode()
    host = host.lower()
    if _HOST.fullmatch(host) is None:
        raise ValueError
    if host.rstrip(".").rpartition(".")[2].isdigit():
        # browsers read a last label of digits as an address of four numbers
        return str(ipaddress.IPv4Address(host.rstrip(".")))
    return host
