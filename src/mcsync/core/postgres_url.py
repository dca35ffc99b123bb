"""URLs of PostgreSQL as libpq takes them, for the driver and for PostgreSQL's own programs.

asyncpg knows most of libpq's parameters and hands every other one to the server, which then refuses the
connection. So each parameter is looked at here: it is used, makes no difference, or is refused by name.
Source: https://www.postgresql.org/docs/current/libpq-connect.html (34.1.1.2, 34.1.2).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

DEFAULT_PORT: Final = 5432
_HOST_SECONDS: Final = 10
"""How long one of several hosts may take before the next one is tried, unless ``connect_timeout`` says."""

_SCHEMES: Final = ("postgresql://", "postgres://", "postgresql+asyncpg://")
# The password ends at the first @ after which the rest can be read: people forget to encode theirs.
_PARTS: Final = re.compile(
    r"(?:(?P<user>[^:/?#]*?)(?::(?P<password>.*?))?@)?"
    r"(?P<hosts>[^/?@]*)(?:/(?P<database>[^?@]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?")

_TLS_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_USED: Final = frozenset(
    {
        "sslmode", *_TLS_FILES, "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version",
        "sslnegotiation", "connect_timeout", "application_name", "options", "passfile",
        "target_session_attrs", "krbsrvname",
    }
)  # fmt: skip
_NO_DIFFERENCE: Final[Mapping[str, frozenset[str] | None]] = {
    "keepalives": None, "keepalives_idle": None, "keepalives_interval": None,
    "keepalives_count": None, "tcp_user_timeout": None, "fallback_application_name": None,
    "prepared_statement_cache_size": None, "statement_cache_size": None,  # asyncpg's, for old poolers
    "sslsni": None, "sslcompression": frozenset({"0"}),
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "load_balance_hosts": frozenset({"disable"}),
    "client_encoding": frozenset({"utf8", "utf-8", "auto"}),
}  # fmt: skip
"""Parameters that change nothing for mcsync, with the values for which that is so; ``None``: all."""
_ADVICE: Final = {
    "channel_binding": "sslmode=verify-full protects against the same",
    "gssencmode": "sslmode=verify-full encrypts too",
    "service": "write what that service's section says into the URL",
    "hostaddr": "write the address as the host",
    "timezone": "write options=-c%20timezone%3DZONE",
    "search_path": "the tables of mcsync are in the schema public",
    "schema": "the tables of mcsync are in the schema public",
    "pgbouncer": "poolers are recognised without it",
}
_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CHECKED: Final = frozenset({"require", "verify-ca", "verify-full"})
_TLS_VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}  # fmt: skip
_SESSIONS: Final = ("any", "read-write", "primary", "read-only", "standby", "prefer-standby")
_WRITABLE: Final = ("any", "read-write", "primary")


class PostgresUrlError(ValueError):
    """The URL cannot be used. The message follows the name of what held it, and repeats no secret."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A URL of PostgreSQL taken apart. ``options`` are libpq's parameters by name."""

    hosts: tuple[str, ...]
    """Names, addresses, or folders of sockets, which begin with a slash. Empty: where libpq would look."""
    ports: tuple[int, ...]
    """One for each host."""
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    options: Mapping[str, str] = field(repr=False)

    @property
    def host_seconds(self) -> float | None:
        """How long one host may take to be connected to; ``None``: as long as the driver allows."""
        said = int(self.options.get("connect_timeout", "0"))
        return said or (_HOST_SECONDS if len(self.hosts) > 1 else None)


