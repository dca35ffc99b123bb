"""Audiences and the bulk call on them (MC 3)."""

from collections.abc import Mapping, Sequence

from mcsync.mailchimp.caller import decoder, nothing
from mcsync.mailchimp.endpoints.base import PAGE_SIZE, Endpoints, encode, flag
from mcsync.mailchimp.rows import BATCH_SIZE
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.audience import Audience, AudiencesPage
from mcsync.mailchimp.types.base import Rows
from mcsync.mailchimp.types.batch import BatchResult

BatchRow = str | bytes | Mapping[str, object]
"""A member of a bulk call: a mapping, or its JSON text already encoded."""


class AudienceEndpoints(Endpoints):
    """Calls about audiences. Every call raises `MailchimpError`."""

    async def audiences(self) -> Rows[Audience]:
        """Return all audiences of the account that can be read; see `Rows.complete`."""
        found: list[Audience] = []
        passed, unreadable, told = 0, 0, True
        while True:
            params = {
                "count": str(PAGE_SIZE),
                "offset": str(passed),
                "exclude_fields": "lists._links,_links",
            }
            request = Request("audiences.list", "GET", "/lists", params)
            page = await self._call(request, decoder(AudiencesPage))
            rows = page.lists
            found += rows
            passed += rows.raw
            unreadable += rows.unreadable
            told = told and rows.told
            if not rows.raw or passed >= page.total_items:
                return Rows.of(found, unreadable=unreadable, told=told)

    async def audience(self, list_id: str) -> Audience:
        """Return one audience."""
        params = {"exclude_fields": "_links"}
        request = Request("audiences.get", "GET", path("lists", list_id), params)
        return await self._call(request, decoder(Audience))

    async def create_audience(self, definition: Mapping[str, object]) -> Audience:
        """Create an audience (MC 3.2).

        Not repeated here when the outcome is unknown: a second one would be made. Raises
        `InvalidRequestError` or `CredentialError` (403) where the plan or the role does not allow it.
        """
        request = Request(
            "audiences.create", "POST", "/lists", content=encode(definition), repeatable=False
        )
        return await self._call(request, decoder(Audience))

    async def delete_audience(self, list_id: str) -> None:
        """Delete an audience with all that it holds; this cannot be undone (MC 3.2)."""
        request = Request("audiences.delete", "DELETE", path("lists", list_id))
        await self._call(request, nothing)

    async def batch_subscribe(
        self,
        list_id: str,
        members: Sequence[BatchRow],
        *,
        update_existing: bool,
        skip_merge_validation: bool = False,
        skip_duplicate_check: bool = True,
        sync_tags: bool = False,
    ) -> BatchResult:
        """Add, update or unsubscribe up to 500 members at once (MC 3.3).

        An answer is no success: `account_rows` says what became of each row. Safe to
        repeat with `update_existing`. A refusal of the whole call is an
        `InvalidRequestError`. Raises `ValueError` for no members or more than 500.
        """
        if not 1 <= len(members) <= BATCH_SIZE:
            message = f"a bulk call takes 1 to {BATCH_SIZE} members, not {len(members)}"
            raise ValueError(message)
        params = {
            "skip_merge_validation": flag(skip_merge_validation),
            "skip_duplicate_check": flag(skip_duplicate_check),
        }
        options = {"update_existing": update_existing}
        if sync_tags:
            options["sync_tags"] = True
        # Encoded rows are only joined: a worker has 40 microseconds a contact for all it does.
        rows = b",".join(_encoded(member) for member in members)
        content = b'{"members":[' + rows + b"]," + encode(options)[1:]
        request = Request("audiences.batch", "POST", path("lists", list_id), params, content)
        return await self._call(request, decoder(BatchResult))


def _encoded(member: BatchRow) -> bytes:
    if isinstance(member, bytes):
        return member
    return member.encode() if isinstance(member, str) else encode(member)
