"""Which of a contact's data feeds which merge field of an audience. Pure: no I/O.

A map says ``{TAG: source}``. It belongs to the audience, not to a segment: two segments on one
audience must not fight over FNAME. Until somebody sets one, a proposal made from the fields' tags and
names is in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SOURCES: Final = (
    "firstName",
    "lastName",
    "department",
    "location",
    "employmentType",
    "employmentStatus",
    "entityType",
    "entityId",
)
"""What every contact has; besides these ``attributes.<name>`` names one of its attributes."""

ATTRIBUTE_PREFIX: Final = "attributes."
MAX_ATTRIBUTE_NAME: Final = 128

ENTITY_TYPES: Final = ("employee", "vendor")

_CHOICE_TYPES: Final = frozenset({"radio", "dropdown"})
# A name, a place or a state of employment is words; these types take something else (MC 5).
_NOT_WORDS: Final = frozenset(
    {"number", "address", "phone", "date", "url", "imageurl", "birthday", "zip"}
)

# Compared by letters and digits only, so "First Name", "FIRST_NAME" and "first-name" are one word.
# Deliberately short: a wrong guess writes a wrong value to every member, a missing one is reported.
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "firstName": frozenset({"fname", "firstname", "givenname", "forename"}),
    "lastName": frozenset({"lname", "lastname", "surname", "familyname", "familynam", "sname"}),
    "department": frozenset({"dept", "department", "departmnt", "deptname", "departmentname"}),
    "location": frozenset(
        {"location", "office", "officelocation", "officeloc", "worklocation", "workloc"}
    ),
    "employmentType": frozenset(
        {"employmenttype", "employmnttype", "employtype", "emptype", "empltype", "jobtype"}
    ),
    "employmentStatus": frozenset(
        {"employmentstatus", "employeestatus", "employstat", "empstatus", "emplstatus"}
    ),
    "entityType": frozenset({"entitytype"}),
    "entityId": frozenset({"entityid"}),
}
_SOURCE_OF: Final = {word: source for source, words in _WORDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Field:
    """A merge field as the mirror keeps it; ``tag`` is spelled as Mailchimp spells it.

    ``phone_format``: ``US`` or ``International``, of a phone field. ``default``: what Mailchimp shows for a
    member without a value.
    """

    tag: str
    name: str
    type: str
    required: bool = False
    choices: tuple[str, ...] = ()
    merge_id: int | None = None
    phone_format: str = ""
    default: str = ""

    @classmethod
    def stored(cls, rows: Iterable[Mapping[str, Any]]) -> tuple[Field, ...]:
        """The fields from the mirror's JSON (``audiences.merge_fields``), whichever version wrote it."""
        known = cls.__dataclass_fields__
        return tuple(
            cls(
                **{name: value for name, value in row.items() if name in known}
                | {"choices": tuple(row.get("choices", ()))}
            )
            for row in rows
        )

    def as_json(self) -> dict[str, Any]:
        """The form that :meth:`stored` reads."""
        return {
            "tag": self.tag,
            "name": self.name,
            "type": self.type,
            "required": self.required,
            "choices": list(self.choices),
            "merge_id": self.merge_id,
            "phone_format": self.phone_format,
            "default": self.default,
        }


@dataclass(frozen=True, slots=True)
class MapProblem:
    """Why one entry of a map cannot stand; ``tag`` is as it was asked for."""

    tag: str
    code: str
    message: str


def is_source(source: str) -> bool:
    """Whether the text names something a contact has."""
    if source in SOURCES:
        return True
    name = source.removeprefix(ATTRIBUTE_PREFIX)
    return name != source and 0 < len(name) <= MAX_ATTRIBUTE_NAME and name == name.strip()


def proposed_map(fields: Sequence[Field]) -> dict[str, str]:
    """The map that tags and names suggest: ``{TAG: source}``, in the fields' order.

    A tag is believed before a name, each source feeds at most one field, and only text fields are
    fed: a value that is none of a drop-down's choices gets the whole member refused.
    """
    taken: dict[str, str] = {}
    readings = [(field, field.tag) for field in fields] + [(field, field.name) for field in fields]
    for field, words in readings:
        source = _SOURCE_OF.get(_plain(words))
        if source and field.type == "text" and field.tag not in taken.values():
            taken.setdefault(source, field.tag)
    source_of = {tag: source for source, tag in taken.items()}
    return {field.tag: source_of[field.tag] for field in fields if field.tag in source_of}


def map_in_force(
    stored: Mapping[str, str] | None, fields: Sequence[Field], *, known: bool
) -> dict[str, str]:
    """The stored map, less tags that Mailchimp no longer has, or else the proposal.

    ``known``: ``fields`` were read from Mailchimp at least once; until then no tag is doubted.
    """
    if stored is None:
        return proposed_map(fields)
    tags = {field.tag for field in fields}
    return {tag: source for tag, source in sorted(stored.items()) if tag in tags or not known}


def unfed_required(fields: Sequence[Field], in_force: Mapping[str, str]) -> list[str]:
    """Tags of required fields that the map feeds nothing: Mailchimp would refuse such members."""
    return [field.tag for field in fields if field.required and field.tag not in in_force]


def checked_map(
    wanted: Mapping[str, str], fields: Sequence[Field]
) -> tuple[dict[str, str], list[MapProblem]]:
    """The map with tags spelled as Mailchimp spells them, and what is wrong with it.

    A problem's code is ``unknown_tag``, ``duplicate_tag``, ``unknown_source`` or
    ``incompatible_type``.
    """
    by_tag = {field.tag.upper(): field for field in fields}
    checked: dict[str, str] = {}
    problems: list[MapProblem] = []
    for tag, source in wanted.items():
        field = by_tag.get(tag.upper())
        if field is None:
            problems.append(MapProblem(tag, "unknown_tag", _unknown_tag(tag)))
        elif field.tag in checked:
            problems.append(MapProblem(tag, "duplicate_tag", "This tag is in the map twice."))
        elif not is_source(source):
            problems.append(MapProblem(tag, "unknown_source", _SOURCE_HELP))
        elif message := _incompatible(source, field):
            problems.append(MapProblem(tag, "incompatible_type", message))
        else:
            checked[field.tag] = source
    return checked, problems


_SOURCE_HELP: Final = f"The source must be one of {', '.join(SOURCES)}, or attributes. followed by an attribute's name."


def _plain(words: str) -> str:
    return re.sub(r"[^a-z0-9]", "", words.lower())


def _unknown_tag(tag: str) -> str:
    if tag.upper() == "EMAIL":
        return "EMAIL is always the contact's address; leave it out of the map."
    return "The audience has no such merge field; create it with audiences.createMergeFields."


def _incompatible(source: str, field: Field) -> str | None:
    if field.type == "address":
        return "An address field takes several parts at once and cannot be fed from one value."
    if source.startswith(ATTRIBUTE_PREFIX):
        return None  # what an attribute holds is the organisation's business
    if field.type in _NOT_WORDS and not (source == "entityId" and field.type == "number"):
        return f"A field of type {field.type} cannot be fed from this source; use a text field."
    if field.type in _CHOICE_TYPES and source == "entityType":
        missing = [value for value in ENTITY_TYPES if value not in field.choices]
        if missing:
            return f"The field's choices lack {' and '.join(missing)}; add them at Mailchimp."
    return None