def read_postgres_url(url: str, *, writes: bool = True) -> PostgresUrl:
    """Takes a URL apart. Raises :class:`PostgresUrlError` for one that could not be used.

    ``writes``: a server that takes no changes is of no use, so ``target_session_attrs`` may not ask for one,
    and of several hosts the primary is meant.
    """
    url = url.strip()  # files of secrets end with a newline
    rest = next((url[len(one) :] for one in _SCHEMES if url.lower().startswith(one)), None)
    parts = None if rest is None else _PARTS.fullmatch(rest)
    if parts is None or re.search(r"\s", url):
        raise PostgresUrlError(
            " is not a URL such as postgresql://user:password@host:5432/mcsync (a / in the password is"
            " written %2F, an @ %40)."
        )
    query = _query(parts["query"] or "")
    hosts, ports = _places(query.pop("host", parts["hosts"]), query.pop("port", ""))
    named = {
        "user": query.pop("user", "") or unquote(parts["user"] or ""),
        "password": query.pop("password", "") or unquote(parts["password"] or ""),
        "database": query.pop("dbname", "") or unquote(parts["database"] or ""),
    }
    _check(query, writes=writes)
    if writes and len(hosts) > 1:
        query.setdefault("target_session_attrs", "read-write")
    kept = {name: value for name, value in query.items() if name in _USED}
    found = PostgresUrl(
        hosts, ports, named["user"] or None, named["password"] or None, named["database"] or None, kept
    )  # fmt: skip
    _tls(found)  # its files are there and can be read
    return found


def _query(text: str) -> dict[str, str]:
    """Parameters by name. What asyncpg and SQLAlchemy call otherwise has libpq's name."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except ValueError:
        raise PostgresUrlError(
            " has something behind the ? that is not name=value. Write an & between parameters."
        ) from None
    for name, value in pairs:
        if name == "host" and "host" in found:  # SQLAlchemy's form of several hosts
            found["host"] += "," + value
        elif name == "ssl":
            words = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
            found.setdefault("sslmode", words.get(value.lower(), value))
        else:
            found["dbname" if name == "database" else name] = value
    return found


def _places(hosts: str, ports: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Hosts and ports that belong together; ``ports`` is libpq's parameter of this name."""
    given = [
        int(one) if one.isdecimal() else 0 if one else DEFAULT_PORT for one in ports.split(",")
    ]
    names: list[str] = []
    found: list[int] = []
    listed = hosts.split(",") if hosts else []
    if len(given) not in {1, len(listed)}:
        raise PostgresUrlError(" names another number of ports than of hosts.")
    for number, place in enumerate(listed):
        default = given[number if len(given) > 1 else 0]
        if unquote(place).startswith("/"):
            name, port = unquote(place), default
        elif (parts := _HOST.fullmatch(place)) is not None and parts["host"].strip("[]"):
            name = unquote(parts["host"].strip("[]"))
            port = int(parts["port"]) if parts["port"] else default
        else:
            raise PostgresUrlError(
                f", host {number + 1}: this is neither a name nor an address. Write host:port, [::1]:port"
                " for an IPv6 address, and %2Fvar%2Frun%2Fpostgresql for a folder of sockets."
            )
        names.append(name)
        found.append(port)
    if any(not 0 < port < 65_536 for port in found or given):
        raise PostgresUrlError(" names a port that is not a number from 1 to 65535.")
    return tuple(names), tuple(found or given[:1])


def _check(query: Mapping[str, str], *, writes: bool) -> None:
    for name, value in query.items():
        harmless = _NO_DIFFERENCE.get(name, frozenset())
        if name in _USED or harmless is None or value.lower() in harmless:
            continue
        advice = f": {_ADVICE[name]}" if name in _ADVICE else ""
        known = name in _NO_DIFFERENCE
        said = f"{name}={value}" if known else name if name.isidentifier() else "a parameter"
        raise PostgresUrlError(f" has {said}, which mcsync does not support. Remove it{advice}.")
    _one_of(query, "sslmode", _MODES)
    _one_of(query, "sslnegotiation", ("postgres", "direct"))
    _one_of(query, "target_session_attrs", _WRITABLE if writes else _SESSIONS)
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        _one_of(query, name, tuple(_TLS_VERSIONS))
    if not query.get("connect_timeout", "0").isdecimal():
        raise PostgresUrlError(" has a connect_timeout that is not a whole number of seconds.")
    _check_tls(query)


def _one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> None:
    if name in query and query[name] not in allowed:
        raise PostgresUrlError(f" has a {name} that is none of {', '.join(allowed)}.")


