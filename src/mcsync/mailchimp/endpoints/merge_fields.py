"""Merge fields (MC 5)."""

from collections.abc import Mapping

from mcsync.mailchimp.caller import decoder
from mcsync.mailchimp.endpoints.base import PAGE_SIZE, Endpoints, encode
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.base import Rows
from mcsync.mailchimp.types.merge_field import MergeField, MergeFieldsPage


class MergeFieldEndpoints(Endpoints):
    """Calls about merge fields. Every call raises `MailchimpError`."""

    async def merge_fields(self, list_id: str) -> Rows[MergeField]:
        """Return all merge fields of an audience that can be read; see `Rows.complete`.

        The address, EMAIL, is never among them.
        """
        found: list[MergeField] = []
        passed, unreadable, told = 0, 0, True
        while True:
            params = {
                "count": str(PAGE_SIZE),
                "offset": str(passed),
                "exclude_fields": "merge_fields._links,_links",
            }
            request = Request("merge_fields.list", "GET", _fields(list_id), params)
            page = await self._call(request, decoder(MergeFieldsPage))
            rows = page.merge_fields
            found += rows
            passed += rows.raw
            unreadable += rows.unreadable
            told = told and rows.told
            if not rows.raw or passed >= page.total_items:
                return Rows.of(found, unreadable=unreadable, told=told)

    async def create_merge_field(
        self,
        list_id: str,
        *,
        tag: str,
        name: str,
        type: str,  # noqa: A002 - Mailchimp's word
        required: bool = False,
        options: Mapping[str, object] | None = None,
    ) -> MergeField:
        """Create a merge field; its type can never change (MC 5).

        Not repeated when the outcome is unknown (`TransientError.outcome_unknown`): look
        with `merge_fields` first. The tag may come back spelled differently.
        """
        body: dict[str, object] = {"tag": tag, "name": name, "type": type, "required": required}
        if options is not None:
            body["options"] = dict(options)
        request = Request(
            "merge_fields.create",
            "POST",
            _fields(list_id),
            content=encode(body),
            repeatable=False,
        )
        return await self._call(request, decoder(MergeField))


def _fields(list_id: str) -> str:
    return path("lists", list_id, "merge-fields")
