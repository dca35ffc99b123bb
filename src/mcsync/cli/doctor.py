"""``mcsync doctor``: is everything as it must be? One line for each check, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final, Literal

import typer
from rich.console import Console
from rich.markup import escape

from mcsync.cli.administration import organisations
from mcsync.cli.console import AsJson, Exit, Output, explained, first_line, quiet_logs, settings
from mcsync.cli.keys import secrets_by_key
from mcsync.core.crypto import SecretError
from mcsync.core.db import migrations
from mcsync.core.db.inspection import heartbeats, server_and_role
from mcsync.core.db.platform import Organisation
from mcsync.core.errors import McsyncError
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.features.audiences.service import audience_warnings
from mcsync.features.connection import capabilities
from mcsync.features.connection import service as connection
from mcsync.features.connection.capabilities import Capabilities
from mcsync.features.subscribers import repository as subscribers
from mcsync.features.subscribers.requests import COUNTED_DAYS
from mcsync.mailchimp import MailchimpError

OLDEST_POSTGRES: Final = 150_000
OLDEST_REDIS: Final = 7
PATIENCE: Final = 15.0
QUIET_WORKER: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. ``warning`` is worth knowing and stops nothing."""

    check: str
    state: Literal["ok", "warning", "problem"]
    detail: str
    fix: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check the database, Redis, the keys, the workers and each Mailchimp connection."""
    out = Output(as_json)
    configuration = explained(out, settings)
    quiet_logs(configuration)
    found = explained(out, lambda: asyncio.run(examine(configuration)))

    def human(console: Console) -> None:
        marks = {
            "ok": "[green]ok[/]     ",
            "warning": "[yellow]warning[/]",
            "problem": "[red]problem[/]",
        }
        for finding in found:
            console.print(f"{marks[finding.state]}  [bold]{escape(finding.check)}[/]: "
                          f"{escape(finding.detail)}")  # fmt: skip
            if finding.fix:
                console.print(f"         fix: {escape(finding.fix)}")

    healthy = all(finding.state != "problem" for finding in found)
    out.result({"healthy": healthy, "checks": [asdict(finding) for finding in found]}, human)
    if not healthy:
        raise typer.Exit(Exit.ATTENTION)


async def examine(configuration: Settings) -> list[Finding]:
    """Every finding. A check that cannot be made without a broken part is left out."""
    try:
        configuration.require_service()
    except SettingsError as error:
        return [
            Finding("settings", "problem", problem, "Set it in the environment; see the README.")
            for problem in error.problems
        ]
    resources = await Resources.build(configuration)
    try:
        found = [Finding("settings", "ok", "complete")]
        found += [finding async for finding in _database(resources)]
        found += [await _redis(resources)]
        if all(f.state != "problem" for f in found if f.check in {"database", "migrations"}):
            found += [finding async for finding in _secrets(resources)]
            found += [await _workers(resources)]
            # A call needs a slot, which Redis gives, and a key; and one that does not open would be
            # noted on the connection, though only this shell may have the wrong master keys.
            if all(f.state != "problem" for f in found if f.check in {"redis", "master keys"}):
                found += [finding async for finding in _connections(resources)]
        return found
    finally:
        await resources.close()


async def _database(resources: Resources) -> AsyncIterator[Finding]:
    try:
        async with asyncio.timeout(PATIENCE), resources.db.system() as session:
            about = await server_and_role(session)
            at = await migrations.current(session)
    except Exception as error:  # noqa: BLE001 - whatever it is, the database cannot be used
        yield Finding(
            "database", "problem", _short(error), "Check MCSYNC_DATABASE_URL and the server."
        )
        return
    version = f"PostgreSQL {about.version // 10_000}.{about.version % 10_000}"
    if about.version < OLDEST_POSTGRES:
        yield Finding("database", "problem", f"{version} is too old", "Use PostgreSQL 15 or newer.")
    else:
        yield Finding("database", "ok", f"{version}, as the role {about.role}")
    if about.superuser or about.bypasses_rls:
        kind = "a superuser" if about.superuser else "free of row-level security (BYPASSRLS)"
        yield Finding(
            "role", "problem", f"{about.role} is {kind}: one organisation could see another's rows",
            "Use a role of its own in MCSYNC_DATABASE_URL: mcsync migrate --service-role mcsync_service",
        )  # fmt: skip
    elif about.migrated and not about.in_service_group:
        fix = f"mcsync migrate --service-role {about.role}"
        yield Finding("role", "problem", f"{about.role} is not in the group mcsync_app", fix)
        if at is None:
            yield Finding("migrations", "problem", f"{about.role} may not read them", fix)
            return
    else:
        yield Finding("role", "ok", "bound by row-level security")
    yield _migrations(at)


def _migrations(at: str | None) -> Finding:
    head = migrations.head()
    if at == head:
        return Finding("migrations", "ok", f"at {head}")
    if at is not None and at not in migrations.revisions():
        return Finding("migrations", "warning", f"at {at}, which a newer version of mcsync made")
    return Finding("migrations", "problem", f"at {at or 'nothing'}, not {head}", "mcsync migrate")


async def _redis(resources: Resources) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            about = await resources.redis.info("server")
    except Exception as error:  # noqa: BLE001 - whatever it is, Redis cannot be used
        return Finding(
            "redis", "problem", _short(error),
            "Check MCSYNC_REDIS_URL and the server. Nothing is lost meanwhile: work waits in PostgreSQL.",
        )  # fmt: skip
    version = str(about.get("valkey_version") or about.get("redis_version") or "?")
    name = "Valkey" if "valkey_version" in about else "Redis"
    major = version.split(".", maxsplit=1)[0]
    if major.isdigit() and int(major) < OLDEST_REDIS:
        return Finding(
            "redis", "problem", f"{name} {version} is too old", "Use version 7 or newer."
        )
    return Finding("redis", "ok", f"{name} {version}")


async def _secrets(resources: Resources) -> AsyncIterator[Finding]:
    for row in await secrets_by_key(resources):
        detail = f"{row['key']}: {row['secrets']} secrets, {row['state']}"
        if row["unreadable"]:
            yield Finding(
                "master keys", "problem", f"{detail}, {row['unreadable']} cannot be opened",
                f"Put the key {row['key']} back into MCSYNC_MASTER_KEYS, or connect again.",
            )  # fmt: skip
        elif row["state"] == "in use":
            yield Finding("master keys", "warning", detail, "mcsync keys rotate")
        else:
            yield Finding("master keys", "ok", detail)


async def _workers(resources: Resources) -> Finding:
    async with resources.db.system() as session:
        seen = await heartbeats(session)
    now = resources.clock()
    living = [beat for beat in seen if now - beat.seen_at < QUIET_WORKER]
    if not living:
        return Finding("workers", "warning", "none is running", "mcsync worker")
    versions = ", ".join(sorted({beat.version for beat in living}))
    return Finding("workers", "ok", f"{len(living)} running, version {versions}")


async def _connections(resources: Resources) -> AsyncIterator[Finding]:
    everyone = await organisations(resources)
    if not everyone:
        yield Finding("organisations", "warning", "there is none", "mcsync org create NAME")
    for organisation in everyone:
        yield await _connection(resources, organisation)
        for warning in await audience_warnings(resources, organisation.id):
            yield Finding(
                f"Audiences of {organisation.name}", "warning", warning.message,
                "Call audiences.createMergeFields or audiences.setMergeFields.",
            )  # fmt: skip
        refused = await _refused_requests(resources, organisation)
        if refused is not None:
            yield refused


async def _connection(resources: Resources, organisation: Organisation) -> Finding:
    check = f"Mailchimp of {organisation.name}"
    async with resources.db.transaction(organisation.id) as session:
        live = await connection.get_live(session)
        able = await capabilities.known(session, live.account_id) if live else Capabilities()
    if live is None:
        return Finding(
            check, "warning", "not connected", "Call connection.connect with an API key."
        )
    try:
        async with (
            asyncio.timeout(PATIENCE),
            connection.calling(resources, organisation.id) as link,
        ):
            await link.client.ping()
    except TimeoutError:
        return Finding(
            check, "problem", f"no answer within {PATIENCE:.0f} s",
            "Try again later: Mailchimp, or all slots of the account, are busy.",
        )  # fmt: skip
    except (McsyncError, MailchimpError, SecretError) as error:
        return Finding(
            check, "problem", _short(error), "Connect again with a live API key, or try again later."
        )  # fmt: skip
    return Finding(check, "ok", f"{live.account_name or live.account_id} answers{_known(able)}")


def _known(able: Capabilities) -> str:
    """How the account differs from what mcsync assumes, as far as it was asked."""
    if able.seen_at is None:
        return "; never probed: `mcsync probe --domain DOMAIN` finds out how it behaves"
    found = [f"{name} is {answer}" for name, answer in sorted(able.differing.items())]
    said = ", ".join(found) or "nothing differs from what mcsync assumes"
    return f"; probed {able.seen_at:%Y-%m-%d}: {said}"


async def _refused_requests(resources: Resources, organisation: Organisation) -> Finding | None:
    async with resources.db.transaction(organisation.id) as session:
        counts = await subscribers.count_requests(session, days=COUNTED_DAYS)
    refused = counts.get("refused", 0) + counts.get("dropped", 0)
    if not refused:
        return None
    total = sum(counts.values())
    return Finding(
        f"forms of {organisation.name}", "warning",
        f"{refused} of {total} requests of the last {COUNTED_DAYS} days were refused or dropped",
        "Call subscribers.listRequests with status=refused or status=dropped to see why.",
    )  # fmt: skip


def _short(error: Exception) -> str:
    says = first_line(error)
    # SQLAlchemy's name of an error tells nothing; PostgreSQL's own words do
    return (
        says if hasattr(error, "orig") and says else f"{type(error).__name__}: {says}".rstrip(": ")
    )
