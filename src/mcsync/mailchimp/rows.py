"""Members as they are sent: rows cut to size before, accounted for after (MC 3.3, 19.4)."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final, TypeVar

from mcsync.mailchimp.endpoints.base import timestamp
from mcsync.mailchimp.errors import RefusalCode, classify_refusal, member_status
from mcsync.mailchimp.identity import mailbox_of, normalise_address
from mcsync.mailchimp.types.batch import BatchMember, BatchResult, BatchRowError

BATCH_SIZE: Final = 500
"""The most members one bulk call takes (MC 3.3)."""

_Row = TypeVar("_Row")


def chunked(rows: Iterable[_Row], size: int = BATCH_SIZE) -> Iterator[list[_Row]]:
    """Cut rows into lists of `size`; raises `ValueError` for a size below 1."""
    if size < 1:
        message = "size must be at least 1"
        raise ValueError(message)
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def consent_proof(
    *, timestamp_opt: datetime | None = None, ip_opt: str | None = None
) -> dict[str, str]:
    """Return the properties that record when and from where somebody opted in (MC 16).

    For rows of the bulk call and for single writes alike; what is None is left out. Raises
    `ValueError` for a time without an offset or a text that is no IPv4 or IPv6 address: one
    such row would make Mailchimp refuse the whole call.
    """
    proof: dict[str, str] = {}
    if timestamp_opt is not None:
        proof["timestamp_opt"] = timestamp(timestamp_opt)
    if ip_opt is not None:
        try:
            proof["ip_opt"] = str(ipaddress.ip_address(ip_opt.strip()))
        except ValueError:
            # Not chained: the cause would quote the text.
            message = "not an IP address"
            raise ValueError(message) from None
    return proof


def permission_changes(enabled: Mapping[str, bool]) -> list[dict[str, object]]:
    """Return the value of `marketing_permissions` in a single write, by permission id (MC 16).

    Permissions not named keep their value. The bulk call does not take them.
    """
    return [
        {"marketing_permission_id": ident, "enabled": value} for ident, value in enabled.items()
    ]


class RowOutcome(StrEnum):
    """What became of a row of a bulk call."""

    NEW = "new"
    UPDATED = "updated"
    ERROR = "error"
    MISSING = "missing"


@dataclass(slots=True)
class AccountedRow:
    """The fate of one sent address: `member` for new and updated, `error` for error.

    A member may still not have the status that was sent: Mailchimp leaves some contacts
    unsubscribed without a word (MC 3.3). Compare `member.status`.
    """

    address: str
    outcome: RowOutcome
    member: BatchMember | None = None
    error: BatchRowError | None = None

    @property
    def refusal(self) -> RefusalCode | None:
        """Why Mailchimp refused the row, None where it did not."""
        if self.error is None:
            return None
        return classify_refusal(
            self.error.error,
            error_code=self.error.error_code,
            field=self.error.field,
            field_message=self.error.field_message,
        )

    @property
    def member_status(self) -> str:
        """The status that the refusal says the member has; empty where it says none."""
        if self.error is None:
            return ""
        return member_status(f"{self.error.error}\n{self.error.field_message}")


@dataclass(frozen=True, slots=True)
class RowAccounting:
    """Every sent address, in the order sent, and addresses answered that were not sent."""

    rows: tuple[AccountedRow, ...]
    unexpected: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Addresses that the answer does not mention; their members must be read again."""
        return tuple(row.address for row in self.rows if row.outcome is RowOutcome.MISSING)


def account_rows(sent_addresses: Iterable[str], result: BatchResult) -> RowAccounting:
    """Join what was sent with what was answered, by normalised address.

    The order of an answer is unknown (MC 3.3). An address that is both a member and an
    error in one answer counts as error: something about it was not taken. An answer in the
    other spelling of a domain is the row's too, unless that spelling was sent by itself.
    """
    sent = list(sent_addresses)
    fates: dict[str, tuple[RowOutcome, BatchMember | None, BatchRowError | None]] = {}
    for outcome, members in (
        (RowOutcome.UPDATED, result.updated_members),
        (RowOutcome.NEW, result.new_members),
    ):
        for member in members:
            fates[normalise_address(member.email_address)] = (outcome, member, None)
    for error in result.errors:
        fates[normalise_address(_unquoted(error.email_address))] = (RowOutcome.ERROR, None, error)
    keys = [normalise_address(address) for address in sent]
    answered = set(fates) - set(keys)
    respelled = {mailbox_of(address): address for address in sorted(answered)}
    missing = (RowOutcome.MISSING, None, None)
    rows = []
    for address, key in zip(sent, keys, strict=True):
        found = key
        if key not in fates and respelled:
            found = respelled.pop(mailbox_of(key), key)
            answered.discard(found)
        rows.append(AccountedRow(address, *fates.get(found, missing)))
    return RowAccounting(tuple(rows), tuple(sorted(answered)))


def _unquoted(address: str) -> str:
    """An error's address may come in double quotes (MC 21)."""
    text = address.strip()
    quoted = len(text) > 1 and text.startswith('"') and text.endswith('"')
    return text[1:-1] if quoted else text
