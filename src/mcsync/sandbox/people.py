"""What people do: subscribers by themselves, and the owner's staff in Mailchimp's pages (MC 4.4, 4.5, 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .merge import MergeRules
from .model import digest
from .states import (
    ABUSE_REASON,
    ARCHIVED,
    CLEANED,
    PENDING,
    PERSON_REASON,
    STATUSES,
    SUBSCRIBED,
    TRANSACTIONAL,
    UNSUBSCRIBED,
    By,
    admin_reason,
)

if TYPE_CHECKING:
    from .audience import Audience
    from .history import Actor
    from .model import Member
    from .world import World

FORM_SOURCE = "Hosted Signup Form"
ADMIN_SOURCE = "Admin Add"


class NotPossible(Exception):
    """The act makes no sense in the member's state."""


class Act:
    """One act of a person or an admin on one address of one audience."""

    def __init__(self, world: World, audience: Audience, actor: Actor, email: str) -> None:
        self.world = world
        self.audience = audience
        self.actor = actor
        self.email = email.strip()
        self.member = audience.find(self.email)
        self.now = world.clock.second()
        self.permissions: dict[str, bool] = {}
        """GDPR fields ticked or not on the form, by id."""

    def require(self, *statuses: int) -> Member:
        """The member, which must be in one of the statuses (any if none is named)."""
        if self.member is None:
            raise NotPossible(f"{self.email} is not in the list")
        if statuses and self.member.status not in statuses:
            raise NotPossible(f"{self.email} is {STATUSES[self.member.status]}")
        return self.member

    def log(self, member: Member, before: str, after: str, kind: str) -> None:
        self.world.record(self.audience, self.email, (before, after), kind, self.actor, member)

    def move(self, member: Member, status: int, kind: str = "status") -> None:
        """Another status for the member, logged."""
        before = member.status
        self.audience.touch(member, self.now, status)
        if status != before:
            self.log(member, STATUSES[before], STATUSES[status], kind)

    def fill(self, member: Member, values: dict[str, Any]) -> bool:
        """Set merge values as a form does; MergeInvalid if a value is refused. True if one changed."""
        config = self.world.config
        new = MergeRules(self.audience, config, skip_required=True).merged(member.merge, values)
        changed = new != member.merge
        member.merge = new
        return self._tick(member) or changed

    def _tick(self, member: Member) -> bool:
        """Take over the form's GDPR fields; True if one changed. ValueError for one the list does not have."""
        if not self.permissions:
            return False
        if not self.permissions.keys() <= self.audience.permissions.keys():
            raise ValueError("not a marketing permission of this list")
        held = member.own_extras().marketing_permissions
        before = dict(held)
        held.update(self.permissions)
        return held != before

    # The person's own acts

    def subscribe_form(self, values: dict[str, Any]) -> None:
        """A form takes everybody: new, unsubscribed, cleaned, archived, even permanently deleted (MC 4.5)."""
        self._join(values, PENDING if self.audience.double_optin else SUBSCRIBED, FORM_SOURCE)

    def confirm(self) -> None:
        """The link in the confirmation mail."""
        member = self.require(PENDING)
        member.timestamp_opt = self.now
        self._clear(member)
        self.move(member, SUBSCRIBED)

    def unsubscribe(self, reason: str) -> None:
        """The link in a campaign: from now on only the person can come back."""
        self._leave(
            self.require(SUBSCRIBED, PENDING, TRANSACTIONAL, UNSUBSCRIBED), By.PERSON, reason
        )

    def bounce(self) -> None:
        self.move(self.require(SUBSCRIBED, PENDING, UNSUBSCRIBED), CLEANED)

    def change_email(self, new: str) -> None:
        """The address of the person's own record; contact_id stays."""
        member = self.require()
        if not new.strip() or self.audience.find(new.strip()) not in (None, member):
            raise NotPossible("the new address is missing or in the list already")
        status, old = STATUSES[member.status], member.email
        self.audience.rename(member, new.strip(), self.now)
        record, actor = self.world.record, self.actor
        record(self.audience, old, (status, "absent"), "email", actor)
        record(
            *(self.audience, member.email, ("absent", status), "email", actor, member),
            old_email=old,
        )

    def update_profile(self, values: dict[str, Any]) -> None:
        member = self.require()
        if self.fill(member, values):
            self.audience.touch(member, self.now)
            self.log(member, STATUSES[member.status], STATUSES[member.status], "profile")

    # Acts of the staff

    def admin_unsubscribe(self) -> None:
        self._leave(self.require(SUBSCRIBED, PENDING), By.ADMIN, admin_reason(self.world.config))

    def admin_subscribe(self, values: dict[str, Any]) -> None:
        """Staff adding or re-subscribing somebody, on the claim that they have consent."""
        if digest(self.audience.lower(self.email)) in self.audience.forgotten:
            raise NotPossible("permanently deleted; only the person can come back")
        self._join(values, SUBSCRIBED, ADMIN_SOURCE)

    def archive(self) -> None:
        """Unlike the API's DELETE, the pages archive a member in any status."""
        member = self.require(SUBSCRIBED, UNSUBSCRIBED, CLEANED, PENDING, TRANSACTIONAL)
        member.former = member.status
        self.move(member, ARCHIVED, "archived")

    def delete_permanent(self) -> None:
        member = self.require()
        before = STATUSES[member.status]
        self.audience.drop(member)
        self.audience.forgotten.add(digest(self.audience.lower(self.email)))
        self.log(member, before, "deleted", "deleted")

    def pending_lapse(self) -> None:
        """A pending contact that never confirms is dropped without trace after about 60 days (MC 4.4)."""
        member = self.require(PENDING)
        self.audience.drop(member)
        self.log(member, "pending", "absent", "deleted")

    # Common to both

    def _join(self, values: dict[str, Any], status: int, source: str) -> None:
        audience = self.audience
        audience.forgotten.discard(digest(audience.lower(self.email)))
        member = self.member
        before = "absent" if member is None else STATUSES[member.status]
        current = () if member is None else member.merge
        rules = MergeRules(audience, self.world.config, skip_required=True)
        filled = rules.merged(current, values)
        if member is None:
            member = audience.insert(self.email, status, self.now)
        elif member.status == SUBSCRIBED:
            status = SUBSCRIBED
        member.merge = filled
        self._tick(member)
        self._clear(member)
        if before != STATUSES[SUBSCRIBED]:
            member.source = source
            member.timestamp_signup = self.now
            if status == SUBSCRIBED:
                member.timestamp_opt = self.now
            else:
                member.own_extras().mails += 1
        audience.touch(member, self.now, status)
        self.log(member, before, STATUSES[status], "created" if before == "absent" else "status")

    def _leave(self, member: Member, by: By, reason: str) -> None:
        member.unsubscribed_by = by
        member.reason = reason
        self.move(member, UNSUBSCRIBED)

    def _clear(self, member: Member) -> None:
        member.unsubscribed_by = By.NOBODY
        member.reason = ""


