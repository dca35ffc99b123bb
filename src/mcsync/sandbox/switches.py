"""The open questions about Mailchimp as switches: every answer that an account may give, and its settings (MC 21).

Tests run over all of them. The names of questions and positions are those of ``docs/probe.md`` and of
``mcsync probe``. The first position is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Switch:
    """One question with its positions: the name of each, and the settings that make the sandbox answer so.

    `needs_person`: only an act of a subscriber, or a mail to one, shows the answer, so that no probe may ask.
    """

    question: str
    positions: Mapping[str, Settings]
    needs_person: bool = False

    @property
    def default(self) -> str:
        return next(iter(self.positions))


def _flag(
    question: str, setting: str, off: str, on: str, *, default: bool = False, person: bool = False
) -> Switch:
    """A question with two answers, which is one setting."""
    answers = {False: off, True: on}
    order = (default, not default)
    positions = {answers[value]: {setting: value} for value in order}
    return Switch(question, positions, needs_person=person)


SWITCHES: Final = (
    Switch(
        "rows_without_status",
        {
            "accepted": {"require_status": False, "schema_errors_per_row": False},
            "whole_call_refused": {"require_status": True, "schema_errors_per_row": False},
            "rows_refused": {"require_status": True, "schema_errors_per_row": True},
        },
    ),
    Switch("bulk_tags", {each: {"bulk_tags": each} for each in ("added", "replaced", "ignored")}),
    _flag("sync_tags", "sync_tags_replaces", "add_only", "replace_all", default=True),
    _flag("unchanged_row", "unchanged_in_updated_members", "not_listed", "listed", default=True),
    _flag("bulk_resubscribe", "bulk_resubscribe_ignored", "works", "ignored"),
    _flag("bulk_return", "bulk_keeps_timestamp_opt", "timestamp_now", "timestamp_kept"),
    _flag("plain_listing", "archived_in_default_listing", "without_archived", "with_archived"),
    _flag("empty_fields", "null_merge_fields", "objects", "null"),
    _flag("tag_change", "tags_move_last_changed", "does_not_move", "moves", default=True),
    _flag("held_tag", "held_tag_moves_last_changed", "does_not_move", "moves", default=True),
    _flag("equal_values", "equal_values_move_last_changed", "does_not_move", "moves", default=True),
    _flag("both_spellings", "both_spellings_one_member", "two_members", "one_member"),
    _flag("domain_case", "ascii_lowering", "unicode_lowered", "ascii_lowered"),
    _flag(
        "email_change", "email_change_needs_subscribed", "any_status", "subscribed_only",
        default=True,
    ),
    _flag("admin_reason", "says_an_admin", "by_admin", "by_an_admin"),
    _flag("refusal_words", "other_refusal_words", "by_title", "in_errors"),
    _flag("own_reason", "own_reason_empty", "given", "empty", person=True),
    _flag("person_in_bulk", "silent_keep_unsubscribed", "refused", "ignored", person=True),
    _flag("left_then_archived", "archive_keeps_compliance", "comes_back", "refused", person=True),
    _flag(
        "pending_again", "subscribed_turns_pending", "stays_subscribed", "turns_pending",
        default=True, person=True,
    ),
)  # fmt: skip
"""Every open question that has an answer of its own in the sandbox."""
