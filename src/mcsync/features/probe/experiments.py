"""One small experiment for each open question: a few calls, and what they show.

Each uses addresses of its own and works whatever the other answers are: rows of the bulk call always carry
``status``, which every account takes. An experiment that cannot tell raises ``UndecidedError``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import md5
from typing import Any, Final

from mcsync.features.probe.bench import Bench, tag_names
from mcsync.mailchimp import RefusalCode, classify_refusal, path, subscriber_hash

Experiment = Callable[[Bench], Awaitable[str]]
"""Answers the name of the answer."""

_AUDIENCES_READ = 5
_UNTOLD = {RefusalCode.THROTTLED, RefusalCode.FAKE}
"""Refusals that say nothing about the question."""


# --- the bulk call --------------------------------------------------------------------------------


async def rows_without_status(bench: Bench) -> str:
    """Without ``status`` first; where that is refused, the same row with it must be taken."""
    email = bench.address("row")
    seen = await bench.bulk({"email_address": email, "status_if_new": "subscribed"})
    if seen.accepted and seen.body.get("new_members"):
        return "accepted"
    again = bench.accepted(await bench.bulk({"email_address": email, "status": "subscribed"}))
    if not again.get("new_members"):
        bench.undecided(f"a row with a status was not taken either: {_errors(again)}")
    return "rows_refused" if seen.accepted else "whole_call_refused"


async def bulk_tags(bench: Bench) -> str:
    """A member with one tag, and a row with another one."""
    held = await _tags_after(bench, "bulk-tags")
    answers = {
        frozenset({"old", "new"}): "added",
        frozenset({"new"}): "replaced",
        frozenset({"old"}): "ignored",
    }
    return answers.get(frozenset(held)) or bench.undecided("the member has none of both tags")


async def sync_tags(bench: Bench) -> str:
    """The same with ``sync_tags``."""
    held = await _tags_after(bench, "sync-tags", sync_tags=True)
    if "new" not in held:
        bench.undecided("the member did not get the tag of the row")
    return "add_only" if "old" in held else "replace_all"


async def _tags_after(bench: Bench, name: str, **options: bool) -> set[str]:
    """Which of the tags ``old`` and ``new`` a member has that carried ``old`` when a row with ``new`` came."""
    email = bench.address(name)
    tags = {word: bench.tag(f"{name}-{word}") for word in ("old", "new")}
    await bench.subscribed(email)
    await bench.put_tag(email, tags["old"])
    if tags["old"] not in tag_names(await bench.read(email)):
        bench.undecided("a tag put on by a call of its own does not show")
    row = {"email_address": email, "status": "subscribed", "tags": [tags["new"]]}
    _taken(bench, bench.accepted(await bench.bulk(row, **options)))
    held = tag_names(await bench.read(email))
    return {word for word, tag in tags.items() if tag in held}


async def unchanged_row(bench: Bench) -> str:
    """The same row twice."""
    email = bench.address("unchanged")
    row = {"email_address": email, "status": "subscribed", "merge_fields": {"FNAME": "Probe"}}
    _taken(bench, bench.accepted(await bench.bulk(row)))
    second = bench.accepted(await bench.bulk(row))
    _taken(bench, second)
    return "listed" if second.get("updated_members") else "not_listed"


async def bulk_resubscribe(bench: Bench) -> str:
    """A member that the API has unsubscribed, in a row with ``subscribed``."""
    email = bench.address("resubscribe")
    await bench.unsubscribed(email)
    row = {"email_address": email, "status": "subscribed"}
    _taken(bench, bench.accepted(await bench.bulk(row)))
    return "works" if (await bench.read(email)).get("status") == "subscribed" else "ignored"


async def bulk_return(bench: Bench) -> str:
    """An archived member, in a row with ``subscribed``."""
    email = bench.address("return")
    before = (await bench.subscribed(email)).get("timestamp_opt")
    await bench.archive(email)
    await bench.pause()
    row = {"email_address": email, "status": "subscribed"}
    _taken(bench, bench.accepted(await bench.bulk(row)))
    after = await bench.read(email)
    if after.get("status") != "subscribed":
        bench.undecided("the row did not bring the member back")
    return "timestamp_kept" if after.get("timestamp_opt") == before else "timestamp_now"


# --- listings and times ---------------------------------------------------------------------------


async def plain_listing(bench: Bench) -> str:
    """An archived member, looked for in both listings."""
    email = bench.address("archived")
    await bench.subscribed(email)
    await bench.archive(email)
    member = await bench.read(email)
    if await bench.listed(member, status="archived") is None:
        bench.undecided("the member is not among the archived ones")
    return "without_archived" if await bench.listed(member) is None else "with_archived"


async def empty_fields(bench: Bench) -> str:
    """A member without any value, in a listing."""
    member = await bench.subscribed(bench.address("empty"))
    shown = await bench.listed(member)
    if shown is None:
        return bench.undecided("the member is not listed")
    return "objects" if isinstance(shown.get("merge_fields"), dict) else "null"


async def tag_change(bench: Bench) -> str:
    """A tag put on, more than a second after the last change."""
    email = bench.address("tag")
    await bench.subscribed(email)
    return await _moved(bench, email, lambda: bench.put_tag(email, bench.tag("change")))


async def held_tag(bench: Bench) -> str:
    """A tag put on twice."""
    email = bench.address("held")
    await bench.subscribed(email)
    await bench.put_tag(email, bench.tag("held"))
    return await _moved(bench, email, lambda: bench.put_tag(email, bench.tag("held")))


async def equal_values(bench: Bench) -> str:
    """A PATCH with the value that is there."""
    email = bench.address("equal")
    fields = {"FNAME": "Probe"}
    await bench.subscribed(email, merge_fields=fields)

    async def again() -> None:
        bench.accepted(await bench.patch(email, merge_fields=fields))

    return await _moved(bench, email, again)


async def _moved(bench: Bench, email: str, act: Callable[[], Awaitable[None]]) -> str:
    before = (await bench.read(email)).get("last_changed")
    if not before:
        bench.undecided("the member shows no last_changed")
    await bench.pause()
    await act()
    after = (await bench.read(email)).get("last_changed")
    return "does_not_move" if after == before else "moves"


# --- who is who -----------------------------------------------------------------------------------


async def both_spellings(bench: Bench) -> str:
    """The same mailbox under both spellings of its domain."""
    readable = bench.address("spelling", under="b\u00fccher")
    encoded = bench.address("spelling", under="xn--bcher-kva")
    first = await bench.subscribed(readable)
    second = await bench.put(encoded, status="subscribed")
    if not second.accepted:
        if classify_refusal(second.words) is RefusalCode.EXISTS:
            return "one_member"
        bench.accepted(second)
    same = first.get("contact_id") and first.get("contact_id") == second.body.get("contact_id")
    return "one_member" if same else "two_members"


async def domain_case(bench: Bench) -> str:
    """An upper-case letter beyond ASCII in a domain; the member's id is a hash of what was lower-cased."""
    email = bench.address("case", under="B\u00dcCHER-CASE")
    local, _, domain = email.partition("@")
    member = bench.accepted(await bench.post(email, status="subscribed"))
    encoded = f"{local}@{domain.lower().encode('idna').decode()}"
    if member.get("id") in {subscriber_hash(email), subscriber_hash(encoded)}:
        return "unicode_lowered"
    if member.get("id") == _ascii_hash(email):
        return "ascii_lowered"
    return bench.undecided("the id is a hash of neither form")