def _own_reason(act: Act, given: Any) -> str:
    """What the person gave, which may be nothing at all; else "Unspecified", or by switch nothing (MC 21)."""
    if given is not None:
        return str(given)
    return "" if act.world.config.own_reason_empty else PERSON_REASON


def person(act: Act, name: str, body: dict[str, Any]) -> None:
    """One of the person's acts by its name; KeyError if there is none."""
    values: dict[str, Any] = body.get("mergeFields") or {}
    act.permissions = dict(body.get("marketingPermissions") or {})
    acts: dict[str, Callable[[], None]] = {
        "subscribe_form": lambda: act.subscribe_form(values),
        "resubscribe_form": lambda: act.subscribe_form(values),
        "confirm": act.confirm,
        "unsubscribe": lambda: act.unsubscribe(_own_reason(act, body.get("reason"))),
        "abuse": lambda: act.unsubscribe(ABUSE_REASON),
        "bounce": act.bounce,
        "change_email": lambda: act.change_email(str(body.get("newEmail") or "")),
        "update_profile": lambda: act.update_profile(values),
    }
    acts[name]()


def admin(act: Act, name: str, body: dict[str, Any]) -> None:
    """One of the staff's acts by its name; KeyError if there is none."""
    values: dict[str, Any] = body.get("mergeFields") or {}
    acts: dict[str, Callable[[], None]] = {
        "unsubscribe": act.admin_unsubscribe,
        "subscribe": lambda: act.admin_subscribe(values),
        "archive": act.archive,
        "delete_permanent": act.delete_permanent,
        "pending_lapse": act.pending_lapse,
        "edit": lambda: _edit(act, values, str(body.get("newEmail") or "")),
        "tag": lambda: _tag(act, str(body["tag"]), on=True),
        "untag": lambda: _tag(act, str(body["tag"]), on=False),
    }
    acts[name]()


def _edit(act: Act, values: dict[str, Any], new_email: str) -> None:
    act.update_profile(values)
    if new_email:
        act.change_email(new_email)


def _tag(act: Act, name: str, *, on: bool) -> None:
    """Tags put on or off in Mailchimp's pages; last_changed moves as with a tag call (MC 21)."""
    member = act.require()
    tag = act.world.add_tag(act.audience, name) if on else act.audience.tag_named(name)
    if tag is None or (tag in member.tags) == on:
        return
    if on:
        member.tags = (*member.tags, tag)
        tag.put(member, act.now)
    else:
        member.tags = tuple(each for each in member.tags if each is not tag)
        tag.take(member)
    if act.world.config.tags_move_last_changed:
        act.audience.touch(member, act.now)
    act.log(member, STATUSES[member.status], STATUSES[member.status], "tags")
