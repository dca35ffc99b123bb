"""GET /lists/{id}/members: filters, order and paging (MC 4.6)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from .. import problems
from ..changelog import Window
from ..model import digest, unique_email_id
from ..states import ALL, CODES, NOT_ARCHIVED, UNSUBSCRIBED

if TYPE_CHECKING:
    from ..audience import Audience
    from ..exchange import Request
    from ..model import Member

Test = Callable[["Member"], bool]

_SORTS = ("timestamp_opt", "timestamp_signup", "last_changed")


def page_of(audience: Audience, request: Request) -> tuple[list[Member], int]:
    """The page asked for and `total_items`. Filters combine with AND; an offset past the end is an empty page.

    By status and last_changed a page is found by bisection; the rarer filters and orders scan the list. Without a
    `sort_field` the order is that of last_changed too, so that rows shift under offset paging (MC 4.6).
    """
    window = _window(request)
    tests = _tests(audience, request)
    offset, count = request.paging()
    sort = request.query.get("sort_field", "last_changed")
    if sort not in _SORTS:
        raise problems.bad_request(
            "sort_field must be one of timestamp_opt, timestamp_signup, last_changed."
        )
    descending = request.query.get("sort_dir", "ASC").upper() == "DESC"
    if not tests and sort == "last_changed":
        total = _total(audience, window)
        return audience.log.page(window, offset, count, descending=descending), total
    found = audience.log.scan(window, lambda member: all(test(member) for test in tests))
    if sort != "last_changed":
        found.sort(key=attrgetter(sort))
    if descending:
        found.reverse()
    return found[offset : offset + count], len(found)


def _total(audience: Audience, window: Window) -> int:
    if window.after is None and window.before is None:
        return audience.count(window.statuses)
    return audience.log.count(window)


def _window(request: Request) -> Window:
    """Status and last_changed; both bounds are exclusive at the grain of a second (MC 4.6, 18.13)."""
    name = request.query.get("status", "")
    if name and name not in CODES:
        raise problems.bad_request(f"status must be one of {', '.join(CODES)}.")
    if "since_last_campaign" in request.query and not name:
        raise problems.bad_request("Status is required when using since_last_campaign filter.")
    if name:
        statuses: tuple[int, ...] = (CODES[name],)
    else:
        statuses = ALL if request.config.archived_in_default_listing else NOT_ARCHIVED
    after, before = request.time("since_last_changed"), request.time("before_last_changed")
    if "unsubscribed_since" in request.query:
        if statuses != (UNSUBSCRIBED,):
            raise problems.bad_request("unsubscribed_since only works with status=unsubscribed.")
        after = max(after or 0, request.time("unsubscribed_since") or 0)
    return Window(statuses, after, before)


def _tests(audience: Audience, request: Request) -> list[Test]:
    """The filters that need a look at each member."""
    query = request.query
    tests: list[Test] = []
    if kind := query.get("email_type"):
        tests.append(lambda member: member.extras.email_type == kind)
    if request.flag("vip_only"):
        tests.append(lambda member: member.extras.vip)
    if ident := query.get("unique_email_id"):
        tests.append(
            lambda member: unique_email_id(digest(audience.lower(member.email)).hex()) == ident
        )
    if since := request.time("since_timestamp_opt"):
        tests.append(lambda member: member.timestamp_opt > since)
    if before := request.time("before_timestamp_opt"):
        tests.append(lambda member: 0 < member.timestamp_opt < before)
    if wanted := query.get("interest_ids"):
        tests.append(_interest_test(wanted.split(","), query.get("interest_match", "any")))
    return tests


def _interest_test(wanted: list[str], match: str) -> Test:
    def test(member: Member) -> bool:
        has = [member.extras.interests.get(each, False) for each in wanted]
        if match == "all":
            return all(has)
        return not any(has) if match == "none" else any(has)

    return test
