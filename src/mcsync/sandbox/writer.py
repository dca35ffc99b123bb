"""Writing members through the API: creating, updating, un-archiving, tagging, deleting (MC 3.3, 4.3 to 4.7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import problems
from .merge import MergeRules
from .model import Member, digest
from .states import (
    ARCHIVED,
    CLEANED,
    PENDING,
    STATUSES,
    SUBSCRIBED,
    UNSUBSCRIBED,
    By,
    Refused,
    admin_reason,
    next_status,
)

if TYPE_CHECKING:
    from .audience import Audience
    from .history import Actor
    from .model import Segment
    from .rows import Row
    from .world import World

API_SOURCE = "API - Generic"

# Local parts beyond ASCII are probably refused, Unicode domains are accepted (MC 4.1).
_ADDRESS = re.compile(r"[!-?A-~]{1,64}@[^\s@.]+(\.[^\s@.]+)+\Z")
_FAKE_DOMAINS = ("@example.com", "@example.net", "@example.org")


class Writer:
    """One request's writes to one audience."""

    def __init__(
        self,
        world: World,
        audience: Audience,
        actor: Actor,
        *,
        skip_required: bool = False,
        keeps_opt: bool = False,
        caller: str = "",
    ) -> None:
        """`keeps_opt`: who is subscribed again keeps the time of the first opt-in (MC 21).

        `caller`: the network address of the call, which an add without `ip_opt` stores (MC 21).
        """
        self.keeps_opt = keeps_opt
        self.caller = caller
        self.world = world
        self.audience = audience
        self.config = world.config
        self.actor = actor
        self.rules = MergeRules(audience, world.config, skip_required=skip_required)
        self._tags: dict[str, Segment] = {}
        """Tags by the names this request used, so that 500 rows look each name up once."""
        self.now = world.clock.second()

    # Checks

    def check_address(self, email: str) -> None:
        """Refuses what is no address, and by switch what looks fake or is throttled (MC 14, 18.6, 18.7)."""
        if not _ADDRESS.match(email):
            raise problems.invalid_resource("Please provide a valid email address.")
        config = self.config
        if config.fake_address_rule and email.lower().endswith(_FAKE_DOMAINS):
            raise problems.fake_address(email)
        if config.fake_pattern and re.search(config.fake_pattern, email.lower()):
            raise problems.fake_address(email)
        if config.throttle_pattern and re.search(config.throttle_pattern, email.lower()):
            raise problems.throttled_address(email)

    def check_new(self, email: str) -> None:
        """An address that is to join: valid, and not permanently deleted (MC 4.5)."""
        self.check_address(email)
        if digest(self.audience.lower(email)) in self.audience.forgotten:
            raise problems.forgotten(email, other_words=self.config.other_refusal_words)

    # Creating and updating

    def create(self, row: Row, status: int) -> Member:
        """Add a member with a status; refusals as Problem, MergeInvalid or SchemaMismatch."""
        email = row.email or ""
        self.check_new(email)
        values = self.rules.merged((), row.merge)
        member = self.audience.insert(email, status, self.now)
        member.source = API_SOURCE
        member.merge = values
        self._stamp(member, status)
        if status == SUBSCRIBED:
            member.ip_opt = self.caller
        self._apply_more(member, row)
        if row.tags:
            self._retag(member, row.tags, replace=False)
        self.log(member, "absent", "created")
        return member

    def update(self, member: Member, row: Row, *, status: int | None) -> bool:
        """Change a member; `status` is the one the request insists on. True if anything but tags changed."""
        target = self._target(member, status)
        values = self.rules.merged(member.merge, row.merge)
        before = member.status
        changed = _differs(values, member.merge)
        member.merge = values
        if target != before:
            self._set_status(member, target)
        changed |= self._apply_more(member, row)
        if target != before:
            self.log(member, STATUSES[before], "status")
        elif changed:
            self.audience.touch(member, self.now)
            self.log(member, STATUSES[before], "profile")
        return target != before or changed

    def _target(self, member: Member, wanted: int | None) -> int:
        if wanted is None:
            return member.status
        current = member.status
        if current == ARCHIVED and self.config.archive_keeps_compliance:
            current = member.former
        try:
            target = next_status(current, wanted, by_person=member.by_person, config=self.config)
        except Refused:
            raise problems.in_compliance_state(
                member.email,
                STATUSES[current],
                via=self.actor.via,
                other_words=self.config.other_refusal_words,
            ) from None
        return target

    def _set_status(self, member: Member, status: int) -> None:
        before = member.status
        self.audience.touch(member, self.now, status)
        self._stamp(member, status)
        if before != ARCHIVED and status == SUBSCRIBED and self.config.resubscribe_sets_source:
            member.source = API_SOURCE

    def _stamp(self, member: Member, status: int) -> None:
        """What a new status brings with it: times, reason, a confirmation mail (MC 4.2, 4.3)."""
        if status != UNSUBSCRIBED:
            member.reason, member.unsubscribed_by = "", By.NOBODY
        elif not member.by_person:
            member.reason, member.unsubscribed_by = admin_reason(self.config), By.API
        if status == SUBSCRIBED:
            if not (self.keeps_opt and member.timestamp_opt):
                member.timestamp_opt = self.now
        elif status == PENDING:
            member.timestamp_signup = self.now
            member.own_extras().mails += 1

    def _apply_more(self, member: Member, row: Row) -> bool:
        """The rarer properties of a row; True if one of them changed."""
        if not row.more:
            return False
        extras = member.own_extras()
        changed = False
        for name, value in row.more.items():
            if name == "location":
                pair = (extras.latitude, extras.longitude)
                changed |= pair != value
                extras.latitude, extras.longitude = value
            elif name in ("interests", "marketing_permissions"):
                current: dict[str, bool] = getattr(extras, name)
                changed |= any(current.get(key) != on for key, on in value.items())
                current.update(value)
            elif name.startswith("timestamp_") or name == "ip_opt":
                changed |= getattr(member, name) != value
                setattr(member, name, value)
            else:
                changed |= getattr(extras, name) != value
                setattr(extras, name, value)
        return changed

    def check_rename(self, member: Member, email: str) -> None:
        """Refuses another address for a contact (MC 4.3); only another case of the same is always fine."""
        if self.audience.lower(email) == self.audience.lower(member.email):
            return
        if self.config.email_change_needs_subscribed and member.status != SUBSCRIBED:
            raise problems.Problem(
                400,
                "Invalid Resource",
                "The email address of a contact that is not subscribed cannot be changed.",
            )
        self.check_address(email)
        other = self.audience.find(email)
        if other is not None:
            # An archived contact shows the status that it had before (MC 21).
            status = other.former if other.status == ARCHIVED else other.status
            raise problems.listed_already(email, STATUSES[status])
        if digest(self.audience.lower(email)) in self.audience.forgotten:
            raise problems.listed_already(email, "deleted")

    def rename(self, member: Member, email: str) -> None:
        """Give a contact its other address, which `check_rename` has allowed."""
        if self.audience.lower(email) == self.audience.lower(member.email):
            return
        old = member.email
        self.audience.rename(member, email, self.now)
        status = STATUSES[member.status]
        self.world.record(self.audience, old, (status, "absent"), "email", self.actor)
        self.world.record(
            self.audience, email, ("absent", status), "email", self.actor, member, old_email=old
        )

    # Tags

    def set_tags(self, member: Member, names: list[str], *, replace: bool) -> bool:
        """Put tags on, and with `replace` take all others off (`sync_tags`, MC 3.3); True if any changed."""
        if not self._retag(member, names, replace=replace):
            return False
        self._tags_changed(member)
        return True

    def put_tag(self, member: Member, tag: Segment) -> bool:
        if tag in member.tags:
            if self.config.held_tag_moves_last_changed:
                self.audience.touch(member, self.now)
            return False
        member.tags = (*member.tags, tag)
        tag.put(member, self.now)
        self._tags_changed(member)
        return True

    def touch(self, member: Member) -> None:
        """The member was written to, though nothing changed; last_changed moves by switch (MC 21)."""
        if self.config.equal_values_move_last_changed and member.last_changed != self.now:
            self.audience.touch(member, self.now)

    def take_tag(self, member: Member, tag: Segment) -> bool:
        if tag not in member.tags:
            return False
        member.tags = tuple(each for each in member.tags if each is not tag)
        tag.take(member)
        self._tags_changed(member)
        return True

    def _retag(self, member: Member, names: list[str], *, replace: bool) -> bool:
        wanted = dict.fromkeys([self._tag(name) for name in names])
        current = member.tags
        added = tuple([tag for tag in wanted if tag not in current])
        kept = tuple([tag for tag in current if tag in wanted]) if replace else current
        if not added and len(kept) == len(current):
            return False
        for tag in member.tags:
            if tag not in kept:
                tag.take(member)
        for tag in added:
            tag.put(member, self.now)
        member.tags = kept + added
        return True

    def _tag(self, name: str) -> Segment:
        tag = self._tags.get(name)
        if tag is None:
            tag = self._tags[name] = self.world.add_tag(self.audience, name)
        return tag

    def _tags_changed(self, member: Member) -> None:
        if self.config.tags_move_last_changed:
            self.audience.touch(member, self.now)
        self.log(member, STATUSES[member.status], "tags")

    # Leaving

    def archive(self, member: Member) -> None:
        """DELETE: archived with all its data; 405 where it is archived, pending or cleaned (MC 4.5)."""
        if member.status in (ARCHIVED, PENDING, CLEANED):
            raise problems.not_archivable()
        before = member.status
        member.former = before
        self.audience.touch(member, self.now, ARCHIVED)
        self.log(member, STATUSES[before], "archived")

    def forget(self, member: Member) -> None:
        """Delete permanently: gone for reads, refused for every later add through the API (MC 4.5)."""
        before = STATUSES[member.status]
        self.audience.drop(member)
        self.audience.forgotten.add(digest(self.audience.lower(member.email)))
        self.world.record(
            self.audience, member.email, (before, "deleted"), "deleted", self.actor, member
        )

    def log(self, member: Member, before: str, kind: str) -> None:
        self.world.record(
            self.audience, member.email, (before, STATUSES[member.status]), kind, self.actor, member
        )


def _differs(values: tuple[object, ...], current: tuple[object, ...]) -> bool:
    """Whether values changed; a field made after the member was written counts as empty there."""
    return values != current and values != current + ("",) * (len(values) - len(current))
