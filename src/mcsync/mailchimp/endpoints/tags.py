"""Tags, which Mailchimp keeps as static segments (MC 4.7, 7)."""

from collections.abc import Sequence

from mcsync.mailchimp.caller import decoder
from mcsync.mailchimp.endpoints.base import PAGE_SIZE, Endpoints, encode
from mcsync.mailchimp.errors import NotFoundError
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.member import MembersPage
from mcsync.mailchimp.types.tag import SegmentMembersResult, Tag, TagsPage

TAG_CHANGE_SIZE = 500
"""The most addresses to add, and to remove, in one call (MC 7)."""


class TagEndpoints(Endpoints):
    """Calls about tags. Every call raises `MailchimpError`."""

    async def create_tag(self, list_id: str, name: str) -> Tag:
        """Create an empty tag.

        Not repeated when the outcome is unknown (`TransientError.outcome_unknown`): look
        with `search_tags` first.
        """
        request = Request(
            "tags.create",
            "POST",
            path("lists", list_id, "segments"),
            content=encode({"name": name, "static_segment": []}),
            repeatable=False,
        )
        return await self._call(request, decoder(Tag))

    async def rename_tag(self, list_id: str, tag_id: int, name: str) -> Tag:
        """Rename a tag; its members stay, since none are named (MC 7)."""
        request = Request(
            "tags.rename", "PATCH", _tag(list_id, tag_id), content=encode({"name": name})
        )
        return await self._call(request, decoder(Tag))

    async def tag(self, list_id: str, tag_id: int) -> Tag | None:
        """Return a tag, None when it is gone."""
        request = Request("tags.get", "GET", _tag(list_id, tag_id), {"exclude_fields": "_links"})
        try:
            return await self._call(request, decoder(Tag))
        except NotFoundError:
            return None

    async def search_tags(self, list_id: str, name: str) -> list[Tag]:
        """Return the tags whose names begin with `name`; an empty one finds all."""
        params = {"name": name} if name else {}
        request = Request("tags.search", "GET", path("lists", list_id, "tag-search"), params)
        return list((await self._call(request, decoder(TagsPage))).tags)

    async def tag_members_page(
        self, list_id: str, tag_id: int, *, count: int = PAGE_SIZE, offset: int = 0
    ) -> MembersPage:
        """Return one page of a tag's members, of whatever status."""
        params = {
            "count": str(count),
            "offset": str(offset),
            "include_unsubscribed": "true",
            "include_cleaned": "true",
            "include_transactional": "true",
            "exclude_fields": "_links,members._links,members.stats,members.location",
        }
        request = Request("tags.members", "GET", _tag(list_id, tag_id) + "/members", params)
        return await self._call(request, decoder(MembersPage))

    async def change_tag_members(
        self, list_id: str, tag_id: int, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> SegmentMembersResult:
        """Tag and untag members by address, up to 500 each; safe to repeat (MC 7).

        Addresses that are no members are ignored, never created. Raises `ValueError` for
        more than 500 or none at all.
        """
        if not add and not remove:
            message = "nobody to tag or untag"
            raise ValueError(message)
        if max(len(add), len(remove)) > TAG_CHANGE_SIZE:
            message = f"a tag change takes up to {TAG_CHANGE_SIZE} addresses each way"
            raise ValueError(message)
        named = {"members_to_add": list(add), "members_to_remove": list(remove)}
        content = encode({key: value for key, value in named.items() if value})
        request = Request("tags.change", "POST", _tag(list_id, tag_id), content=content)
        return await self._call(request, decoder(SegmentMembersResult))


def _tag(list_id: str, tag_id: int) -> str:
    return path("lists", list_id, "segments", tag_id)
