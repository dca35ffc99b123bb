"""The organisations: their secrets, webhooks, forms and connections. Set-based, so that thousands cost little."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcsync.cli.checks.finding import SHOWN, Finding, State, short
from mcsync.cli.checks.servers import clock

if TYPE_CHECKING:
    from uuid import UUID

    from mcsync.core.db.inspection import SealedUnder, TenantState, WebhookState
    from mcsync.core.resources import Resources
    from mcsync.features.connection.capabilities import Capabilities

PING_SECONDS: Final = 3.0
"""How long one account may take to answer."""
_BEGIN_SECONDS: Final = 0.3
"""No further account is asked after this time, unless every one is wanted."""
_AT_A_TIME: Final = 10
_OPENED: Final = 20
"""Secrets that are opened for each key, to see that it is the right one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which accounts are asked whether they answer: some, all, those of one organisation, or none."""

    organisation: str | None = None
    every_account: bool = False
    offline: bool = False


# --- master keys ----------------------------------------------------------------------------------


async def master_keys(resources: Resources) -> list[Finding]:
    """Whether the configured keys are those that the stored secrets need."""
    from mcsync.core.db.inspection import sealed_keys

    async with resources.db.system() as session:
        used = await sealed_keys(session)
    found = [await _key(resources, one) for one in used]
    idle = resources.keys.key_ids - {one.key for one in used}
    for key in sorted(idle):
        active = key == resources.keys.active
        state = "active" if active else "may be removed"
        found.append(Finding("master keys", "ok", f"{key}: 0 secrets, {state}"))
    return found


async def _key(resources: Resources, one: SealedUnder) -> Finding:
    count = f"{one.secrets} secrets"
    if not one.key:
        return Finding(
            "master keys", "problem", f"(damaged): {count} cannot be opened",
            "`mcsync keys doctor` counts them. Restore them from a backup, or connect again.",
        )  # fmt: skip
    if one.key not in resources.keys.key_ids:
        return Finding(
            "master keys", "problem", f"{one.key}: {count}, missing, {one.secrets} cannot be opened",
            f"Put the key {one.key} back into MCSYNC_MASTER_KEYS, or connect again.",
        )  # fmt: skip
    if not await _opens(resources, one):
        return Finding(
            "master keys", "problem", f"{one.key}: {count}, some of which cannot be opened",
            f"The key {one.key} in MCSYNC_MASTER_KEYS is another one than they were sealed under: put the"
            " right one back. `mcsync keys doctor` counts them.",
        )  # fmt: skip
    if one.key == resources.keys.active:
        return Finding("master keys", "ok", f"{one.key}: {count}, active")
    return Finding("master keys", "warning", f"{one.key}: {count}, in use", "mcsync keys rotate")


async def _opens(resources: Resources, one: SealedUnder) -> bool:
    """Whether what one organisation has under the key opens: its hash key, else the first of its secrets."""
    from mcsync.core.auth.organisations import opens_hash_key
    from mcsync.core.crypto import SecretError

    found = await opens_hash_key(resources.db, resources.keys, one)
    if found is not None:
        return found
    from mcsync.cli.keys import secrets_of  # which needs every feature

    opened = 0
    async with resources.db.transaction(one.sample) as session:
        try:
            async for envelope, context in secrets_of(session, one.sample):
                if resources.keys.key_id(envelope) == one.key:
                    resources.keys.open(envelope, context=context)
                    opened += 1
                if opened >= _OPENED:
                    break
        except SecretError:
            return False
    return True


# --- organisations ----------------------------------------------------------------------------------


async def organisations(
    resources: Resources, asked: Asked, *, connections: bool = True
) -> list[Finding]:
    """Webhooks, forms, audiences and, with ``connections``, whether the accounts answer.

    Raises ``NotFoundError`` where the organisation asked for does not exist.
    """
    from mcsync.core.db.inspection import tenant_states, webhook_states
    from mcsync.features.subscribers.requests import COUNTED_DAYS

    async with resources.db.system() as session:
        everyone = await tenant_states(session, days=COUNTED_DAYS)
        hooks = await webhook_states(session)
    if not everyone:
        return [Finding("organisations", "warning", "there is none", "mcsync org create NAME")]
    if asked.organisation is not None:
        chosen = await _chosen(resources, asked.organisation)
        everyone = [one for one in everyone if one.org_id == chosen]
        hooks = [one for one in hooks if one.org_id == chosen]
    named = _Names(resources)
    found = await _connections(resources, everyone, asked, named) if connections else []
    found += await _webhooks(hooks, named)
    for one in _first([one for one in everyone if one.fields_gone], found, "audiences"):
        found += await _fields(resources, one, named)
    for one in _first([one for one in everyone if one.refused], found, "forms"):
        found.append(
            Finding(
                f"forms of {await named.of(one.org_id)}", "warning",
                f"{one.refused} of {one.requests} requests of the last {COUNTED_DAYS} days were refused or dropped",
                "Call subscribers.listRequests with status=refused or status=dropped to see why.",
            )
        )  # fmt: skip
    return found


async def _chosen(resources: Resources, wanted: str) -> UUID:
    from mcsync.core.auth.organisations import find_organisation
    from mcsync.core.errors import NotFoundError

    found = await find_organisation(resources.db, wanted)
    if found is None:
        message = "There is no such organisation; `mcsync org list` shows all."
        raise NotFoundError(message, code="organisation_not_found")
    return found


class _Names:
    """The names of organisations, each looked up when it is first needed."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[UUID, str] = {}

    async def of(self, org_id: UUID) -> str:
        if org_id not in self._known:
            from mcsync.core.auth.organisations import get_organisation

            async with self._resources.db.transaction(org_id) as session:
                organisation = await get_organisation(session)
            self._known[org_id] = organisation.name if organisation else str(org_id)
        return self._known[org_id]


