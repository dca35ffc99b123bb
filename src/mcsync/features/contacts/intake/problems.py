"""What can be wrong with a row: stable codes, and sentences that say what to do.

A message never repeats the value: reports are read by people who may not see the data.
"""

from __future__ import annotations

from typing import Final

_MESSAGES: Final = {
    "missing_entity_type": "Give the entity type: employee or vendor.",
    "unknown_entity_type": "The entity type must be employee or vendor.",
    "missing_entity_id": "Give the id that your own system uses for this person.",
    "duplicate_entity_id": (
        "The same entity type and id came in an earlier row, which was taken; keep one of them."
    ),
    "missing_email": (
        "A contact that is not known yet needs an e-mail address, or an empty one that says it has none."
    ),
    "invalid_email": "This is not an e-mail address that can be delivered to; correct it.",
    "too_long": "The value is longer than this field takes; shorten it.",
    "nul_character": "The row contains a NUL character; export the file again as plain text.",
    "invalid_utf8": "The row is not valid UTF-8; save the file with UTF-8 encoding.",
    "wrong_column_count": (
        "The row has more or fewer columns than the header; put values that contain the separator"
        " in double quotes."
    ),
    "unclosed_quote": "A double quote in this row is never closed; close it, or double it.",
    "invalid_json": "The line is not one JSON object; write one contact a line.",
    "invalid_type": "The value has the wrong type; give a string, or null to clear it.",
    "invalid_attribute": "Attributes are strings, numbers, true, false or null; nothing nested.",
    "too_many_attributes": "A contact takes at most 100 attributes; send fewer.",
    "invalid_consent": (
        "optStatus is opted_in, opted_out or unset, and consentGivenAt a date and time (ISO 8601)"
        " that is not in the future. The statement was not taken as an opt-in."
    ),
    "missing_opt_status": "Say opted_in, opted_out or unset.",
    "invalid_ip_address": "Give an IPv4 or IPv6 address, or leave it empty.",
    "contact_not_found": (
        "No contact has this entity type and id; send it with contacts.import first."
    ),
    "unknown_field": (
        "The row has a field of a name that is not known here; correct the name, or leave it out."
    ),
    "suppressed": (
        "This person was erased at their request and may not come back until an owner lifts that."
    ),
    "opt_in_not_newer": (
        "The row was taken, its opt-in was not: a withdrawal is recorded that is not older."
        " Send the time of a newer consent in consentGivenAt."
    ),
}


def message_of(code: str) -> str:
    """The sentence for a code."""
    return _MESSAGES[code]


CODES: Final = frozenset(_MESSAGES)
