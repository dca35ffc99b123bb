"""URLs of PostgreSQL as people have them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from mcsync.core.postgres_url import (
    PostgresUrlError,
    conninfo,
    driver_arguments,
    read_postgres_url,
)
from tests.support.authority import Authority


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u:p@h/db", {"host": ["h"], "port": [5432], "user": "u", "password": "p", "database": "db"}),
        ("  postgres://u:p@h:6543/db\n", {"host": ["h"], "port": [6543]}),
        ("POSTGRESQL://u@h/db", {"user": "u", "host": ["h"]}),
        ("postgresql+asyncpg://u:s%40c%2Fret@h/db", {"password": "s@c/ret"}),
        ("postgresql://u:p@ss/w#1@h/db", {"password": "p@ss/w#1", "host": ["h"], "database": "db"}),
        ("postgresql://me@server:p@h/db", {"user": "me@server", "password": "p", "host": ["h"]}),
        ("postgresql://h/db?user=me@x&password=a%26b", {"user": "me@x", "password": "a&b"}),
        ("postgresql://u@[2001:db8::1]:6000/db", {"host": ["2001:db8::1"], "port": [6000]}),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", {"host": ["/var/run/postgresql"], "port": [5432]}),
        ("postgresql:///db?host=/var/run/postgresql&port=5433", {"host": ["/var/run/postgresql"], "port": [5433]}),
        ("postgresql://u@a,b:6000,[::1]:7000/db", {"host": ["a", "b", "::1"], "port": [5432, 6000, 7000]}),
        ("postgresql:///db?host=a,b&port=1,2", {"host": ["a", "b"], "port": [1, 2]}),
        ("postgresql:///db?host=a:1&host=b:2", {"host": ["a", "b"], "port": [1, 2]}),
        ("postgresql://h/caf%C3%A9", {"database": "café"}),
        ("postgresql://u@h/db?sslmode=disable", {"ssl": False}),
        ("postgresql://u@h/db?sslmode=prefer", {"ssl": "prefer"}),
        ("postgresql://u@h/db?ssl=false", {"ssl": False}),
        ("postgresql://u@h/db?passfile=/x&krbsrvname=y", {"passfile": "/x", "krbsrvname": "y"}),
        ("postgresql://u@h/db?application_name=a&options=-c%20b%3Dc",
         {"server_settings": {"application_name": "a", "options": "-c b=c"}}),
        ("postgresql://u@a,b/db", {"target_session_attrs": "read-write"}),
        ("postgresql://u@a,b/db?target_session_attrs=any", {"target_session_attrs": "any"}),
        ("postgresql://u@h/db?keepalives_idle=5&gssencmode=prefer&channel_binding=prefer&client_encoding=UTF8",
         {"server_settings": {}}),
        ("postgresql://u@h/db?prepared_statement_cache_size=0", {"server_settings": {}}),
    ],
)  # fmt: skip
def test_a_url_is_read_as_libpq_reads_it(url: str, wanted: dict[str, Any]) -> None:
    arguments = driver_arguments(read_postgres_url(url))
    assert {name: arguments[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:hidden@h/db", "is not a URL such as"),
        ("u:hidden@h/db", "is not a URL such as"),
        ("", "is not a URL such as"),
        ("postgresql://u:hid den@h/db", "is not a URL such as"),
        ("postgresql://u:hidden@h:0/db", "a port that is not a number"),
        ("postgresql://u:hidden@h:70000/db", "a port that is not a number"),
        ("postgresql://u:hidden@h/db?port=x", "a port that is not a number"),
        ("postgresql://u:hidden@a,b/db?port=1,2,3", "another number of ports"),
        ("postgresql://u:hidden@a,,b/db", "host 2"),
        ("postgresql://u:hidden@h:port/db", "host 1"),
        ("postgresql://u:hidden@h/db?sslmode", "not name=value"),
        ("postgresql://u:hidden@h/db?sslmode=on", "a sslmode that is none of disable"),
        ("postgresql://u:hidden@h/db?sslmode=verify-ca", "without the authority's file"),
        ("postgresql://u:hidden@h/db?sslmode=verify-ca&sslrootcert=system", "without the authority's file"),
        ("postgresql://u:hidden@h/db?sslrootcert=/x", "does nothing with sslmode=prefer"),
        ("postgresql://u:hidden@h/db?sslmode=disable&sslcert=/x", "does nothing with sslmode=disable"),
        ("postgresql://u:hidden@h/db?sslmode=verify-full&sslrootcert=/hidden", "No such file"),
        ("postgresql://u:hidden@h/db?sslmode=require&sslkey=/hidden", "sslkey without sslcert"),
        ("postgresql://u:hidden@h/db?sslnegotiation=direct", "needs sslmode=require"),
        ("postgresql://u:hidden@h/db?channel_binding=require&sslmode=require", "channel_binding=require"),
        ("postgresql://u:hidden@h/db?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://u:hidden@h/db?connect_timeout=soon", "connect_timeout"),
        ("postgresql://u:hidden@h/db?service=x", "write what that service's section says"),
        ("postgresql://u:hidden@h/db?hostaddr=1.2.3.4", "write the address as the host"),
        ("postgresql://u:hidden@h/db?hidden-thing=1", "has a parameter, which"),
        ("postgresql://u:hidden@h/db?pgbouncer=true", "poolers are recognised without it"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_no_secret_shown(url: str, said: str) -> None:
    with pytest.raises(PostgresUrlError) as caught:
        read_postgres_url(url)
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert str(caught.value)[0] in " ,"


def test_sources_may_be_read_from_a_standby() -> None:
    url = "postgresql://u@a,b/db?target_session_attrs=prefer-standby"
    arguments = driver_arguments(read_postgres_url(url, writes=False))
    assert arguments["target_session_attrs"] == "prefer-standby"
    plain = driver_arguments(read_postgres_url("postgresql://u@a,b/db", writes=False))
    assert "target_session_attrs" not in plain


@pytest.mark.parametrize(
    ("query", "checked", "named"),
    [
        ("sslmode=require", False, False),
        ("sslmode=require&sslrootcert=FILE", True, False),
        ("sslmode=verify-ca&sslrootcert=FILE", True, False),
        ("sslmode=verify-full&sslrootcert=FILE", True, True),
        ("sslmode=verify-full", True, True),
        ("sslrootcert=system", True, True),
    ],
)
def test_what_is_checked_of_a_certificate(
    query: str, checked: bool, named: bool, tmp_path: Path
) -> None:
    file = str(Authority(tmp_path).file)
    found = driver_arguments(read_postgres_url(f"postgresql://h/db?{query.replace('FILE', file)}"))
    context = found["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode is ssl.CERT_REQUIRED, context.check_hostname) == (checked, named)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_key_whose_password_is_wrong_is_no_question_at_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    file.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(PostgresUrlError, match="cannot be read as PEM"):
        read_postgres_url(f"postgresql://h/db?sslmode=require&sslcert={file}&sslpassword=x")


def test_the_representation_shows_no_password() -> None:
    read = read_postgres_url(
        "postgresql://u:hidden@h/db?sslmode=require&sslcert=&sslpassword=hidden"
    )
    assert "hidden" not in repr(read)
    assert "hidden" not in conninfo(read)
