"""What became of the requests to be subscribed, those of forms and those of operators."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features.subscribers import repository
from mcsync.features.subscribers.schemas import RequestPage, RequestStatus, RequestView

COUNTED_DAYS: Final = 30

_STATUS: Final = {
    "queued": "The request is waiting to be sent to Mailchimp.",
    "asking": "The call to Mailchimp is under way.",
    "asked": "Mailchimp has asked the person to confirm.",
    "subscribed": "The person was subscribed.",
    "already": "The address was on the list already; nothing was sent.",
    "refused": "Mailchimp refused the request.",
    "dropped": "The request was not sent to Mailchimp.",
    "unknown": "Mailchimp did not answer; subscribers.getStatus shows how the address stands now.",
}
_OUTCOME: Final = {
    "values_refused": "Mailchimp has asked the person to confirm, without the optional fields and the"
    " language, since it refused one of their values.",
    "language_unknown": "The language that was sent is none of Mailchimp's and was left out.",
    "invalid_merge_fields": "Mailchimp refused the value of a merge field.",
    "invalid_value": "Mailchimp refused the value of a merge field.",
    "incomplete_address": "Mailchimp refused a postal address that is not complete.",
    "required_fields_missing": "A merge field that the audience requires was missing or refused. Ask for it"
    " in the form, or make it optional at Mailchimp.",
    "required_field_missing": "A merge field that the audience requires was missing.",
    "fake_address": "Mailchimp takes this for no real address.",
    "invalid_address": "Mailchimp takes this for no real address.",
    "fake": "Mailchimp takes this for no real address.",
    "cleaned": "Mail to the address bounced before; Mailchimp takes it back only from the person.",
    "compliance": "The person unsubscribed or bounced before; only they can come back.",
    "unsubscribed": "The person unsubscribed before; only they can come back.",
    "forgotten": "The address was permanently deleted at Mailchimp; only the person can come back, by one"
    " of Mailchimp's own forms.",
    "signup_throttled": "The address signed up to many lists lately; Mailchimp holds it back.",
    "throttled": "The address signed up to many lists lately; Mailchimp holds it back.",
    "suppressed": "The address was erased and is wanted nowhere until an owner lifts the suppression.",
    "expired": "The request could not be sent within seven days.",
    "audience_gone": "The audience no longer exists.",
    "mailchimp_refused": "Mailchimp refused the request for a reason that mcsync does not know.",
}  # fmt: skip


async def list_requests(
    resources: Resources, actor: Actor, page: PageParams, *, status: RequestStatus | None,
    list_id: str | None,
) -> RequestPage:  # fmt: skip
    """Requests, newest first, and how many of the last days there are in each status."""
    after = page.after(datetime, UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page_of_requests(
            session, status=status, list_id=list_id, after=after, limit=page.limit + 1
        )
        counts = await repository.count_requests(session, days=COUNTED_DAYS, list_id=list_id)
    shown = rows[: page.limit]
    last = shown[-1] if len(rows) > page.limit else None
    return RequestPage(
        items=[_view(row) for row in shown],
        next_cursor=encode_cursor(last["requested_at"], last["id"]) if last is not None else None,
        counts=counts,
    )


def _view(row: Mapping[str, Any]) -> RequestView:
    code = row["outcome"]
    return RequestView(
        id=row["id"],
        audience_id=row["list_id"],
        via=row["via"],
        source=row["source"],
        wanted=row["wanted"],
        status=row["state"],
        code=code,
        message=_OUTCOME.get(code or "", _STATUS[row["state"]]),
        email=row["email"],
        requested_at=row["requested_at"],
        ended_at=row["done_at"],
        next_attempt_at=row["next_attempt_at"],
        last_error=row["last_error"],
    )
