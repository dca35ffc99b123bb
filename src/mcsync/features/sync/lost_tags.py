"""Members that lost a tag of ours at Mailchimp, found among those that changed.

Only where a change of tags alone moves ``last_changed`` (``capabilities``): elsewhere a full pull asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.audiences import mirror
from mcsync.mailchimp import Member

_SHOWN = 50
"""The most tags that a member shows (MC 4.2): of one with more, nothing can be told."""

_OURS = text(
    "select tag_id, segment_id from segment_tags where audience_id = :audience and tag_id <> 0"
)

# Members in other states are left alone: no run would put a lost tag back.
_FORGET = text("""
delete from segment_members t
using unnest(cast(:segments as uuid[]), cast(:hashes as uuid[])) as lost(segment_id, address_hash)
where t.audience_id = :audience and t.segment_id = lost.segment_id
  and t.address_hash = lost.address_hash
""")


async def ours(session: AsyncSession, audience_id: UUID) -> dict[int, UUID]:
    """The tags of the audience that are ours: id to segment."""
    rows = await session.execute(_OURS, {"audience": audience_id})
    return {row.tag_id: row.segment_id for row in rows}


async def forget(
    session: AsyncSession, audience_id: UUID, tags: Mapping[int, UUID], members: Sequence[Member]
) -> None:
    """Forgets, of members just read, the tags that they do not carry; the plan then puts them on again."""
    lost = [
        (segment_id, mirror.member_hash(member))
        for member in members
        if member.status == "subscribed"
        and len(member.tags) < _SHOWN
        and member.tags_count == len(member.tags)
        for tag_id, segment_id in tags.items()
        if tag_id not in {tag.id for tag in member.tags}
    ]
    if lost:
        segments, hashes = zip(*lost, strict=True)
        await session.execute(
            _FORGET, {"audience": audience_id, "segments": segments, "hashes": hashes}
        )
