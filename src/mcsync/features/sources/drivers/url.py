"""Connection URLs of sources: what may be in one, and the little of it that is ever shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from mcsync.core.errors import BadRequestError
from mcsync.core.postgres_url import PostgresUrlError, read_postgres_url
from mcsync.features.sources.statements import Kind

_KINDS: Final[dict[str, Kind]] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
_PORTS: Final = {"postgresql": 5432, "mysql": 3306}


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """A connection URL taken apart. Its representation shows no more than ``place``."""

    kind: Kind
    place: str
    raw: str = field(repr=False)
    host: str = field(repr=False, default="")
    port: int = field(repr=False, default=0)
    database: str = field(repr=False, default="")
    user: str | None = field(repr=False, default=None)
    password: str | None = field(repr=False, default=None)
    options: dict[str, str] = field(repr=False, default_factory=dict)


def read_url(raw: str) -> SourceUrl:
    """Takes a URL apart. Raises BadRequestError (``invalid_source_url``), which repeats none of it."""
    raw = raw.strip()
    scheme, _, rest = raw.partition("://")
    kind = _KINDS.get(scheme.lower().partition("+")[0])
    if kind is None or not rest:
        raise _wrong("Begin with postgresql://, mysql://, mariadb:// or sqlite:///.")
    try:
        parts = urlsplit(f"{kind}://{rest}")
        host, port = parts.hostname or "", parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _wrong("It cannot be read; percent-encode special characters.") from None
    if any(ord(letter) < 32 for letter in unquote(raw)):
        raise _wrong("It holds control characters.")
    if kind == "sqlite":
        return _file(raw, rest, host)
    if kind == "postgresql":
        try:
            read_postgres_url(f"{kind}://{rest}", writes=False)
        except PostgresUrlError as error:
            raise _wrong(f"It{error}") from None
    database = unquote(parts.path.removeprefix("/"))
    if not host or not database:
        raise _wrong("Name host and database: KIND://user:password@host:port/database")
    chosen = port or _PORTS[kind]
    shown = f"{host}/{database}" if chosen == _PORTS[kind] else f"{host}:{chosen}/{database}"
    return SourceUrl(
        kind, shown, f"{kind}://{rest}", host, chosen, database,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        options,
    )  # fmt: skip


def _file(raw: str, rest: str, host: str) -> SourceUrl:
    path = unquote(rest.removeprefix("/"))
    if host or not path.startswith("/") or "?" in path:
        raise _wrong("Give the file's whole path, with four slashes: sqlite:////var/lib/people.db")
    return SourceUrl("sqlite", f"file/{PurePosixPath(path).name}", raw, database=path)


def _wrong(what: str) -> BadRequestError:
    return BadRequestError(f"The connection URL is not usable. {what}", code="invalid_source_url")
