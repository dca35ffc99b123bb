"""What an import needs of the consent records, which stand a floor above.

``preferences`` implements it; routers and the command line hand it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession


def is_network_address(value: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address as Mailchimp takes it (no zone)."""
    if "%" in value:
        return False
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ConsentCounts:
    """How many contacts an import opted in and out and set back to unset, and how many opt-ins stood
    behind a withdrawal that is not older. ``of_refused``: of those opted out, how many by rows that were
    refused otherwise."""

    opted_in: int = 0
    opted_out: int = 0
    unset: int = 0
    not_newer: int = 0
    of_refused: int = 0


class ConsentSink(Protocol):
    """Takes the statements of consent of a staged import (see :mod:`staging` for the table).

    ``channel``: the way that the import came, by which a statement that is merely repeated is known.
    """

    async def guard_withdrawals(self, session: AsyncSession, staged: str, *, channel: str) -> None:
        """Raises ConflictError (``confirm_withdrawals``) if suspiciously many would be withdrawn.

        To be called before the merge, so that only contacts known before count.
        """
        ...

    async def apply_staged(
        self, session: AsyncSession, staged: str, *, channel: str, default_source: str,
        proof: dict[str, str],
    ) -> ConsentCounts:  # fmt: skip
        """Records what the staged rows state, after the merge, and orders the withdrawals.

        Sets ``note`` of rows whose opt-in was not taken.
        """
        ...
