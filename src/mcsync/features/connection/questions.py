"""The open questions about Mailchimp: what mcsync assumes of an account, and what else it may be.

Nothing here was ever told by Mailchimp itself. ``mcsync probe`` asks an account; ``docs/probe.md`` lists the
same questions, and the sandbox has a switch of the same name for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``answers``: every answer that mcsync knows, as a sentence; the first one is assumed.

    ``follows``: what mcsync does where the answer is another than the assumed one.
    """

    name: str
    asks: str
    answers: Mapping[str, str]
    follows: str

    @property
    def assumed(self) -> str:
        """The answer that counts until the account has given one."""
        return next(iter(self.answers))

    def says(self, answer: str) -> str:
        """The sentence of an answer; the answer itself where it is none of the known ones."""
        return self.answers.get(answer, answer)


_NOTHING = "Nothing: mcsync is right either way."

QUESTIONS: Final = (
    Question(
        "rows_without_status",
        "Does the bulk call take rows with `status_if_new` and without `status`?",
        {
            "accepted": "It takes them.",
            "whole_call_refused": "It refuses the whole call.",
            "rows_refused": "It refuses each such row, inside a 200.",
        },
        "Adds carry `status` and never touch existing members; updates are single calls without a status.",
    ),
    Question(
        "bulk_tags",
        "What do `tags` of a bulk row do to an existing member, without `sync_tags`?",
        {
            "added": "They are added.",
            "replaced": "They replace all tags of the member.",
            "ignored": "They are ignored.",
        },
        "Where they replace, rows carry no tags, and calls of their own put the segment's tag on."
        " Where they are ignored, such calls follow as soon as an answer lacks the tag.",
    ),
    Question(
        "sync_tags",
        "What do `tags` of a bulk row with `sync_tags` do to an existing member?",
        {"replace_all": "They replace all its tags.", "add_only": "They are only added."},
        "Nothing: mcsync never sends `sync_tags`.",
    ),
    Question(
        "unchanged_row",
        "Is a bulk row that changes nothing listed in `updated_members`?",
        {"listed": "It is listed.", "not_listed": "It is in no list of the answer."},
        "Nothing: a member that the answer does not mention is read again.",
    ),
    Question(
        "bulk_resubscribe",
        "Does a bulk row bring back a member whom the API unsubscribed?",
        {"works": "It does.", "ignored": "The member stays unsubscribed, without an error."},
        "Members are brought back by single calls.",
    ),
    Question(
        "bulk_return",
        "Which `timestamp_opt` has an archived member whom a bulk row brings back?",
        {"timestamp_now": "The time of the call.", "timestamp_kept": "The one it had before."},
        _NOTHING,
    ),
    Question(
        "plain_listing",
        "Does the list of members without `status` hold archived members?",
        {"without_archived": "It does not.", "with_archived": "It does."},
        "A full pull does not read the archived members a second time.",
    ),
    Question(
        "empty_fields",
        "How does a listing show the merge fields of a member that has no value?",
        {"objects": "As an object.", "null": "As null, as an empty list, or not at all."},
        _NOTHING,
    ),
    Question(
        "tag_change",
        "Does a change of tags alone move `last_changed`?",
        {"moves": "It does.", "does_not_move": "It does not."},
        "A tag that somebody took off is noticed by the next full pull instead of the next run.",
    ),
    Question(
        "held_tag",
        "Does activating a tag that the member carries already move `last_changed`?",
        {"moves": "It does.", "does_not_move": "It does not."},
        _NOTHING,
    ),
    Question(
        "equal_values",
        "Does a PATCH that changes no value move `last_changed`?",
        {"moves": "It does.", "does_not_move": "It does not."},
        _NOTHING,
    ),
    Question(
        "both_spellings",
        "Are `x@b\u00fccher.example` and `x@xn--bcher-kva.example` one member?",
        {"two_members": "They are two members.", "one_member": "They are one member."},
        _NOTHING,
    ),
    Question(
        "domain_case",
        "How are letters beyond ASCII in a domain lower-cased for the member's id?",
        {"unicode_lowered": "Like all letters.", "ascii_lowered": "Not at all: only A-Z are."},
        "Nothing: mcsync sends addresses lower-cased, and addresses members by the id that Mailchimp gave.",
    ),
    Question(
        "email_change",
        "May a member that is not subscribed get another address?",
        {"subscribed_only": "It may not.", "any_status": "It may."},
        "Nothing: mcsync renames subscribed members only.",
    ),
    Question(
        "admin_reason",
        "Which reason has a member whom the API unsubscribed?",
        {
            "by_admin": "N/A (Unsubscribed by admin)",
            "by_an_admin": "N/A (Unsubscribed by an admin)",
        },
        "Nothing: mcsync knows both wordings. With any other one, an unsubscribe that no call of mcsync"
        " explains counts as the person's own.",
    ),
    Question(
        "refusal_words",
        "How is the return of a permanently deleted address refused?",
        {
            "by_title": "With a title of its own.",
            "in_errors": "As an invalid resource, with words in `errors`.",
        },
        _NOTHING,
    ),
    Question(
        "own_reason",
        "Which reason has a member who unsubscribed and gave none?",
        {"given": "A word such as Unspecified.", "empty": "An empty one."},
        "Nothing: an empty reason counts as the person's own act.",
    ),
)
"""Every question that ``mcsync probe`` asks."""

BY_NAME: Final = {question.name: question for question in QUESTIONS}
