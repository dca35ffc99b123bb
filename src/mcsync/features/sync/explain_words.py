"""What a decision means, in sentences for support people. Only words: the rules are in ``decide``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from mcsync.features.audiences.field_values import PROBLEMS
from mcsync.features.sync.decide import LACKING

OUTCOMES: Final[Mapping[tuple[str, str], tuple[int, str]]] = {
    ("unsubscribe", "withdrawn"): (
        2, "The next sync unsubscribes them: a withdrawal is recorded."),
    ("unsubscribe", "resubscribed_by_others"): (
        2, ("The next sync unsubscribes them again: somebody at Mailchimp, or another program, subscribed"
        " them after their withdrawal, and nothing shows that they did it themselves.")),
    ("rename", "address_changed"): (
        4, "The next sync gives the member at their former address the new one, with its history."),
    ("untag", "left_still_claimed"): (
        5, "They left this segment: the next sync takes its tag off. Another segment wants them."),
    ("archive", "left"): (6, "They left this segment: the next sync archives them."),
    ("unsubscribe", "left"): (6, "They left this segment: the next sync unsubscribes them."),
    ("untag", "left"): (
        8, "They left this segment: the next sync takes its tag off and leaves the member as it is."),
    ("add", "new"): (9, "The next sync adds them."),
    ("skip", "unreadable_"): (
        9, "Not added: Mailchimp requires {tag}, and does not take the value that the contact has."),
    ("skip", "unconfirmed"): (
        10, "They were asked to confirm and never did: not asked again until a newer opt-in."),
    ("update", "fields"): (11, "The next sync updates their fields."),
    ("update", "tag"): (11, "The next sync adds the segment's tag."),
    ("resubscribe", "consent_given_again"): (
        13, "The next sync subscribes them again: consent was given again after the withdrawal."),
    ("skip", "withdrawn"): (
        13, "Left alone: mcsync unsubscribed them after a withdrawal, and no later opt-in is recorded."),
    ("resubscribe", "back"): (
        14, "The next sync subscribes them again: they had left, and are back."),
    ("resubscribe", "ask_again"): (
        15, ("They unsubscribed themselves and opted in again here: the next sync lets Mailchimp ask them"
        " to confirm.")),
    ("skip", "asked_again"): (
        15, ("They unsubscribed themselves and were asked to confirm since: not asked again until a newer"
        " opt-in.")),
    ("skip", "unsubscribed_by_person"): (
        16, ("Left alone: they unsubscribed themselves. Only a later opt-in of their own, recorded with"
        " its time, lets Mailchimp ask them to confirm.")),
    ("skip", "unsubscribed_by_others"): (
        16, "Left alone: somebody at Mailchimp, or another program, unsubscribed them."),
    ("skip", "cleaned"): (
        16, "Left alone: mail to this address bounced. No opt-in changes that; use another address."),
    ("add", "back"): (17, "The next sync takes them out of the archive: mcsync had archived them."),
    ("skip", "archived"): (17, "Left alone: they were archived at Mailchimp, not by mcsync."),
    ("resubscribe", "transactional_opted_in"): (
        18, "They are known from purchases only: the next sync lets Mailchimp ask them to confirm."),
    ("skip", "transactional"): (
        18, "Left alone: they are known from purchases only, and no opt-in is recorded."),
    ("skip", "throttled"): (19, "Mailchimp refuses the address for a while: tried again by itself."),
    ("skip", "refused"): (19, "Left alone: Mailchimp refused the address; see the refusal."),
    ("skip", "undecided"): (20, "Left alone: the member is in a state that mcsync does not know."),
}  # fmt: skip
"""(action, reason) -> row of the table in the README's chapter on syncs, and what it means."""

PASSED_OVER: Final[Mapping[str, str]] = {
    "suppressed": "the address was erased at the person's request and is wanted nowhere until an owner"
    " lifts that",
    "opted_out": "they withdrew their consent",
    "address_opted_out": "a withdrawal is recorded for the address, or for somebody else who has it",
    "not_opted_in": "no opt-in is recorded, and the segment needs one",
    "address_not_opted_in": "somebody else with this address has not opted in, and the strictest counts",
    "shared_address": "another contact with the same address feeds the member",
}
"""Why a contact that matches is not wanted, or feeds nothing."""

ON_ITS_WAY: Final = {
    "withdrawal": "A withdrawal is on its way to Mailchimp.",
    "opt_in": "An opt-in is on its way to Mailchimp.",
    "erasure": "An erasure is on its way to Mailchimp.",
}
_UNSUBSCRIBED_BY: Final = {
    "us": {
        "withdrawal": "by mcsync, after a withdrawal",
        "left": "by mcsync, because they left a segment",
        "lapsed": "by mcsync's hand: they vanished before they confirmed",
    },
    "person": "by the person",
    "others": "by somebody at Mailchimp or another program",
}


def rule_of(found: Mapping[str, Any]) -> int | None:
    """The row of the table that decided; None where neither wanted nor a member that concerns us."""
    action, reason, status = found["action"], found["reason"], found["status"]
    if found["suppressed"]:
        return 1
    if action is None:
        return 3 if found["e"] == "out" else 12 if found["claimed"] else None
    if reason == "left" and status == "pending" and found["owned"]:
        return 7
    if action == "untag" and reason == "left" and status == "subscribed" and found["owned"]:
        return 6
    return _outcome(action, reason)[0]


