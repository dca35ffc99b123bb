"""What an operator can set: environment variables ``MCSYNC_*``, nothing else (no ``.env`` by itself).

Secrets are ``SecretStr``: they print as stars. :meth:`Settings.require_service` says at once all that
an API or a worker still misses, so that neither starts half-configured.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.asyncio.connection import parse_url

from mcsync.core.network import (
    is_base_url,
    is_proxy_url,
    is_public_url,
    trusted_proxies_problems,
)
from mcsync.core.origins import browser_origin
from mcsync.core.postgres_url import PostgresUrlError, read_postgres_url

MASTER_KEY_BYTES = 32
_FEW_DISTINCT = 12
"""32 random bytes have about 30 distinct values; fewer than this is a pattern somebody typed."""
_SLOTS_TOGETHER = 10


class SettingsError(Exception):
    """The settings do not suffice. ``problems`` lists every single one; none repeats a value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("mcsync is not configured:\n" + "\n".join(f"  - {p}" for p in problems))
        self.problems = problems


class ValuesError(ValueError):
    """A value cannot be read. Each of ``problems`` follows the setting's name, and repeats no value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class Settings(BaseSettings):
    """Every setting of mcsync; the variable is the field's name in capitals after ``MCSYNC_``."""

    model_config = SettingsConfigDict(
        env_prefix="MCSYNC_",
        env_file=None,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    # The store and the wake-up line
    database_url: SecretStr | None = None
    """PostgreSQL >= 15, as the service's own role (member of `mcsync_app`, neither owner nor superuser)."""
    migration_database_url: SecretStr | None = None
    """The same database as its owner, for `mcsync migrate`; default: `DATABASE_URL`."""
    redis_url: SecretStr | None = None
    """Redis or Valkey >= 7. It holds nothing that PostgreSQL cannot rebuild."""
    database_pool_size: int = Field(10, ge=1, le=200)
    """Connections to PostgreSQL that each process keeps open."""
    database_pool_overflow: int | None = Field(None, ge=0, le=200)
    """Connections that each process opens beyond those under load; default: as many again."""

    # Secrets
    master_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    """JSON object: key id -> base64 of 32 random bytes. Old ids stay until `mcsync keys rotate` is done."""
    master_key_active: str | None = None
    """The id of the key that seals new secrets; default: the only one, when there is only one."""

    # Mailchimp
    mailchimp_url: str = "https://{dc}.api.mailchimp.com/3.0"
    """Base URL; `{dc}` becomes the data centre named by the API key. An emulator may stand here."""
    mandrill_url: str = "https://mandrillapp.com/api/1.0"
    """Base URL of the Transactional (Mandrill) API. An emulator may stand here."""
    slots_per_account: int = Field(8, ge=1, le=9)
    """Simultaneous bulk calls to one account, over all processes. Mailchimp allows 10 in all."""
    live_slots: int = Field(2, ge=1, le=9)
    """Slots kept free of bulk work, so that an opt-out never queues behind a push."""

    # The network
    ca_file: Path | None = None
    """A PEM file of certificate authorities that calls to Mailchimp trust beside the usual ones: a company's own."""
    egress_proxy: SecretStr | None = None
    """The proxy that calls to Mailchimp take: `http://user:password@host:port`. `HTTPS_PROXY` and the like are
    ignored."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses and networks, with commas between, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    # The API
    public_url: str | None = None
    """Where the API is reached from outside, e.g. `https://mcsync.example.com`."""
    max_body_bytes: int = Field(2 * 1024 * 1024, ge=1024)
    """Largest JSON body: 1,000 contacts with generous attributes. Streamed imports have no limit."""
    idempotency_hours: int = Field(24, ge=1, le=24 * 30)
    """How long the answer to an `Idempotency-Key` is remembered."""
    token_cache_seconds: float = Field(5.0, ge=0, le=60)
    """How long a verified token is believed without asking again; a revoked one lives on so long."""

    # Runs
    run_lease_seconds: int = Field(15, ge=3, le=600)
    """A worker that says nothing for so long has died; another one takes its run over."""
    guard_removals_min: int = Field(25, ge=0)
    """Up to so many removals (archive, unsubscribe) a run never needs approval."""
    guard_removals_share: float = Field(0.10, ge=0, le=1)
    """Beyond the minimum, removals of more than this share of the audience wait for approval."""
    guard_additions_min: int = Field(500, ge=0)
    """Up to so many additions a run never needs approval."""
    guard_additions_share: float = Field(0.50, ge=0)
    """Beyond the minimum, additions of more than this share of the audience wait for approval."""
    pull_overlap_seconds: int = Field(60, ge=0)
    """How far a pull reaches back before the last one, since Mailchimp's clock is not ours."""
    full_pull_days: int = Field(7, ge=1)
    """How often the mirror is read anew from end to end."""
    audience_pull_minutes: float = Field(15, ge=0, le=24 * 60)
    """How often changed members are pulled between syncs where no webhook tells; 0 for never."""
    order_barrier_seconds: int = Field(120, ge=1)
    """How long an order waits for a call under way whose answer is unknown."""

    # Sources
    source_wait_minutes: int = Field(30, ge=0, le=12 * 60)
    """How long the nightly sync of an organisation waits for the pulls of its sources; then it goes on."""
    source_pull_minutes: int = Field(60, ge=1, le=24 * 60)
    """The longest that one pull may take from beginning to end."""

    # Campaigns
    campaign_settling_days: int = Field(30, ge=0, le=365)
    """So long after it was sent a campaign's opens and clicks are followed; 0: only until it is sent."""
    campaign_spread_seconds: int = Field(1800, ge=0, le=6 * 3600)
    """Over so long the organisations' refreshes are spread after each six-hourly tick."""

    # Newsletter forms
    form_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web sites whose pages may post to `subscribers.subscribe`, and to which an HTML form may lead back: origins
    such as `https://www.example.com`, with commas between. The service does not start with one that no browser sends."""
    form_per_client_minute: int = Field(10, ge=1)
    """Form posts that one network address may send in a minute."""
    form_per_address_hour: int = Field(3, ge=1)
    """Form posts that may name one e-mail address in an hour, so that nobody is flooded with confirmations."""

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important events that are written."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for eyes."""

    @field_validator("master_keys", mode="before")
    @classmethod
    def _key_object(cls, value: object) -> object:
        return _keys_of(value) if isinstance(value, str) else value

    @field_validator("form_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("form_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins: dict[str, None] = {}
        problems = []
        for number, one in enumerate(value, 1):
            try:
                origins[browser_origin(one)] = None
            except ValueError as error:
                problems.append(f", entry {number}: {error}.")
        if problems:
            raise ValuesError(problems)
        return tuple(origins)

    @field_validator("log_level", mode="before")
    @classmethod
    def _capital(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def migration_url(self) -> str:
        """The URL to migrate with. Raises :class:`SettingsError` when there is none."""
        url = self.migration_database_url or self.database_url
        if url is None:
            raise SettingsError(
                ["MCSYNC_MIGRATION_DATABASE_URL (or MCSYNC_DATABASE_URL) is missing."]
            )
        try:
            read_postgres_url(url.get_secret_value())
        except PostgresUrlError as error:
            name = "MIGRATION_DATABASE_URL" if self.migration_database_url else "DATABASE_URL"
            raise SettingsError([f"MCSYNC_{name}{error}"]) from None
        return url.get_secret_value()

    @property
    def active_key_id(self) -> str | None:
        """The id of the master key that seals new secrets; None where it is not decided."""
        if self.master_key_active is not None:
            return self.master_key_active
        return next(iter(self.master_keys)) if len(self.master_keys) == 1 else None

    def decoded_master_keys(self) -> dict[str, bytes]:
        """Key id -> 32 bytes. Raises :class:`SettingsError` for a missing or weak key."""
        problems = self.key_problems()
        if problems:
            raise SettingsError(problems)
        return {kid: _decode(key) or b"" for kid, key in self.master_keys.items()}

    def require_service(self) -> None:
        """Checks that an API or a worker can run. Raises :class:`SettingsError` naming all that is wrong."""
        problems = self.service_problems()
        if problems:
            raise SettingsError(problems)

    def service_problems(self) -> list[str]:
        """What an API or a worker lacks, in sentences that name the setting."""
        return (
            self.database_problems()
            + self._redis_problems()
            + self.key_problems()
            + self._network_problems()
            + self._slot_problems()
        )

    def database_problems(self) -> list[str]:
        """What keeps a service from connecting to PostgreSQL, as far as the setting tells."""
        if self.database_url is None:
            return ["MCSYNC_DATABASE_URL is missing: the URL of a PostgreSQL >= 15."]
        try:
            read_postgres_url(self.database_url.get_secret_value())
        except PostgresUrlError as error:
            return [f"MCSYNC_DATABASE_URL{error}"]
        return []

    def _redis_problems(self) -> list[str]:
        if self.redis_url is None:
            return ["MCSYNC_REDIS_URL is missing: the URL of a Redis or Valkey >= 7."]
        if not _is_redis_url(self.redis_url.get_secret_value()):
            return ["MCSYNC_REDIS_URL is not a URL such as redis://:password@host:6379/0."]
        return []

    def _slot_problems(self) -> list[str]:
        if self.slots_per_account + self.live_slots <= _SLOTS_TOGETHER:
            return []
        return [
            f"MCSYNC_SLOTS_PER_ACCOUNT and MCSYNC_LIVE_SLOTS together exceed {_SLOTS_TOGETHER}: lower one."
        ]

    @property
    def most_connections(self) -> int:
        """Connections to PostgreSQL that each process opens at most."""
        overflow = self.database_pool_overflow
        return self.database_pool_size + (self.database_pool_size if overflow is None else overflow)

    def _network_problems(self) -> list[str]:
        problems = []
        for name, url in (
            ("MAILCHIMP_URL", self.mailchimp_url),
            ("MANDRILL_URL", self.mandrill_url),
        ):
            if not is_base_url(url):
                problems.append(
                    f"MCSYNC_{name} is not a URL such as {type(self).model_fields[name.lower()].default}."
                    " Remove it to call the real Mailchimp."
                )
        if self.public_url is not None and not is_public_url(self.public_url):
            problems.append(
                "MCSYNC_PUBLIC_URL is not an https address such as https://mcsync.example.com, without a"
                " query. Mailchimp sends personal data to it, which must not travel unencrypted."
            )
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=str(self.ca_file))
            except (OSError, ssl.SSLError):
                problems.append(
                    "MCSYNC_CA_FILE is not a readable file of certificates in PEM form."
                )
        if self.egress_proxy is not None and not is_proxy_url(self.egress_proxy.get_secret_value()):
            problems.append(
                "MCSYNC_EGRESS_PROXY is not a URL such as http://user:password@host:3128 (a / in the"
                " password is written %2F, an @ %40)."
            )
        trusted = trusted_proxies_problems(self.trusted_proxies)
        return problems + [f"MCSYNC_TRUSTED_PROXIES{problem}" for problem in trusted]

    def key_problems(self) -> list[str]:
        """What is wrong with the master keys; no sentence shows one."""
        if not self.master_keys:
            return ["MCSYNC_MASTER_KEYS is missing: make one with `mcsync keys generate`."]
        problems = [
            f"MCSYNC_MASTER_KEYS: key {number} ({kid if _is_key_id(kid) else 'odd id'}) {wrong}."
            for number, (kid, key) in enumerate(self.master_keys.items(), 1)
            if (wrong := _weakness(kid, key))
        ]
        if self.active_key_id is None:
            problems.append("MCSYNC_MASTER_KEY_ACTIVE is missing: there are several master keys.")
        elif self.active_key_id not in self.master_keys:
            problems.append("MCSYNC_MASTER_KEY_ACTIVE names no key of MCSYNC_MASTER_KEYS.")
        return problems


def _is_redis_url(url: str) -> bool:
    try:
        parse_url(url)
    except ValueError:
        return False
    return True


def _is_key_id(kid: str) -> bool:
    return 1 <= len(kid) <= 64 and all(c.isascii() and (c.isalnum() or c in "._-") for c in kid)


def _keys_of(text: str) -> dict[str, str]:
    """The master keys that a JSON object names. Raises :class:`ValuesError`."""
    made = "make it with `mcsync keys generate`, and put it in single quotes in a file."
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError:
        raise ValuesError([f' is not JSON such as {{"k1":"..."}}: {made}']) from None
    if not isinstance(pairs, list) or not all(_is_text_pair(pair) for pair in pairs):
        raise ValuesError([f' is not a JSON object of texts such as {{"k1":"..."}}: {made}'])
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValuesError([" has one id twice: give each key an id of its own."])
    return keys


def _is_text_pair(pair: object) -> bool:
    return isinstance(pair, tuple) and isinstance(pair[1], str)


def _decode(key: SecretStr) -> bytes | None:
    text = key.get_secret_value().strip()
    try:
        return base64.b64decode(
            text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return None


def _weakness(kid: str, key: SecretStr) -> str | None:
    """What is wrong with a master key, in words that follow its name."""
    if not _is_key_id(kid):
        return "has an id that is not 1 to 64 letters, digits, dots, dashes or underscores"
    raw = _decode(key)
    if raw is None or len(raw) != MASTER_KEY_BYTES:
        return "is not the base64 of exactly 32 bytes"
    if len(set(raw)) < _FEW_DISTINCT or raw.isascii():
        # 32 random bytes are all below 128 once in 4 thousand million times; typed text always is.
        return (
            "looks like an example, not like 32 random bytes: make one with `mcsync keys generate`"
        )
    steps = {(b - a) % 256 for a, b in pairwise(raw)}
    if len(steps) == 1:
        return "is a counting pattern, not 32 random bytes: make one with `mcsync keys generate`"
    return None
