"""Reports of campaigns that were sent (MC 12)."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from mcsync.mailchimp.caller import decoder
from mcsync.mailchimp.endpoints.base import PAGE_SIZE, Endpoints, timestamp
from mcsync.mailchimp.endpoints.steady import every_row
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.base import Rows
from mcsync.mailchimp.types.report import Report, ReportsPage

REPORT_FIELDS: Final = (
    "id",
    "campaign_title",
    "type",
    "list_id",
    "list_name",
    "subject_line",
    "emails_sent",
    "abuse_reports",
    "unsubscribed",
    "send_time",
    "opens",
    "clicks",
    "bounces",
)
"""What `Report` reads; the rest, mostly a series of hours, is far larger."""


class ReportEndpoints(Endpoints):
    """Calls about reports. Every call raises `MailchimpError`."""

    async def reports_page(
        self,
        *,
        count: int = PAGE_SIZE,
        offset: int = 0,
        since_send_time: datetime | None = None,
        before_send_time: datetime | None = None,
    ) -> ReportsPage:
        """Return one page of reports; their order is Mailchimp's own."""
        params = {
            "count": str(count),
            "offset": str(offset),
            "fields": ",".join((*(f"reports.{name}" for name in REPORT_FIELDS), "total_items")),
        }
        if since_send_time is not None:
            params["since_send_time"] = timestamp(since_send_time)
        if before_send_time is not None:
            params["before_send_time"] = timestamp(before_send_time)
        request = Request("reports.list", "GET", "/reports", params)
        return await self._call(request, decoder(ReportsPage))

    async def iterate_reports(
        self,
        *,
        page_size: int = PAGE_SIZE,
        since_send_time: datetime | None = None,
        before_send_time: datetime | None = None,
    ) -> AsyncIterator[Report]:
        """Yield every report once. Raises `ValueError` for a page size below 2."""

        async def fetch(offset: int, count: int) -> tuple[Rows[Report], int]:
            page = await self.reports_page(
                count=count,
                offset=offset,
                since_send_time=since_send_time,
                before_send_time=before_send_time,
            )
            return page.reports, page.total_items

        async for report in every_row(fetch, page_size):
            yield report

    async def report(self, campaign_id: str) -> Report:
        """Return the report of one campaign; `NotFoundError` where there is none."""
        params = {"exclude_fields": "_links,timeseries"}
        request = Request("reports.get", "GET", path("reports", campaign_id), params)
        return await self._call(request, decoder(Report))
