"""What settings say of the network: URLs that calls take, and the proxies that are believed."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_NO_HOST: Final = re.compile(r"[\s{}\\<>\"|^`%\x00-\x20]|\.\.")
"""What no host has; a brace is left where a template has another place than `{dc}`."""


def is_public_url(url: str) -> bool:
    """Whether it is https, or of this machine, and other paths can be put behind it."""
    parts = _parts(url)
    if parts is None or parts.query or parts.fragment:
        return False
    host = parts.hostname or ""
    here = host in {"localhost", "::1"} or host.startswith("127.")
    return parts.scheme == "https" or here


def is_base_url(url: str) -> bool:
    """Whether calls to Mailchimp, or to an emulator, can begin with it; ``{dc}`` is a data centre."""
    parts = _parts(url.replace("{dc}", "us1"))
    return parts is not None and not parts.query and not parts.fragment


def is_proxy_url(url: str) -> bool:
    """Whether it names a proxy and nothing behind it: a slash in a password would cut the URL in two."""
    parts = _parts(url)
    return parts is not None and parts.path in {"", "/"} and not parts.query and not parts.fragment


def _parts(url: str) -> SplitResult | None:
    """The parts of an http or https URL with a host and a possible port; None for all else."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        if not usable or _NO_HOST.search(parts.netloc.rpartition("@")[2]):
            return None
    except ValueError:
        return None
    return parts


def trusted_proxies_problems(text: str) -> list[str]:
    """What is wrong with addresses and networks that have commas between; each follows the setting's name.

    uvicorn takes a lone ``*`` as everybody. It keeps what it cannot read as a name, which no address
    equals: such an entry would be believed in silence and change nothing.
    """
    entries = _entries(text)
    if entries == ["*"]:
        return []
    if not entries:
        return [" names no address. Write the proxy's, such as 10.0.0.5, or leave it unset."]
    return [
        f", entry {number}: {wrong}"
        for number, entry in enumerate(entries, 1)
        if (wrong := _not_trusted(entry))
    ]


def trusted_proxies(text: str) -> str:
    """The same entries as uvicorn reads them: to it, a ``*`` beside a space or a comma is a name."""
    return ",".join(_entries(text))


def _entries(text: str) -> list[str]:
    return [entry for part in text.split(",") if (entry := part.strip())]


def _not_trusted(entry: str) -> str | None:
    if entry == "*":
        return "* stands for every address, and must be the only entry."
    try:
        if "/" in entry:
            ipaddress.ip_network(entry)
        else:
            ipaddress.ip_address(entry)
    except ValueError:
        return _meant(entry)
    return None


def _meant(entry: str) -> str:
    """What to write instead of an entry that is neither an address nor a network."""
    try:
        inside = ipaddress.ip_interface(entry)
    except ValueError:
        return (
            "this is neither an address such as 10.0.0.5 nor a network such as 10.0.0.0/8."
            " Names and ports are not understood."
        )
    return (
        f"{entry} is an address inside of a network. Write {inside.network} for the network, or"
        f" {inside.ip} for this one address."
    )
