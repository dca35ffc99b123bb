"""Who withdraws in a row that cannot be read as it should be.

An opt-out counts wherever the person can be told, so whatever in such a row is clear is taken: entity type
and id where they are plausible, and every address that could be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.intake.words import clearly_withdraws, opt_status_of

_ADDRESS: Final = re.compile(r"[^\s<>,;:|\"'()\[\]{}=]+@[^\s<>,;:|\"'()\[\]{}=]+")
_MOST_CELLS: Final = 5_000
_MOST_ADDRESSES: Final = 10
_MAX_ID: Final = 255
_MAX_SEARCHED: Final = 10_000

_LOOSE: Final = re.compile(
    r"""["']?\b(entity_?type|entity_?id|e-?mail|opt_?status)\b["']?\s*[:=]\s*"""
    r"""("[^"]*"?|'[^']*'?|[^,}\s\]]+)""",
    re.IGNORECASE,
)
_NAMES: Final = {"entitytype": "entityType", "entityid": "entityId", "email": "email"}


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A statement of withdrawal in a refused row. ``entity``: type and id; ``emails``: usable addresses."""

    entity: tuple[str, str] | None = None
    emails: Sequence[str] = ()
    source: str | None = None
    given: str | None = None


def addresses_in(texts: Iterable[str], addresses: Addresses) -> list[str]:
    """The usable addresses in texts that are no single address, each once."""
    found: dict[str, None] = {}
    for text in texts:
        for match in _ADDRESS.findall(text[:_MAX_SEARCHED]):
            email = addresses.usable(match.strip("."))
            if email is not None and len(found) < _MOST_ADDRESSES:
                found[email] = None
    return list(found)


def plausible_entity(kind: str, entity_id: str, types: Mapping[str, str]) -> tuple[str, str] | None:
    """Type and id, where both can be what they should be."""
    entity_type = types.get(kind.strip().lower())
    entity_id = entity_id.strip()
    fit = 0 < len(entity_id) <= _MAX_ID and "@" not in entity_id and entity_id.isprintable()
    return (entity_type, entity_id) if entity_type is not None and fit else None


def by_cells(
    cells: Sequence[str], places: Mapping[str, int], types: Mapping[str, str], addresses: Addresses
) -> Withdrawal | None:
    """The withdrawal in a row whose cells may have shifted; ``None`` if it states none.

    A word counts in any cell if it means nothing else, and in its own place if it means a withdrawal there.
    """
    some = [cell.strip() for cell in islice(cells, _MOST_CELLS)]
    at = places.get("optStatus")
    if at is None:
        return None
    in_place = at < len(some) and opt_status_of(some[at]) == "opted_out"
    if not in_place and not any(map(clearly_withdraws, some)):
        return None
    entity = None
    at_type, at_id = places.get("entityType", len(some)), places.get("entityId", len(some))
    if max(at_type, at_id) < len(some):
        entity = plausible_entity(some[at_type], some[at_id], types)
    if entity is None:  # they may have shifted together
        entity = next(filter(None, _neighbours(some, at_id - at_type, types)), None)
    return Withdrawal(entity, addresses_in((cell for cell in some if "@" in cell), addresses))


def _neighbours(
    cells: Sequence[str], distance: int, types: Mapping[str, str]
) -> Iterator[tuple[str, str] | None]:
    for place, cell in enumerate(cells):
        if cell.lower() in types and 0 <= place + distance < len(cells):
            yield plausible_entity(cell, cells[place + distance], types)


def by_text(text: str, types: Mapping[str, str], addresses: Addresses) -> Withdrawal | None:
    """The withdrawal in a line that should be a JSON object and is none; ``None`` if it states none."""
    text = text.replace('\\"', '"')
    found: dict[str, str] = {}
    status = None
    for name, quoted in _LOOSE.findall(text):
        plain = re.sub(r"[_-]", "", name.lower())
        value = quoted.strip("\"'")
        if plain == "optstatus":
            status = opt_status_of(value) if status != "opted_out" else status
        else:
            found.setdefault(_NAMES[plain], value)
    if status != "opted_out":
        return None
    entity = plausible_entity(found.get("entityType", ""), found.get("entityId", ""), types)
    emails = addresses_in([found["email"]] if "email" in found else [], addresses)
    return Withdrawal(entity, emails)
