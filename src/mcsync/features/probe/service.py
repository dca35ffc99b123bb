"""``mcsync probe``: asks the connected account every open question, in an audience that it makes and removes.

Nothing is ever sent to anybody: members are made-up addresses of the domain that the caller names, they are
subscribed or unsubscribed by the API, and never ``pending``.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError
from mcsync.core.resources import Resources
from mcsync.features.connection import capabilities
from mcsync.features.connection import service as connection
from mcsync.features.connection.capabilities import Capabilities
from mcsync.features.connection.questions import QUESTIONS, Question
from mcsync.features.probe import scratch
from mcsync.features.probe.bench import Bench, UndecidedError
from mcsync.features.probe.experiments import EXPERIMENTS
from mcsync.mailchimp import CredentialError, MailchimpClient, MailchimpError

LIMIT_SECONDS: Final = 100.0
"""After this time no further question is asked: cleaning up must fit into two minutes as well."""
CLEANING_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 2.1
_DOMAIN = re.compile(r"(?=.{4,200}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII)

Step = Callable[[Question], None]
"""Hears of each question before it is asked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one question. ``answer`` is None where it could not be decided; ``why`` says why."""

    question: Question
    answer: str | None
    why: str = ""

    @property
    def differs(self) -> bool:
        """Whether the account does not do what mcsync assumes."""
        return self.answer is not None and self.answer != self.question.assumed

    @property
    def seen(self) -> str:
        """The answer as a sentence."""
        return f"unknown: {self.why}" if self.answer is None else self.question.says(self.answer)


@dataclass(frozen=True, slots=True)
class Report:
    """A probe that has ended. ``leftovers``: what could not be removed, and how to remove it."""

    account_id: str
    audience_id: str
    findings: tuple[Finding, ...]
    leftovers: tuple[str, ...]


async def known(resources: Resources, actor: Actor) -> Capabilities:
    """What the connected account has answered. Raises ``ConflictError`` (``not_connected``)."""
    async with resources.db.transaction(actor.org_id) as session:
        live = await connection.require_live(session)
        return await capabilities.known(session, live.account_id)


async def probe(
    resources: Resources,
    actor: Actor,
    *,
    domain: str,
    audience_id: str | None = None,
    on_step: Step | None = None,
    on_leftover: Callable[[str], None] | None = None,
    pause: Callable[[], Awaitable[None]] | None = None,
) -> Report:
    """Asks everything, cleans up, and keeps the answers for the connected account.

    ``on_leftover`` hears what could not be removed also where the probe itself fails or is interrupted.
    ``pause`` lets more than a second pass at Mailchimp.

    Raises ``BadRequestError`` (``domain_invalid``), ``ConflictError`` (``audience_not_made``,
    ``audience_sends_mail``, ``not_connected``), ``NotFoundError`` (``audience_not_found``), and
    ``UpstreamRefusedError`` or ``MailchimpError`` where Mailchimp cannot be asked.
    """
    domain = domain.strip().lower().removeprefix("@")
    if not _DOMAIN.fullmatch(domain):
        message = "Name a domain of yours, such as example.org, whose addresses nobody uses."
        raise BadRequestError(message, code="domain_invalid")
    async with resources.db.transaction(actor.org_id) as session:
        company = (await connection.require_live(session)).account_name
    token = secrets.token_hex(4)
    leftovers: list[str] = []
    async with connection.calling(resources, actor.org_id) as link:
        if audience_id is None:
            list_id = await scratch.make(link.client, domain=domain, token=token, company=company)
        else:
            list_id = audience_id
            await scratch.check(link.client, list_id)
        bench = Bench(link.client, list_id, domain, token, pause or _pause)
        try:
            findings = await _ask_all(bench, on_step)
        finally:
            leftovers += await _clean_up(link.client, bench, scratch_made=audience_id is None)
            for text in leftovers:
                if on_leftover is not None:
                    on_leftover(text)
    answers = {f.question.name: f.answer for f in findings if f.answer is not None}
    async with resources.db.transaction(actor.org_id) as session:
        await capabilities.record(session, actor, link.account_id, answers, at=resources.clock())
    return Report(link.account_id, list_id, tuple(findings), tuple(leftovers))


async def _ask_all(bench: Bench, on_step: Step | None) -> list[Finding]:
    findings: list[Finding] = []
    ends = asyncio.get_running_loop().time() + LIMIT_SECONDS
    for question in QUESTIONS:
        if on_step is not None:
            on_step(question)
        findings.append(await _ask(bench, question, ends))
    return findings


async def _ask(bench: Bench, question: Question, ends: float) -> Finding:
    """One experiment. A key that is refused ends the probe; whatever else fails leaves this question open."""
    try:
        async with asyncio.timeout_at(ends):
            return Finding(question, await EXPERIMENTS[question.name](bench))
    except UndecidedError as undecided:
        return Finding(question, None, str(undecided))
    except TimeoutError:
        return Finding(question, None, "there was no time left to ask")
    except CredentialError as error:
        if error.status != 403:
            raise
        return Finding(question, None, f"the key may not do this ({error})")
    except MailchimpError as error:
        return Finding(
            question, None, f"Mailchimp did not answer ({type(error).__name__}: {error})"
        )


async def _clean_up(client: MailchimpClient, bench: Bench, *, scratch_made: bool) -> list[str]:
    """Removes everything, also when the probe was interrupted; answers what is left."""
    work = scratch.remove(client, bench.list_id) if scratch_made else scratch.clean(bench)
    try:
        async with asyncio.timeout(CLEANING_SECONDS):
            return await work
    except TimeoutError:
        if scratch_made:
            return [f"The audience {bench.list_id} is left over. Delete it in Mailchimp."]
        return [f"Members that begin with {bench.prefix} may be left in {bench.list_id}."]


async def _pause() -> None:
    await asyncio.sleep(PAUSE_SECONDS)
