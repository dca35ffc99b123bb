"""What Mailchimp says of an audience's merge fields, and what follows when it says something else."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync import mailchimp
from mcsync.features.audiences import repository
from mcsync.features.audiences.merge_map import (
    Entry,
    Field,
    followed_map,
    gone_tags,
    map_in_force,
    redefined_tags,
    renamed_tags,
)
from mcsync.features.audiences.models import Audience
from mcsync.features.audiences.schemas import WarningView


def merge_map(audience: Audience) -> dict[str, Entry]:
    """The merge-field map in force: the stored one, or the proposal."""
    fields = Field.stored(audience.merge_fields)
    known = audience.merge_fields_at is not None
    return map_in_force(audience.merge_field_map, fields, known=known)


def merge_fields(audience: Audience) -> dict[str, Field]:
    """The mirrored merge fields, by their tags as Mailchimp spells them."""
    return {field.tag: field for field in Field.stored(audience.merge_fields)}


def warnings(audience: Audience) -> list[WarningView]:
    """What of the audience needs somebody's attention, though everything else goes on."""
    gone = gone_tags(
        audience.merge_field_map,
        Field.stored(audience.merge_fields),
        known=audience.merge_fields_at is not None,
    )
    return [
        WarningView(
            code="merge_field_gone",
            message=f"Mailchimp no longer has the merge field {tag} of {audience.name}: its values are not"
            " sent, all other fields are. Create the field again with audiences.createMergeFields, or"
            " leave it out of audiences.setMergeFields.",
        )
        for tag in gone
    ]


async def follow(session: AsyncSession, before: Audience, now: Sequence[Field]) -> bool:
    """Map, members and refusals follow the fields that Mailchimp shows now, in the caller's transaction.

    Answers whether the next plan has to look at every address again: what a fed field takes has changed, or
    what was refused may be taken now.
    """
    if before.merge_fields_at is None:
        return False
    were = Field.stored(before.merge_fields)
    redefined = redefined_tags(were, now)
    if not redefined:
        return False
    followed = followed_map(before.merge_field_map, were, now)
    if followed != before.merge_field_map:
        await repository.store_map(session, before.id, followed)
    renamed = renamed_tags(were, now)
    if renamed:
        await repository.rename_pushed(session, before.id, renamed)
    forgotten = await repository.forget_field_refusals(session, before.id, redefined)
    fed = {tag.upper() for tag in merge_map(before)}
    return forgotten > 0 or not fed.isdisjoint(redefined)


def field_of(field: mailchimp.MergeField) -> Field:
    return Field(
        tag=field.tag,
        name=field.name,
        type=field.type,
        required=field.required,
        choices=field.options.choices,
        merge_id=field.merge_id,
        phone_format=field.options.phone_format,
        default=field.default_value,
    )
