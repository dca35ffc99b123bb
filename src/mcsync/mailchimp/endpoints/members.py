"""Members (MC 4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mcsync.mailchimp.caller import decoder, nothing
from mcsync.mailchimp.endpoints.base import (
    PAGE_SIZE,
    Endpoints,
    encode,
    flag,
    member_id,
    timestamp,
)
from mcsync.mailchimp.errors import NotFoundError
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.member import (
    MarketingPermission,
    Member,
    MembersPage,
    PermissionsPage,
)

SMALLEST_PAGE = 250
"""Pages above this size are not asked again after a 504: ask for a smaller one."""

# Much of a page's bytes, and nothing in it is used. Excluding is more reliable than
# selecting: `fields` was seen to be ignored (MC 18.25).
_UNUSED = ",".join(
    [
        "_links",
        *(f"members.{name}" for name in ("_links", "stats", "location", "email_client")),
    ]
)


class MemberEndpoints(Endpoints):
    """Calls about members. Every call raises `MailchimpError`.

    Members are named by hash, by contact id or by address.
    """

    async def members_page(
        self,
        list_id: str,
        *,
        count: int = PAGE_SIZE,
        offset: int = 0,
        status: str | None = None,
        since_last_changed: datetime | None = None,
        sort_by_last_changed: bool = True,
        fields: Sequence[str] | None = None,
    ) -> MembersPage:
        """Return one page, oldest change first (MC 4.6).

        `since_last_changed` is exclusive, at one second's grain. `fields` names properties
        of a member; None reads all that mcsync knows. Without `status` it is unknown
        whether archived members are listed. A page of more than 250 that ends in a 504 or a
        time-out is not tried again here: ask for a smaller one.
        """
        params = {"count": str(count), "offset": str(offset), **_selection("members", fields)}
        if status is not None:
            params["status"] = status
        if since_last_changed is not None:
            params["since_last_changed"] = timestamp(since_last_changed)
        if sort_by_last_changed:
            params |= {"sort_field": "last_changed", "sort_dir": "ASC"}
        request = Request(
            "members.list",
            "GET",
            path("lists", list_id, "members"),
            params,
            retry_timeouts=count <= SMALLEST_PAGE,
        )
        return await self._call(request, decoder(MembersPage))

    async def count_members(self, list_id: str, *, status: str | None = None) -> int:
        """Return how many members have a status; unlike the audience's stats this is live."""
        params = {"count": "1", "fields": "total_items"}
        if status is not None:
            params["status"] = status
        request = Request("members.count", "GET", path("lists", list_id, "members"), params)
        return (await self._call(request, decoder(MembersPage))).total_items or 0

    async def member(self, list_id: str, hash_or_address: str) -> Member:
        """Return a member; raises `NotFoundError` for a stranger or one deleted for good."""
        request = Request(
            "members.get",
            "GET",
            _member(list_id, hash_or_address),
            {"exclude_fields": "_links"},
            about_contact=True,
        )
        return await self._call(request, decoder(Member))

    async def find_member(self, list_id: str, hash_or_address: str) -> Member | None:
        """Return a member, None for a stranger or one deleted for good."""
        try:
            return await self.member(list_id, hash_or_address)
        except NotFoundError:
            return None

    async def add_member(
        self, list_id: str, member: Mapping[str, object], *, skip_merge_validation: bool = False
    ) -> Member:
        """Add a member (POST, MC 4.3); an archived one comes back.

        Raises `RefusedError`, with the code `exists` where the address is on the list already. Not
        repeated here when its outcome is unknown: the answer would say `exists` of our own.
        """
        request = Request(
            "members.add",
            "POST",
            path("lists", list_id, "members"),
            {"skip_merge_validation": flag(skip_merge_validation)},
            encode(member),
            about_contact=True,
            repeatable=False,
        )
        return await self._call(request, decoder(Member))

    async def update_member(
        self,
        list_id: str,
        subscriber_hash: str,
        changes: Mapping[str, object],
        *,
        skip_merge_validation: bool = False,
    ) -> Member:
        """Change what is named, keep the rest (PATCH, MC 4.3).

        Raises `RefusedError` when the contact may not be changed so, `NotFoundError`.
        """
        return await self._write("PATCH", list_id, subscriber_hash, changes, skip_merge_validation)

    async def put_member(
        self,
        list_id: str,
        subscriber_hash: str,
        member: Mapping[str, object],
        *,
        skip_merge_validation: bool = False,
    ) -> Member:
        """Add a member or change what is named (PUT, MC 4.3); raises `RefusedError`."""
        return await self._write("PUT", list_id, subscriber_hash, member, skip_merge_validation)

    async def archive_member(self, list_id: str, subscriber_hash: str) -> None:
        """Archive a member (DELETE, MC 4.5).

        Raises `MethodNotAllowedError` when archived already, cleaned or pending, and
        `NotFoundError`; a repetition after an unknown outcome may raise either.
        """
        request = Request(
            "members.archive", "DELETE", _member(list_id, subscriber_hash), about_contact=True
        )
        await self._call(request, nothing)

    async def delete_permanent(self, list_id: str, subscriber_hash: str) -> None:
        """Erase a member for good; return on Mailchimp's 204 only (MC 4.5, 16).

        The address can never be added again through the API. Raises `NotFoundError` for a
        stranger, also on repetition, and `MethodNotAllowedError` where Mailchimp will not
        in the member's present state: neither proves an erasure, so read the member back.
        """
        target = _member(list_id, subscriber_hash) + "/actions/delete-permanent"
        request = Request("members.delete_permanent", "POST", target, about_contact=True)
        await self._call(request, nothing)

    async def marketing_permissions(self, list_id: str) -> tuple[MarketingPermission, ...]:
        """Return the consent texts of an audience, as one of its members shows them (MC 16).

        Mailchimp lists them nowhere else. Empty for an audience without GDPR fields, and for
        one without members. `enabled` is that one member's.
        """
        params = {"count": "1", "fields": "members.marketing_permissions,total_items"}
        request = Request("members.permissions", "GET", path("lists", list_id, "members"), params)
        page = await self._call(request, decoder(PermissionsPage))
        return page.members[0].marketing_permissions if page.members else ()

    async def _write(
        self,
        method: str,
        list_id: str,
        subscriber_hash: str,
        body: Mapping[str, object],
        skip_merge_validation: bool,
    ) -> Member:
        request = Request(
            "members.update" if method == "PATCH" else "members.put",
            method,
            _member(list_id, subscriber_hash),
            {"skip_merge_validation": flag(skip_merge_validation)},
            encode(body),
            about_contact=True,
        )
        return await self._call(request, decoder(Member))


def _member(list_id: str, hash_or_address: str) -> str:
    return path("lists", list_id, "members", member_id(hash_or_address))


def _selection(collection: str, fields: Sequence[str] | None) -> dict[str, str]:
    if fields is None:
        return {"exclude_fields": _UNUSED}
    prefix = f"{collection}."
    names = (name if name.startswith(prefix) else prefix + name for name in fields)
    return {"fields": ",".join([*names, "total_items"])}