def _outcome(action: str, reason: str) -> tuple[int, str]:
    if reason.startswith(LACKING):
        rule, told = OUTCOMES[action, LACKING]
        return rule, told.replace("{tag}", reason.removeprefix(LACKING))
    return OUTCOMES[action, "refused" if reason.startswith("refused_") else reason]


def segment_sentence(found: Mapping[str, Any]) -> str:
    """What one segment makes of the address."""
    action, why = found["action"], found["why"]
    if found["renamed_to"]:
        return "Their contact has another address by now: the next sync renames this member."
    if found["suppressed"]:
        return f"Not wanted: {PASSED_OVER['suppressed']}."
    told = _outcome(action, found["reason"])[1] if action else ""
    if action in ("add", "resubscribe") and found["wanted_status"] == "pending":
        told = told.removesuffix(".") + ", as pending until they confirm."
    if found["claimed"]:
        kept = [f"{tag} ({PROBLEMS[why]})" for tag, why in found["unreadable"].items()]
        left_out = f" Not sent, and kept at Mailchimp as it is: {_names(kept)}." if kept else ""
        return f"Wanted. {told or 'Everything is as it should be.'}{left_out}"
    if found["m0"] and why:
        return f"Its filters match, but it does not want them: {PASSED_OVER[why]}. {told}".strip()
    return told or "No contact with this address matches its filters."


def member_sentence(member: Mapping[str, Any] | None) -> str:
    """What the member is at Mailchimp, and since when."""
    if member is None or member["status"] == "absent":
        return "Not a member."
    status, since = member["status"], _day(member["last_changed"])
    if status == "unsubscribed":
        by = _UNSUBSCRIBED_BY.get(member["unsubscribed_by"] or "", "")
        if isinstance(by, dict):
            by = by.get(member["unsubscribe_cause"] or "", "by mcsync")
        return f"Unsubscribed {by}{since}.".replace("  ", " ")
    if status == "archived":
        return f"Archived {'by mcsync' if member['archived_by_us'] else 'at Mailchimp'}{since}."
    words = {
        "subscribed": "Subscribed",
        "pending": "Asked to confirm, and has not yet",
        "cleaned": "Cleaned: mail to the address bounced",
        "transactional": "Known from purchases only, gets no campaigns",
    }
    return f"{words.get(status, status)}{since}."


def audience_sentence(
    member: Mapping[str, Any] | None, segments: Sequence[tuple[str, Mapping[str, Any]]], *,
    refusal: str | None, open_orders: Sequence[str], gone: bool, connected: bool, mirrored: bool,
) -> str:  # fmt: skip
    """Why they are in or out of one audience. ``segments``: name and what was found."""
    said = [member_sentence(member)] if mirrored or member else ["Not read at Mailchimp yet."]
    if gone:
        return " ".join([*said, "The audience no longer exists at Mailchimp."])
    said += [ON_ITS_WAY.get(kind, ON_ITS_WAY["withdrawal"]) for kind in open_orders]
    if not segments:
        said.append("No segment uses this audience.")
    wanted = [name for name, found in segments if found["claimed"]]
    if wanted:
        said.append(f"Wanted by {_names(wanted)}.")
    elif segments:
        matched = [(name, found) for name, found in segments if found["m0"]]
        if matched:
            name, found = matched[0]
            said.append(f"{name} matches but does not want them: {PASSED_OVER[found['why']]}.")
        else:
            said.append("No segment's filters match them.")
    said += _next(segments)
    if refusal:
        said.append(refusal)
    if not connected:
        said.append("Nothing is sent: the account of this audience is not connected.")
    return " ".join(said)


def _next(segments: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The one thing that is going to happen, or why nothing does."""
    acts = [f for _, f in segments if f["action"] not in (None, "skip") and not f["renamed_to"]]
    skips = [f for _, f in segments if f["action"] == "skip"]
    for found in (*acts, *skips):
        told = _outcome(found["action"], found["reason"])[1]
        if found["action"] == "add" and found["wanted_status"] == "pending":
            told = told.removesuffix(".") + ", as pending until they confirm."
        return [told]
    if any(found["renamed_to"] for _, found in segments):
        return ["The next sync gives this member their contact's new address."]
    if any(found["claimed"] for _, found in segments):
        return ["The next sync changes nothing."]
    return []


def person_sentence(
    *, subscribed: Sequence[str], audiences: int, suppressed: datetime | None, status: str | None
) -> str:
    """The whole answer in a line."""
    if subscribed:
        told = f"In {len(subscribed)} of {audiences} audiences: {_names(subscribed)}."
    else:
        told = f"In none of {audiences} audiences."
    if suppressed:
        return f"Erased at their request{_day(suppressed)}. {told}"
    consent = {"opted_in": "Opted in.", "opted_out": "Opted out.", "unset": "No consent recorded."}
    return f"{consent[status]} {told}" if status else told


def _names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _day(moment: datetime | None) -> str:
    return f" since {moment:%Y-%m-%d %H:%M} UTC" if moment else ""
