"""A push that goes on for a while, in an installation in which something happens meanwhile."""

from __future__ import annotations

import httpx

from tests.support.installation import Installation, until

DOMAIN = "acme-works.com"
OPTED_OUT = 7
"""Who opts out in the middle of each story."""


class Push:
    """An installation in the middle of a push of so many calls, one after the other."""

    def __init__(self, there: Installation, calls: int) -> None:
        self.there = there
        self.count = calls * 500
        self.list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
        columns = "entityType,entityId,email,optStatus,consentSource,consentGivenAt"
        rows = (
            f"employee,E{n},e{n}@{DOMAIN},opted_in,form,2026-01-01T00:00:00Z"
            for n in range(self.count)
        )
        there.import_csv([columns, *rows])
        segment = there.mutate(
            "segments.create", name="All", segmentType="employee", audienceId=self.list_id
        )
        there.configure(latency={"baseMs": 1500, "perMemberMs": 0})
        self.run_id = there.mutate("segments.sync", id=segment["id"])["id"]
        self.segment_id = segment["id"]
        until(lambda: self.done() > 0, "the push has begun", seconds=120)

    def done(self) -> int:
        """Changes that are done, as the database knows."""
        return int(self.there.sql(f"select done from sync_runs where id = '{self.run_id}'") or 0)

    def opt_out(self) -> None:
        """Somebody opts out; a caller who is answered 503 tries again, as the answer says."""

        def accepted() -> bool:
            answer = self.there.api.post(
                "/preferences/updateOptStatus",
                json={
                    "entityType": "employee", "entityId": f"E{OPTED_OUT}", "status": "opted_out",
                    "source": "e-mail",
                },
            )  # fmt: skip
            assert answer.status_code in (200, 503), answer.text
            return answer.is_success

        until(accepted, "the opt-out is accepted", seconds=120)

    def ends_well(self, *, seconds: float = 240) -> None:
        """The run ends, the audience is exact, and every process of before is there."""

        def over() -> bool:
            try:
                state = self.there.query("segments.getRun", id=self.run_id)["status"]
            except (AssertionError, httpx.HTTPError):
                return False
            assert state in ("pulling", "planning", "pushing", "succeeded"), state
            return bool(state == "succeeded")

        until(over, "the run succeeded", seconds=seconds)
        wanted = {f"e{n}@{DOMAIN}" for n in range(self.count) if n != OPTED_OUT}
        until(lambda: self.subscribed() == wanted, "the audience is exact", seconds=60)
        self.there.configure(latency={"baseMs": 0, "perMemberMs": 0})
        again = self.there.mutate("segments.sync", id=self.segment_id)["id"]
        counts = self.there.wait_for_run(again, seconds=120)["counts"]
        assert (counts["add"], counts["resubscribe"], counts["failed"]) == (0, 0, 0)
        assert self.subscribed() == wanted
        for process in (*self.there.apis, *self.there.workers):
            assert process.running, process.name

    def subscribed(self) -> set[str]:
        """Who is subscribed at Mailchimp."""
        members = self.there.members(self.list_id)
        return {email for email, member in members.items() if member["status"] == "subscribed"}
