"""Which of a contact's data feeds which merge field of an audience. Pure: no I/O.

A map says ``{TAG: source}``, or ``{TAG: {"from": source, "format": format}}`` where values are written in
a format of their own. It belongs to the audience, not to a segment: two segments on one audience must not
fight over FNAME. Until somebody sets one, a proposal made from the fields' tags and names is in force.
Tags are matched whatever their case; a field that is renamed at Mailchimp is followed by its ``merge_id``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from mcsync.features.audiences.field_values import format_problem

Entry: TypeAlias = str | Mapping[str, str]
"""What feeds one field: a source, or ``{"from": source, "format": format}``."""
MergeMap: TypeAlias = Mapping[str, Entry]

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


def source_of(entry: Entry) -> str:
    """The source that an entry of a map names."""
    return entry if isinstance(entry, str) else entry["from"]


def format_of(entry: Entry) -> str | None:
    """The format that an entry of a map names for its values."""
    return None if isinstance(entry, str) else entry.get("format")


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
    stored: MergeMap | None, fields: Sequence[Field], *, known: bool
) -> dict[str, Entry]:
    """The stored map, less tags that Mailchimp no longer has, or else the proposal.

    Tags come out as Mailchimp spells them. ``known``: ``fields`` were read from Mailchimp at least once;
    until then no tag is doubted.
    """
    if stored is None:
        return dict(proposed_map(fields))
    if not known:
        return dict(sorted(stored.items()))
    spelled = {field.tag.upper(): field.tag for field in fields}
    found = {spelled[t.upper()]: e for t, e in stored.items() if t.upper() in spelled}
    return dict(sorted(found.items()))


def gone_tags(stored: MergeMap | None, fields: Sequence[Field], *, known: bool) -> list[str]:
    """Tags of the stored map whose field Mailchimp no longer has: nothing is sent for them."""
    tags = {field.tag.upper() for field in fields}
    return sorted(tag for tag in stored or () if known and tag.upper() not in tags)


def unfed_required(fields: Sequence[Field], in_force: MergeMap) -> list[str]:
    """Tags of required fields that the map feeds nothing: Mailchimp would refuse such members."""
    fed = {tag.upper() for tag in in_force}
    return [field.tag for field in fields if field.required and field.tag.upper() not in fed]


def checked_map(
    wanted: MergeMap, fields: Sequence[Field]
) -> tuple[dict[str, Entry], list[MapProblem]]:
    """The map with tags spelled as Mailchimp spells them, and what is wrong with it.

    A problem's code is ``unknown_tag``, ``duplicate_tag``, ``unknown_source``, ``incompatible_type`` or
    ``invalid_format``.
    """
    by_tag = {field.tag.upper(): field for field in fields}
    checked: dict[str, Entry] = {}
    problems: list[MapProblem] = []
    for tag, entry in wanted.items():
        field = by_tag.get(tag.upper())
        source, value_format = source_of(entry), format_of(entry)
        if field is None:
            problems.append(MapProblem(tag, "unknown_tag", _unknown_tag(tag)))
        elif field.tag in checked:
            problems.append(MapProblem(tag, "duplicate_tag", "This tag is in the map twice."))
        elif not is_source(source):
            problems.append(MapProblem(tag, "unknown_source", _SOURCE_HELP))
        elif message := _incompatible(source, field):
            problems.append(MapProblem(tag, "incompatible_type", message))
        elif value_format is None:
            checked[field.tag] = source
        elif message := format_problem(field.type, value_format):
            problems.append(MapProblem(tag, "invalid_format", message))
        else:
            checked[field.tag] = {"from": source, "format": value_format}
    return checked, problems


def renamed_tags(before: Sequence[Field], now: Sequence[Field]) -> dict[str, str]:
    """Old tag to new tag of each field that Mailchimp shows under another tag than before."""
    tags = {field.merge_id: field.tag for field in now if field.merge_id is not None}
    return {
        field.tag: tags[field.merge_id]
        for field in before
        if field.merge_id in tags and tags[field.merge_id] != field.tag
    }


def followed_map(
    stored: MergeMap | None, before: Sequence[Field], now: Sequence[Field]
) -> dict[str, Entry] | None:
    """The map to be stored now that Mailchimp's fields have changed.

    A renamed field keeps its entry, under its new tag; the entry of a deleted one stays, and is shown as
    gone. A proposal becomes a stored map where it would otherwise stop to feed a field without a word.
    """
    renamed = {old.upper(): new for old, new in renamed_tags(before, now).items()}
    taken = set(renamed.values())
    if stored is not None:
        kept = {t: e for t, e in stored.items() if t.upper() not in renamed and t not in taken}
        return kept | {renamed[t.upper()]: e for t, e in stored.items() if t.upper() in renamed}
    proposal = proposed_map(now)
    fed = set(proposal.values())
    unfed = {
        renamed.get(tag.upper(), tag): source
        for tag, source in proposed_map(before).items()
        if source not in fed
    }
    return {**proposal, **unfed} if unfed else None


def redefined_tags(before: Sequence[Field], now: Sequence[Field]) -> set[str]:
    """Tags, in upper case, of fields that are new, gone, renamed or take other values than before.

    A field's name is not looked at: it decides nothing about values.
    """
    known = {field.merge_id or field.tag: field for field in before}
    found = {field.merge_id or field.tag: field for field in now}
    tags: set[str] = set()
    for key in known.keys() | found.keys():
        old, new = known.get(key), found.get(key)
        if old is None or new is None or replace(old, name="") != replace(new, name=""):
            tags |= {field.tag.upper() for field in (old, new) if field is not None}
    return tags


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