def _check_tls(query: Mapping[str, str]) -> None:
    """That what is said of certificates has the effect that its author believes."""
    mode = query.get("sslmode")
    if mode not in _CHECKED and query.get("sslrootcert") != "system":
        for name in (*_TLS_FILES, "sslpassword"):
            if name in query:
                raise PostgresUrlError(
                    f" has {name}, which does nothing with sslmode={mode or 'prefer'}. Write"
                    " sslmode=verify-full as well, so that the server's certificate is checked."
                )
    if mode == "verify-ca" and query.get("sslrootcert", "system") == "system":
        raise PostgresUrlError(
            " has sslmode=verify-ca without the authority's file, so anybody with a public certificate would"
            " be believed. Write sslmode=verify-full, or name the file in sslrootcert."
        )
    if "sslkey" in query and "sslcert" not in query:
        raise PostgresUrlError(" has sslkey without sslcert. Name the client's certificate too.")
    if query.get("sslnegotiation") == "direct" and mode not in _CHECKED:
        raise PostgresUrlError(
            " has sslnegotiation=direct, which needs sslmode=require or stronger."
        )


def driver_arguments(url: PostgresUrl) -> dict[str, Any]:
    """What asyncpg's ``connect`` takes for this URL. Without a limit on the time, which callers set."""
    options = url.options
    arguments: dict[str, Any] = {
        "host": list(url.hosts) or None,
        "port": list(url.ports) if url.hosts else url.ports[0],
        "user": url.user,
        "password": url.password,
        "database": url.database,
        "ssl": _tls(url),
        "direct_tls": True if options.get("sslnegotiation") == "direct" else None,
        "passfile": options.get("passfile"),
        "target_session_attrs": options.get("target_session_attrs"),
        "krbsrvname": options.get("krbsrvname"),
        "server_settings": {
            name: options[name] for name in ("application_name", "options") if options.get(name)
        },
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _tls(url: PostgresUrl) -> ssl.SSLContext | str | bool | None:
    """asyncpg's argument ``ssl``. Files of libpq's own folder (``~/.postgresql``) play no part."""
    options = url.options
    root = options.get("sslrootcert")
    mode = options.get("sslmode") or ("verify-full" if root == "system" else None)
    if mode is None or mode in {"allow", "prefer"}:
        return mode
    if mode == "disable":
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root is None:
        context.verify_mode = ssl.CERT_NONE
    try:
        if root not in {None, "system"}:
            context.load_verify_locations(cafile=root)
        elif context.verify_mode is ssl.CERT_REQUIRED:
            context.load_default_certs()
        if crl := options.get("sslcrl"):
            context.load_verify_locations(cafile=crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        if certificate := options.get("sslcert"):
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(
                certificate, options.get("sslkey"), lambda: options.get("sslpassword", "")
            )
    except (OSError, ssl.SSLError, ValueError) as error:
        raise PostgresUrlError(
            " names certificates or keys (sslrootcert, sslcert, sslkey, sslcrl) that cannot be read as"
            f" PEM: {getattr(error, 'strerror', None) or 'the file or its password is wrong'}."
        ) from None
    context.minimum_version = _TLS_VERSIONS[options.get("ssl_min_protocol_version", "TLSv1.2")]
    if "ssl_max_protocol_version" in options:
        context.maximum_version = _TLS_VERSIONS[options["ssl_max_protocol_version"]]
    context.set_alpn_protocols(["postgresql"])
    return context


def conninfo(url: PostgresUrl) -> str:
    """The same for libpq, as ``name='value'``. The password is not in it, because anybody can read arguments."""
    words = {
        "host": ",".join(url.hosts),
        "port": ",".join(str(port) for port in url.ports) if url.hosts else "",
        "user": url.user or "",
        "dbname": url.database or "",
        **{name: value for name, value in url.options.items() if name != "sslpassword"},
    }
    if words.get("sslmode") == "verify-full":
        words.setdefault("sslrootcert", "system")
    return " ".join(f"{name}={_quoted(value)}" for name, value in words.items() if value)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