def _first(those: Sequence[TenantState], found: list[Finding], what: str) -> Iterable[TenantState]:
    """The first of many organisations; how many there are besides becomes a finding."""
    if len(those) > SHOWN:
        found.append(
            Finding(
                what, "warning",
                f"of {len(those) - SHOWN} organisations besides those that are named, too",
                "`mcsync doctor --org NAME` looks at one.",
            )
        )  # fmt: skip
    return those[:SHOWN]


async def _fields(resources: Resources, one: TenantState, named: _Names) -> list[Finding]:
    from mcsync.features.audiences.service import audience_warnings

    name = await named.of(one.org_id)
    return [
        Finding(
            f"Audiences of {name}", "warning", warning.message,
            "Call audiences.createMergeFields or audiences.setMergeFields.",
        )
        for warning in await audience_warnings(resources, one.org_id)
    ]  # fmt: skip


# --- webhooks -------------------------------------------------------------------------------------


async def _webhooks(hooks: Sequence[WebhookState], named: _Names) -> list[Finding]:
    wrong = [one for one in hooks if one.status in {"error", "disabled"}]
    by_org: dict[UUID, list[WebhookState]] = defaultdict(list)
    for one in wrong:
        by_org[one.org_id].append(one)
    found = []
    for org_id in list(by_org)[:SHOWN]:
        name = await named.of(org_id)
        found += [_webhook(name, one) for one in by_org[org_id]]
    if len(by_org) > SHOWN:
        found.append(
            Finding(
                "webhooks", "problem",
                f"in error in {len(by_org) - SHOWN} organisations besides those that are named",
                "`mcsync doctor --org NAME` looks at one.",
            )
        )  # fmt: skip
    fine = sum(one.endpoints for one in hooks if one.status == "active")
    coming = sum(one.endpoints for one in hooks if one.status == "missing")
    if fine or coming:
        detail = f"{fine} active" + (f", {coming} about to be registered" if coming else "")
        found.append(Finding("webhooks", "ok", detail))
    return found


def _webhook(name: str, one: WebhookState) -> Finding:
    checked = f"as of {one.checked_at:%Y-%m-%d %H:%M:%S} UTC" if one.checked_at else "never checked"
    if one.status == "disabled":
        return Finding(
            f"webhooks of {name}", "warning",
            f"Mailchimp stopped posting to {one.endpoints} of them ({checked}): they are being repaired",
            f"mcsync webhooks check --org '{name}'",
        )  # fmt: skip
    # without a public URL, changes are pulled on a schedule, which may be what is wanted
    state: State = "warning" if one.error == "no_public_url" else "problem"
    return Finding(
        f"webhooks of {name}", state, f"{one.endpoints} in error: {one.error} ({checked})",
        _ADVICE.get(one.error or "", "See the error")
        + f" Then: mcsync webhooks check --org '{name}'",
    )  # fmt: skip


_ADVICE: Final = {
    "url_not_verified": "Mailchimp cannot reach MCSYNC_PUBLIC_URL: check its name, certificate and proxy.",
    "no_public_url": "The workers have no MCSYNC_PUBLIC_URL: set it, or remove the webhooks at Mailchimp.",
    "mailchimp_key_refused": "Connect again with a live API key.",
    "api_key_unreadable": "Put the missing key back into MCSYNC_MASTER_KEYS, or connect again.",
    "secret_unreadable": "Put the missing key back into MCSYNC_MASTER_KEYS, or rotate the webhook.",
}


# --- connections ----------------------------------------------------------------------------------


