"""What settings say of the network: what is taken works in uvicorn and httpx, and all else is explained."""

from __future__ import annotations

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from mcsync.core.network import (
    is_base_url,
    is_proxy_url,
    is_public_url,
    trusted_proxies,
    trusted_proxies_problems,
)


@pytest.mark.parametrize(
    ("text", "believed", "not_believed"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
        (" 10.0.0.5 , 192.168.1.0/24,", "192.168.1.9", "10.0.0.6"),
        ("::1", "0:0:0:0:0:0:0:1", "::2"),
        ("fd00::/8", "fd12::1", "fe80::1"),
        ("10.0.0.5/32", "10.0.0.5", "10.0.0.6"),
    ],
)
def test_uvicorn_believes_what_is_taken(text: str, believed: str, not_believed: str) -> None:
    assert trusted_proxies_problems(text) == []
    hosts = _TrustedHosts(trusted_proxies(text))
    assert hosts.trusted_literals == set(), "uvicorn reads every entry as an address or a network"
    assert believed in hosts
    assert not_believed not in hosts


@pytest.mark.parametrize("text", ["*", " * ", "*,", ",*"])
def test_a_lone_star_is_everybody(text: str) -> None:
    assert trusted_proxies_problems(text) == []
    assert "203.0.113.9" in _TrustedHosts(trusted_proxies(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nginx", "neither an address such as 10.0.0.5 nor a network"),
        ("10.0.0.5:8080", "Names and ports are not understood"),
        ("[::1]", "Names and ports are not understood"),
        ("10.0.0.256", "neither an address"),
        ("10.0.0.0/33", "neither an address"),
        ("10.0.0.1 10.0.0.2", "neither an address"),
        ("10.*", "neither an address"),
        ("10.0.0.5/8", "Write 10.0.0.0/8 for the network, or 10.0.0.5 for this one address."),
        ("fd00::5/8", "Write fd00::/8 for the network, or fd00::5 for this one address."),
        ("10.0.0.5,*", ", entry 2: * stands for every address, and must be the only entry."),
        (" , ", " names no address."),
    ],
)
def test_other_entries_are_explained(text: str, said: str) -> None:
    (problem,) = trusted_proxies_problems(text)
    assert said in problem


def test_every_wrong_entry_is_told_with_its_number() -> None:
    problems = trusted_proxies_problems("nginx,10.0.0.5,10.0.0.1/8")
    assert [problem.split(":")[0] for problem in problems] == [", entry 1", ", entry 3"]


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://{dc}.api.mailchimp.com/3.0", True),
        ("http://127.0.0.1:4010/3.0", True),
        ("https://[::1]:4010", True),
        ("{dc}.api.mailchimp.com/3.0", False),
        ("https://{data}.api.mailchimp.com/3.0", False),
        ("https://api.example.com/3.0?key=1", False),
        ("https://api.example.com/3.0#x", False),
        ("ftp://api.example.com", False),
        ("https://", False),
        ("https://api.example.com:0", False),
        ("https://api.example.com:99999", False),
        ("https://a b.example.com", False),
        ("https://[::1", False),
    ],
)
def test_base_urls(url: str, usable: bool) -> None:
    assert is_base_url(url) is usable


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("http://proxy:3128", True),
        ("https://user:w%2Frd@proxy.example.com:3128/", True),
        ("http://user:w/rd@proxy:3128", False),
        ("http://user:w?rd@proxy:3128", False),
        ("http://user:w#rd@proxy:3128", False),
        ("http://proxy:3128/path", False),
        ("proxy:3128", False),
        ("socks5://proxy:1080", False),
        ("http://proxy:0", False),
    ],
)
def test_proxy_urls(url: str, usable: bool) -> None:
    assert is_proxy_url(url) is usable


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://mcsync.example.com", True),
        ("https://mcsync.example.com/base/", True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://mcsync.example.com", False),
        ("https://mcsync.example.com?x=1", False),
        ("https://mcsync..example.com", False),
        ("mcsync.example.com", False),
    ],
)
def test_public_urls(url: str, usable: bool) -> None:
    assert is_public_url(url) is usable
