"""What is known of how the connected account behaves, and what is assumed of the rest.

Answers belong to (organisation, Mailchimp account). :func:`record` alone writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import org_of
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection.models import AccountAnswer
from mcsync.features.connection.questions import BY_NAME

# Audiences are a floor above: only this column is set here, by its name. What a push has learned from an
# answer counts until the account is asked.
_REQUIRES_STATUS = text("""
update audiences set requires_status = :required
where account_id = :account and requires_status <> :required
""")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """An account's answers; a question that it has not answered has the assumed one."""

    answers: Mapping[str, str] = field(default_factory=dict)
    seen_at: datetime | None = None
    """When the account was last asked; None: never."""

    def answer(self, question: str) -> str:
        """The answer that counts. Raises ``KeyError`` for a question that is none."""
        return self.answers.get(question, BY_NAME[question].assumed)

    @property
    def differing(self) -> dict[str, str]:
        """The answers that are not the assumed ones."""
        return {
            name: answer
            for name, answer in self.answers.items()
            if name in BY_NAME and answer != BY_NAME[name].assumed
        }

    @property
    def requires_status(self) -> bool:
        """Rows of the bulk call must carry ``status``."""
        return self.answer("rows_without_status") != "accepted"

    @property
    def tags_in_rows(self) -> bool:
        """Rows of the bulk call may carry tags: they do no harm to those that others put on."""
        return self.answer("bulk_tags") != "replaced"

    @property
    def bulk_brings_back(self) -> bool:
        """The bulk call resubscribes; else single calls do."""
        return self.answer("bulk_resubscribe") == "works"

    @property
    def plain_listing_has_archived(self) -> bool:
        """One list holds all members, the archived ones too."""
        return self.answer("plain_listing") == "with_archived"

    @property
    def tags_move_last_changed(self) -> bool:
        """Who lost a tag is among the members that changed."""
        return self.answer("tag_change") == "moves"


async def known(session: AsyncSession, account_id: str) -> Capabilities:
    """What the account has answered so far."""
    rows = (
        await session.execute(
            select(AccountAnswer.question, AccountAnswer.answer, AccountAnswer.seen_at).where(
                AccountAnswer.org_id == org_of(session), AccountAnswer.account_id == account_id
            )
        )
    ).all()
    return Capabilities(
        {row.question: row.answer for row in rows},
        max((row.seen_at for row in rows), default=None),
    )


async def record(
    session: AsyncSession,
    actor: Actor,
    account_id: str,
    answers: Mapping[str, str],
    *,
    at: datetime,
) -> Capabilities:
    """Keeps what an account answered, audited; questions without an answer keep their last one."""
    before = await known(session, account_id)
    if answers:
        statement = insert(AccountAnswer).values(
            [
                {
                    "org_id": actor.org_id, "account_id": account_id, "question": question,
                    "answer": answer, "seen_at": at,
                }
                for question, answer in answers.items()
            ]
        )  # fmt: skip
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["org_id", "account_id", "question"],
                set_={"answer": statement.excluded.answer, "seen_at": statement.excluded.seen_at},
            )
        )
    now = await known(session, account_id)
    if "rows_without_status" in answers:
        await session.execute(
            _REQUIRES_STATUS, {"required": now.requires_status, "account": account_id}
        )
    changed = {
        question: [before.answers.get(question), answer]
        for question, answer in answers.items()
        if before.answers.get(question) != answer
    }
    audit.record(
        session,
        actor,
        AuditAction.CONNECTION_PROBE,
        entity="account",
        entity_id=account_id,
        diff={"asked": len(answers), "changed": changed},
    )
    return now
