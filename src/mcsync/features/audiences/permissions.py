"""Which marketing permissions of an audience our consents feed. Pure: no I/O.

Mailchimp's GDPR fields are ticks of a member, one for each text that the audience asks. A map says
``{permissionId: "consent"}``: ticked for members whose consent is an opt-in. What is not in the map is
never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

CONSENT: Final = "consent"
"""The one thing that feeds a permission: a recorded opt-in."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One text that the audience asks, as the mirror keeps it; ``id`` is Mailchimp's."""

    id: str
    text: str

    @classmethod
    def stored(cls, rows: Iterable[Mapping[str, Any]]) -> tuple[Permission, ...]:
        """The permissions from the mirror's JSON (``audiences.marketing_permissions``)."""
        return tuple(cls(**row) for row in rows)

    def as_json(self) -> dict[str, str]:
        """The form that :meth:`stored` reads."""
        return asdict(self)


def fed(known: Iterable[Permission], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """The ids that are ticked, sorted: those of the map, less what the audience asks no more."""
    return tuple(sorted(each.id for each in known if wanted.get(each.id) == CONSENT))


def fingerprint(ids: Iterable[str]) -> UUID:
    """What a member is marked with once these were ticked, so that each is sent once."""
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).digest()
    return UUID(bytes=digest[:16])
