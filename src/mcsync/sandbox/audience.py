"""One audience (list): its members under every index, its tags, its merge fields (MC 3-7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import md5
from typing import Any

from .changelog import ChangeLog
from .model import Member, MergeField, Segment, ascii_lower, digest, fold_domain
from .states import STATUSES, SUBSCRIBED, UNSUBSCRIBED
from .webhooks import Webhook

_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835
_WIDE = (1 << 128) - 1
_UNSPREAD = pow(_SPREAD, -1, 1 << 128)

DEFAULT_PERMISSIONS = ("Email", "Direct Mail", "Customized Online Advertising")
"""What a list asks for when its GDPR fields are switched on without words of their own."""

DEFAULT_FIELDS = (
    ("FNAME", "First Name", "text"),
    ("LNAME", "Last Name", "text"),
    ("ADDRESS", "Address", "address"),
    ("PHONE", "Phone Number", "phone"),
    ("BIRTHDAY", "Birthday", "birthday"),
)


class Audience:
    """The members of a list. Every mutation of a member's status, tags or address goes through here."""

    def __init__(
        self,
        ident: str,
        name: str,
        web_id: int,
        created: int,
        *,
        account_id: str,
        ascii_lowering: bool,
        one_spelling: bool = False,
    ) -> None:
        self.id = ident
        self.account_id = account_id
        self.name = name
        self.web_id = web_id
        self.created = created
        lower: Callable[[str], str] = ascii_lower if ascii_lowering else str.lower
        self.lower = (lambda email: fold_domain(lower(email))) if one_spelling else lower
        """The form of an address that identifies a member (MC 4.1)."""
        self.settings: dict[str, Any] = {}
        """What POST /lists and PATCH /lists/{id} gave besides the name."""
        self.double_optin = False
        self.permissions: dict[str, str] = {}
        """Texts of the GDPR fields by their ids; empty where they are off (MC 16)."""
        self.members: dict[bytes, Member] = {}
        self.serials: list[Member | None] = []
        self.log = ChangeLog()
        self.counts = [0] * len(STATUSES)
        self.forgotten: set[bytes] = set()
        self.webhooks: dict[str, Webhook] = {}
        self.segments: dict[int, Segment] = {}
        self.tag_names: dict[str, Segment] = {}
        self.fields: list[MergeField] = []
        self.columns = 0
        self.last_merge_id = 0
        self.last_sub = 0
        self.last_unsub = 0
        self._salt = int.from_bytes(md5(ident.encode(), usedforsecurity=False).digest())
        for tag, title, kind in DEFAULT_FIELDS:
            self.add_field(tag, title, kind)

    # Identity (MC 4.1)

    def find(self, email: str) -> Member | None:
        return self.members.get(digest(self.lower(email)))

    def contact_id(self, member: Member) -> str:
        """32 hex characters, stable over an e-mail change: the serial number, spread so that nobody can tell."""
        return f"{(member.serial * _SPREAD + self._salt) & _WIDE:032x}"

    def by_contact_id(self, number: int) -> Member | None:
        serial = ((number - self._salt) * _UNSPREAD) & _WIDE
        return self.serials[serial] if serial < len(self.serials) else None

    def resolve(self, key: str, *, hash_only: bool = False) -> Member | None:
        """The member under an MD5, a raw address or a contact_id (MC 4.1)."""
        if "@" in key:
            return None if hash_only else self.find(key.strip())
        if len(key) != 32:
            return None
        try:
            raw = bytes.fromhex(key)
        except ValueError:
            return None
        member = self.members.get(raw)
        if member is None and not hash_only:
            member = self.by_contact_id(int(key, 16))
        return member

    def ask_permissions(self, texts: Sequence[str]) -> None:
        """Switch the GDPR fields on with these texts, off with none. Ids follow from list and text."""
        salt = f"{self.id}:permission:"
        self.permissions = {
            md5((salt + text).encode(), usedforsecurity=False).hexdigest()[:10]: text
            for text in texts
        }

    # Members

    def insert(self, email: str, status: int, now: int) -> Member:
        """A new member; its address must be free."""
        member = Member(len(self.serials), email, status)
        member.last_changed = now
        self.members[digest(self.lower(email))] = member
        self.serials.append(member)
        self.counts[status] += 1
        self.log.append(member)
        self._note(status, now)
        return member

    def touch(self, member: Member, now: int, status: int | None = None) -> None:
        """The member changed now, and perhaps its status."""
        self.log.remove(member)
        if status is not None and status != member.status:
            self.counts[member.status] -= 1
            self.counts[status] += 1
            for tag in member.tags:
                tag.restatus(member.status, status)
            member.status = status
            self._note(status, now)
        member.last_changed = now
        self.log.append(member)

    def _note(self, status: int, now: int) -> None:
        if status == SUBSCRIBED:
            self.last_sub = now
        elif status == UNSUBSCRIBED:
            self.last_unsub = now

    def rename(self, member: Member, email: str, now: int) -> None:
        """Give a member another address; contact_id stays, the hash changes (MC 4.3)."""
        del self.members[digest(self.lower(member.email))]
        member.email = email
        self.members[digest(self.lower(email))] = member
        self.touch(member, now)

    def drop(self, member: Member) -> None:
        """Remove a member as if it had never been; whether it is remembered as forgotten is the caller's matter."""
        for tag in member.tags:
            tag.take(member)
        self.log.remove(member)
        self.counts[member.status] -= 1
        self.serials[member.serial] = None
        del self.members[digest(self.lower(member.email))]

    def count(self, statuses: tuple[int, ...]) -> int:
        return sum(self.counts[status] for status in statuses)

    # Tags (MC 4.7, 7)

    def tag_named(self, name: str) -> Segment | None:
        """Names compare whatever the case and keep the first spelling (MC 4.7)."""
        return self.tag_names.get(name.strip().lower())

    def add_segment(self, segment: Segment) -> None:
        self.segments[segment.id] = segment
        if segment.static:
            self.tag_names[segment.name.lower()] = segment

    def rename_segment(self, segment: Segment, name: str) -> None:
        if segment.static:
            del self.tag_names[segment.name.lower()]
            self.tag_names[name.lower()] = segment
        segment.name = name

    def remove_segment(self, segment: Segment) -> None:
        """Removes the tag, not the contacts (MC 7)."""
        del self.segments[segment.id]
        if segment.static:
            del self.tag_names[segment.name.lower()]
            for member in segment.members:
                member.tags = tuple(tag for tag in member.tags if tag is not segment)

    # Merge fields (MC 5)

    def add_field(self, tag: str, name: str, kind: str) -> MergeField:
        self.last_merge_id += 1
        made = MergeField(
            self.last_merge_id, tag, name, kind, self.columns, display_order=self.last_merge_id + 1
        )
        self.columns += 1
        self.fields.append(made)
        return made

    def field_tagged(self, tag: str) -> MergeField | None:
        return next((field for field in self.fields if field.tag == tag), None)
