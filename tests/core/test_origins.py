"""Origins in the settings: those that browsers send, however they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mcsync.core.origins import browser_origin
from mcsync.core.settings import Settings


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://www.example.com", "https://www.example.com"),
        ("HTTPS://WWW.Example.COM", "https://www.example.com"),
        ("https://www.example.com/", "https://www.example.com"),
        ("https://www.example.com:443", "https://www.example.com"),
        ("https://www.example.com:0443/", "https://www.example.com"),
        ("http://www.example.com:80/", "http://www.example.com"),
        ("http://www.example.com:443", "http://www.example.com:443"),
        ("https://www.example.com:08443", "https://www.example.com:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example:443/", "https://xn--bcher-kva.example"),
        ("https://XN--BCHER-KVA.example", "https://xn--bcher-kva.example"),
        ("https://bücher。example", "https://xn--bcher-kva.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ("http://my_host.example", "http://my_host.example"),
        ("  https://www.example.com  ", "https://www.example.com"),
    ],
)
def test_an_origin_is_spelled_as_browsers_send_it(written: str, sent: str) -> None:
    assert browser_origin(written) == sent
    assert browser_origin(sent) == sent
    settings = Settings(form_origins=f"{written}, {sent}")  # type: ignore[arg-type]
    assert settings.form_origins == (sent,)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("*", "write each site by itself"),
        ("https://*.example.com", "write each site by itself"),
        ("null", "write the site's"),
        ("www.example.com", "write https:// before the host"),
        ("//www.example.com", "write https:// before the host"),
        ("www.example.com:443", "write https:// before the host"),
        ("ftp://www.example.com", "only https:// and http://"),
        ("https://www.example.com/shop", "no path, query or fragment; write https://www.example.com"),
        ("https://www.Example.com:443/?", "query or fragment; write https://www.example.com"),
        ("https://www.example.com/#top", "query or fragment; write https://www.example.com"),
        ("https://www.example.com//", "no path, query or fragment"),
        ("https://ada:s3cret@www.example.com", "no user and no password; write https://www.example.com"),
        ("https://@www.example.com", "no user and no password"),
        ("https://", "host or the port"),
        ("https://www.example.com:", "host or the port"),
        ("https://www.example.com:0", "host or the port"),
        ("https://www.example.com:99999", "host or the port"),
        ("https://www.example.com:https", "host or the port"),
        ("https://www..example.com", "host or the port"),
        ("https://www.exa%6dple.com", "host or the port"),
        ("https://-.example", "host or the port"),
        ("http://1.2.3", "host or the port"),
        ("http://1.2.3.400", "host or the port"),
        ("http://[::1", "host or the port"),
        ("http://[fe80::1%25eth0]", "host or the port"),
        ("https://www.example.com\\evil", "no backslashes"),
        ("https://www. example.com", "no blanks"),
    ],
)  # fmt: skip
def test_what_no_browser_sends_is_refused_at_start(written: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(form_origins=(" https://good.example", written))
    message = str(caught.value)
    assert told in message
    assert "entry 2" in message
    assert "s3cret" not in message