def _ascii_hash(email: str) -> str:
    lowered = "".join(letter.lower() if letter.isascii() else letter for letter in email)
    return md5(lowered.encode(), usedforsecurity=False).hexdigest()


async def email_change(bench: Bench) -> str:
    """Another address for a member that is unsubscribed."""
    email, other = bench.address("before"), bench.address("after")
    await bench.unsubscribed(email)
    seen = await bench.patch(email, email_address=other)
    if seen.accepted:
        return "any_status"
    if classify_refusal(seen.words) in _UNTOLD:
        bench.accepted(seen)
    return "subscribed_only"


# --- words ----------------------------------------------------------------------------------------


async def admin_reason(bench: Bench) -> str:
    """The reason that an unsubscribe by the API leaves."""
    email = bench.address("reason")
    await bench.unsubscribed(email)
    reason = str((await bench.read(email)).get("unsubscribe_reason") or "")
    known = {
        "n/a (unsubscribed by admin)": "by_admin",
        "n/a (unsubscribed by an admin)": "by_an_admin",
    }
    return known.get(reason.strip().lower()) or bench.undecided(f'the reason reads "{reason}"')


async def refusal_words(bench: Bench) -> str:
    """An address that was permanently deleted, added again."""
    email = bench.address("deleted")
    await bench.subscribed(email)
    bench.accepted(await bench.delete_permanently(email))
    seen = await bench.post(email, status="subscribed")
    if seen.accepted:
        bench.undecided("the address was taken again")
    if "forgotten" in seen.title.lower():
        return "by_title"
    words = seen.words.lower()
    if "permanently deleted" in words or "previously removed" in words:
        return "in_errors"
    return bench.undecided(f"the words are unknown: {seen.words}")


async def own_reason(bench: Bench) -> str:
    """Members who unsubscribed, in the audiences that the account has: only their reasons are read.

    No probe can unsubscribe as a person does.
    """
    given = empty = 0
    for audience in (await bench.client.audiences())[:_AUDIENCES_READ]:
        if audience.id == bench.list_id:
            continue
        params = {
            "status": "unsubscribed", "count": "1000", "fields": "members.unsubscribe_reason",
        }  # fmt: skip
        target = path("lists", audience.id, "members")
        page = bench.accepted(await bench.client.observe("GET", target, params=params))
        reasons = [str(m.get("unsubscribe_reason") or "") for m in page.get("members") or []]
        empty += sum(not reason.strip() for reason in reasons)
        given += sum(bool(r.strip()) and not r.lower().startswith("n/a (") for r in reasons)
    if empty:
        return "empty"
    if given:
        return "given"
    return bench.undecided("nobody has unsubscribed in this account yet; only a person can show it")


def _errors(body: Mapping[str, Any]) -> str:
    return "; ".join(str(each.get("error", "")) for each in body.get("errors") or [])


def _taken(bench: Bench, body: Mapping[str, Any]) -> None:
    """Ends the experiment where its row was refused."""
    if body.get("errors"):
        bench.undecided(f"Mailchimp refused a row: {_errors(body)}")


EXPERIMENTS: Final[Mapping[str, Experiment]] = {
    each.__name__: each
    for each in (
        rows_without_status, bulk_tags, sync_tags, unchanged_row, bulk_resubscribe, bulk_return,
        plain_listing, empty_fields, tag_change, held_tag, equal_values, both_spellings,
        domain_case, email_change, admin_reason, refusal_words, own_reason,
    )
}  # fmt: skip
"""The experiment of each question, by its name."""
