"""The segment's tag at Mailchimp: ``mcsync: <name>``, made by us, addressed by its stored id."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import Database
from mcsync.features.sync.decide import PlanScope
from mcsync.mailchimp import InvalidRequestError, MailchimpClient, NotFoundError, RefusedError, Tag

_UNKNOWN_ID = 0
"""Committed before the tag is made: after a crash in between, the tag of that name is ours."""


_LONGEST = 100
"""Characters of a tag's name at Mailchimp."""


class TagTakenError(Exception):
    """A tag of the segment's name exists in the audience, and we did not make it."""


def tag_name(segment_name: str) -> str:
    """The tag's name for a segment's."""
    return f"mcsync: {segment_name}"


async def ensure_tag(
    db: Database, client: MailchimpClient, scope: PlanScope, list_id: str
) -> tuple[int, str]:
    """Makes or renames the segment's tag; answers (id, name). Raises :class:`TagTakenError`."""
    wanted = tag_name(scope.segment.name)
    async with db.transaction(scope.org_id) as session:
        known = (
            await session.execute(
                text(
                    """select tag_id, name from segment_tags
                       where segment_id = :segment and audience_id = :audience"""
                ),
                {"segment": scope.segment.id, "audience": scope.audience_id},
            )
        ).one_or_none()
    if known and known.tag_id != _UNKNOWN_ID:
        try:
            if known.name != wanted:
                await _rename(db, client, scope, list_id, known.tag_id, wanted)
                await _store(db, scope, known.tag_id, wanted)
                return known.tag_id, wanted
        except NotFoundError:
            await _forget(db, scope)
        else:
            # rows name the tag: one deleted at Mailchimp would come back under an id we do not know
            if await client.tag(list_id, known.tag_id) is not None:
                return known.tag_id, wanted
            await _forget(db, scope)
    there = await _find(client, list_id, wanted)
    if there and not known:
        if not await _set_aside(db, client, scope, list_id, there):
            raise TagTakenError
        there = None
    await _store(db, scope, _UNKNOWN_ID, wanted)
    if there is None:
        try:
            there = await client.create_tag(list_id, wanted)
        except InvalidRequestError as error:  # made between our look and our call
            raise TagTakenError from error
    await _store(db, scope, there.id, wanted)
    return there.id, wanted


async def forget_lost_tag(
    db: Database, client: MailchimpClient, scope: PlanScope, list_id: str
) -> None:
    """Somebody deleted the tag at Mailchimp: then nobody carries it, and it is made again."""
    async with db.transaction(scope.org_id) as session:
        tag_id = await session.scalar(
            text(
                """select tag_id from segment_tags
                   where segment_id = :segment and audience_id = :audience"""
            ),
            {"segment": scope.segment.id, "audience": scope.audience_id},
        )
    if tag_id and await client.tag(list_id, tag_id) is None:
        await _forget(db, scope)


async def _rename(
    db: Database, client: MailchimpClient, scope: PlanScope, list_id: str, tag_id: int, wanted: str
) -> None:
    try:
        await client.rename_tag(list_id, tag_id, wanted)
    except (InvalidRequestError, RefusedError) as error:
        there = await _find(client, list_id, wanted)
        if there is None or not await _set_aside(db, client, scope, list_id, there):
            raise TagTakenError from error
        await client.rename_tag(list_id, tag_id, wanted)


async def _find(client: MailchimpClient, list_id: str, name: str) -> Tag | None:
    for tag in await client.search_tags(list_id, name):
        if tag.name.lower() == name.lower():
            return tag
    return None


async def _set_aside(
    db: Database, client: MailchimpClient, scope: PlanScope, list_id: str, there: Tag
) -> bool:
    """The name is held by the tag of a segment of ours that was deleted or renamed: that one makes way.

    Its members keep it, under another name: deleting a segment leaves them as they are, and the next run
    of a renamed one gives its tag the new name.
    """
    async with db.transaction(scope.org_id) as session:
        holder = (
            await session.execute(
                text(
                    """select t.segment_id, s.name, s.soft_deleted_at is null
                              and s.audience_id = t.audience_id as lives
                       from segment_tags t join contact_segments s on s.id = t.segment_id
                       where t.audience_id = :audience and t.tag_id = :tag
                         and t.segment_id <> :segment"""
                ),
                {"audience": scope.audience_id, "tag": there.id, "segment": scope.segment.id},
            )
        ).one_or_none()
    if holder is None or (holder.lives and tag_name(holder.name).lower() == there.name.lower()):
        return False
    suffix = f" (former {holder.segment_id.hex[-6:]})"
    aside = there.name[: _LONGEST - len(suffix)] + suffix
    await client.rename_tag(list_id, there.id, aside)
    async with db.transaction(scope.org_id) as session:
        await session.execute(
            text(
                """update segment_tags set name = :name
                   where segment_id = :segment and audience_id = :audience"""
            ),
            {"name": aside, "segment": holder.segment_id, "audience": scope.audience_id},
        )
    return True


async def _store(db: Database, scope: PlanScope, tag_id: int, name: str) -> None:
    async with db.transaction(scope.org_id) as session:
        await session.execute(
            text(
                """insert into segment_tags (org_id, segment_id, audience_id, tag_id, name)
                   values (:org, :segment, :audience, :tag, :name)
                   on conflict (segment_id, audience_id)
                   do update set tag_id = excluded.tag_id, name = excluded.name"""
            ),
            {
                "org": scope.org_id, "segment": scope.segment.id, "audience": scope.audience_id,
                "tag": tag_id, "name": name,
            },
        )  # fmt: skip


async def _forget(db: Database, scope: PlanScope) -> None:
    async with db.transaction(scope.org_id) as session:
        await _delete(session, scope)


async def _delete(session: AsyncSession, scope: PlanScope) -> None:
    params = {"segment": scope.segment.id, "audience": scope.audience_id}
    for statement in (
        "delete from segment_members where segment_id = :segment and audience_id = :audience",
        # not deleted: a tag of this name that our own rows brought back is ours
        f"""update segment_tags set tag_id = {_UNKNOWN_ID}
            where segment_id = :segment and audience_id = :audience""",
    ):
        await session.execute(text(statement), params)
    await session.execute(
        text("update contact_segments set planned_xid = null where id = :segment"),
        {"segment": scope.segment.id},
    )