async def _connections(
    resources: Resources, everyone: Sequence[TenantState], asked: Asked, named: _Names
) -> list[Finding]:
    bare = [one for one in everyone if not one.connected]
    found = [
        Finding(
            f"Mailchimp of {await named.of(one.org_id)}", "warning", "not connected",
            "Call connection.connect with an API key.",
        )
        for one in bare[:SHOWN]
    ]  # fmt: skip
    if len(bare) > SHOWN:
        found.append(
            Finding(
                "Mailchimp", "warning", f"{len(bare) - SHOWN} more organisations are not connected"
            )
        )
    connected = sorted(
        (one for one in everyone if one.connected),
        key=lambda one: not one.needs_attention,
    )
    if asked.offline:
        found += [await _marked(one, named) for one in connected[:SHOWN] if one.needs_attention]
        found.append(
            Finding("Mailchimp", "ok", f"{len(connected)} accounts, none asked (--offline)")
        )
        return found
    return found + await _ask(resources, connected, asked, named)


async def _marked(one: TenantState, named: _Names) -> Finding:
    return Finding(
        f"Mailchimp of {await named.of(one.org_id)}", "problem", "the connection needs attention",
        "Connect again with a live API key.",
    )  # fmt: skip


async def _ask(
    resources: Resources, connected: Sequence[TenantState], asked: Asked, named: _Names
) -> list[Finding]:
    """Asks the accounts, those with known trouble first, ``_AT_A_TIME`` at a time."""
    began, answers = time.monotonic(), list[Finding]()
    room = asyncio.Semaphore(_AT_A_TIME)
    clocks = list[Finding]()

    async def one_of(tenant: TenantState) -> None:
        async with room:
            if not asked.every_account and time.monotonic() - began > _BEGIN_SECONDS:
                return
            answer, theirs = await _connection(resources, tenant.org_id, named)
            answers.append(answer)
            if theirs is not None:
                clocks.append(theirs)

    await asyncio.gather(*(one_of(one) for one in connected))
    wrong = [one for one in answers if one.state != "ok"]
    shown = answers if len(connected) <= SHOWN else wrong[:SHOWN]
    found = sorted(shown, key=lambda one: one.check)
    if len(connected) > len(shown):
        fine = len(answers) - len(wrong)
        detail = f"{fine} of {len(answers)} accounts answer; {len(connected)} are connected"
        few = len(answers) < len(connected)
        found.append(
            Finding(
                "Mailchimp", "problem" if wrong else "ok", detail,
                "`mcsync doctor --every-account` asks all of them, which takes longer." if few else "",
            )
        )  # fmt: skip
    off = [one for one in clocks if one.state != "ok"]
    return found + (off or clocks)[:1]


async def _connection(
    resources: Resources, org_id: UUID, named: _Names
) -> tuple[Finding, Finding | None]:
    """Whether the organisation's account answers, and what its server says about the time."""
    from mcsync.core.crypto import SecretError
    from mcsync.core.errors import McsyncError
    from mcsync.features.connection import capabilities
    from mcsync.features.connection import service as connection
    from mcsync.mailchimp import MailchimpError, TransientError, UnsafeConnectionError

    check = f"Mailchimp of {await named.of(org_id)}"
    before = time.time()
    try:
        async with asyncio.timeout(PING_SECONDS), connection.calling(resources, org_id) as link:
            await link.client.ping()
            after, theirs = time.time(), link.client.server_time
    except TimeoutError:
        return Finding(
            check, "problem", f"no answer within {PING_SECONDS:.0f} s",
            "Try again later: Mailchimp, or all slots of the account, are busy."
            + (" Or MCSYNC_EGRESS_PROXY does not answer." if resources.settings.egress_proxy else ""),
        ), None  # fmt: skip
    except TransientError as error:  # the key has nothing to do with it
        said = error.title if isinstance(error, UnsafeConnectionError) else short(error)
        return Finding(
            check, "problem", said, "Try again later; docs/network.md has what TLS and proxies need."
        ), None  # fmt: skip
    except (McsyncError, MailchimpError, SecretError) as error:
        return Finding(
            check, "problem", short(error), "Connect again with a live API key, or try again later."
        ), None  # fmt: skip
    async with resources.db.transaction(org_id) as session:
        live = await connection.get_live(session)
        able = await capabilities.known(session, live.account_id) if live else None
    who = (live.account_name or live.account_id) if live else "the account"
    finding = Finding(check, "ok", f"{who} answers{_known(able) if able else ''}")
    # its clock is told in whole seconds
    told = clock("Mailchimp", theirs.timestamp(), before, after, precision=1.0) if theirs else None
    return finding, told


def _known(able: Capabilities) -> str:
    """How the account differs from what mcsync assumes, as far as it was asked."""
    if able.seen_at is None:
        return "; never probed: `mcsync probe --domain DOMAIN` finds out how it behaves"
    found = [f"{name} is {answer}" for name, answer in sorted(able.differing.items())]
    said = ", ".join(found) or "nothing differs from what mcsync assumes"
    return f"; probed {able.seen_at:%Y-%m-%d}: {said}"
