"""``mcsync demo``: the whole product from nothing in a minute, over HTTP like any other client."""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from mcsync.cli.console import Exit, Output, explained, print_json
from mcsync.cli.contacts import show_import
from mcsync.cli.demo_more import More, MoreError
from mcsync.cli.dev import stop_signals
from mcsync.cli.progress import RunProgress
from mcsync.cli.tables import make_table

LATENCY = {"latency": {"baseMs": 120, "perMemberMs": 1.5}}
"""The sandbox answers about as fast as Mailchimp does, so that the progress is worth watching."""
RUN_SECONDS = 100.0
WITHDRAWAL_SECONDS = 15.0
MAIL_SECONDS = 20.0
CHANGED = 5
ENDED = {"succeeded", "succeeded_with_errors", "failed", "cancelled", "awaiting_approval"}


class DemoError(RuntimeError):
    """Something did not come out as it must."""


def demo(
    file: Annotated[
        Path | None, typer.Option(help="Contacts to use instead of the example's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Start everything on free ports, sync the example contacts into a sandbox, show what happened."""
    from mcsync.stack import Options, Stack, StackError, StopRequested

    out = Output(as_json)
    out.json = as_json
    for name in [name for name in os.environ if name.upper().startswith("MCSYNC_")]:
        del os.environ[name]  # the shell may be set up for another installation
    source = file or example_contacts()
    if source is None or not source.is_file():
        out.fail(Exit.NOT_CONFIGURED, "The example contacts are missing: give a file with --file.")
    with stop_signals() as stopped, tempfile.TemporaryDirectory(prefix="mcsync-demo-") as folder:
        options = Options(
            data_dir=Path(folder), quiet=True, durable=False, sandbox_settings=LATENCY
        )
        stack = Stack(options, tell=out.note, stop_wanted=stopped)
        Path(folder).chmod(0o711)
        try:
            ready = explained(out, stack.start)
            assert ready.mailchimp_control is not None
            with (
                httpx.Client(base_url=ready.url, timeout=60, headers=_bearer(ready.token)) as api,
                httpx.Client(base_url=ready.mailchimp_control, timeout=30) as mailchimp,
            ):
                summary = Demo(out, api, mailchimp, source, stopped).play(
                    stack.environment, Path(folder)
                )
        except StopRequested:
            raise typer.Exit(130) from None
        except (StackError, DemoError, MoreError, httpx.HTTPError) as error:
            out.fail(Exit.FAILED, str(error), kind="demo_failed")
        finally:
            out.note("Stopping everything")
            stack.stop()
    if as_json:
        print_json(summary)


def example_contacts() -> Path | None:
    """The example file: inside an installed package, or in ``examples/`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parents[1]):
        if (folder / "examples" / "contacts.csv").is_file():
            return folder / "examples" / "contacts.csv"
    return None


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Demo:
    """The story, chapter by chapter; raises :class:`DemoError` where it does not come true."""

    def __init__(
        self,
        out: Output,
        api: httpx.Client,
        mailchimp: httpx.Client,
        source: Path,
        stopped: Callable[[], bool],
    ) -> None:
        self._out = out
        # In JSON, what people read is left out.
        self._console = Console(quiet=True) if out.json else out.console
        self._api = api
        self._mailchimp = mailchimp
        self._source = source
        self._stopped = stopped
        self._began = time.monotonic()

    def play(self, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
        """All chapters; answers the numbers. ``environment`` of the stack's own processes."""
        audiences = self._look_at_the_connection()
        imported = self._import()
        segments = self._create_segments(audiences)
        for segment in segments:
            self._preview(segment)
        first = [self._sync(segment) for segment in segments]
        self._show_runs("What happened", segments, first)
        changed, withdrawn = self._pick(segments[0], first[0])
        before = self._newest_call()
        self._change(changed)
        self._withdraw(withdrawn, before)
        second = [self._sync(segment) for segment in segments]
        self._show_runs("And again", segments, second)
        written = self._check_second(before, first, second)
        mail = self._send_a_mail(changed[0])
        more = More(
            self._console, self._get, self._post, self._mailchimp, environment, folder
        ).play(audiences[0]["audienceId"])
        self._say_goodbye()
        return {
            "imported": imported,
            "runs": [*first, *second],
            "writtenAfterChanges": written,
            **more,
            "mail": mail,
            "seconds": round(time.monotonic() - self._began, 1),
        }

    # ------------------------------------------------------------------------- chapters

    def _look_at_the_connection(self) -> list[dict[str, Any]]:
        self._title("Connected to Mailchimp (a sandbox)")
        connection = self._get("connection/get")
        audiences: list[dict[str, Any]] = self._get("connection/listAudiences")["items"]
        self._console.print(
            f"Account {connection['accountName']!r}, key ending in {connection['keyLast4']}, stored "
            f"encrypted. Audiences: {', '.join(a['name'] for a in audiences)}."
        )
        return audiences

    def _import(self) -> dict[str, Any]:
        self._title(f"Importing {self._source.name}")
        with self._source.open("rb") as file:
            answer = self._api.post(
                "/mailchimp/contacts/import", content=file, headers={"Content-Type": "text/csv"}
            )
        report: dict[str, Any] = self._checked(answer)
        show_import(self._console, report, shown=5)
        if not report["created"]:
            message = "No contact was imported."
            raise DemoError(message)
        return report

    def _create_segments(self, audiences: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._title("Three segments, two of them on one audience")
        staff, other = audiences[0]["audienceId"], audiences[-1]["audienceId"]
        department = self._largest_department()
        wanted = [
            {
                "name": "Staff newsletter",
                "description": "Employees who opted in",
                "segmentType": "employee",
                "audienceId": staff,
                "legalBasis": "consent",
            },
            {
                "name": f"{department} notices",
                "description": "Everybody of one department who did not opt out",
                "segmentType": "employee",
                "audienceId": staff,
                "filters": {"department": [department]},
                "legalBasis": "legitimate_interest",
            },
            {
                "name": "Supplier updates",
                "description": "Vendors who did not opt out",
                "segmentType": "vendor",
                "audienceId": other,
                "legalBasis": "legitimate_interest",
            },
        ]
        segments = [self._post("segments/create", body) for body in wanted]
        rows = [[s["name"], s["segmentType"], s["audienceName"], s["legalBasis"]] for s in segments]
        self._console.print(make_table(("segment", "type", "audience", "basis"), rows))
        return segments

    def _largest_department(self) -> str:
        with self._source.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            count = Counter(
                row.get("department") or "" for row in rows if row.get("entityType") == "employee"
            )
        count.pop("", None)
        if not count:
            message = "The file has no employee with a department."
            raise DemoError(message)
        return count.most_common(1)[0][0]

    def _preview(self, segment: dict[str, Any]) -> None:
        preview = self._post("segments/preview", {"id": segment["id"], "sample": 0})
        counts = preview["counts"]
        self._console.print(
            f"Preview of {segment['name']}: {counts['matched']} match, {counts['add']} would be added, "
            f"{counts['skipped']} skipped"
        )

    def _sync(self, segment: dict[str, Any]) -> dict[str, Any]:
        run: dict[str, Any] = self._post("segments/sync", {"id": segment["id"]})
        deadline = time.monotonic() + RUN_SECONDS
        with RunProgress(self._out.errors, quiet=self._out.json, label=segment["name"]) as progress:
            while True:
                progress.show(run)
                if run["status"] in ENDED:
                    break
                if self._stopped():
                    raise typer.Exit(130)
                if time.monotonic() > deadline:
                    message = f"The sync of {segment['name']} did not end in {RUN_SECONDS:.0f} s."
                    raise DemoError(message)
                time.sleep(0.1)
                run = self._get("segments/getRun", id=run["id"])
        if run["status"] not in {"succeeded", "succeeded_with_errors"}:
            message = f"The sync of {segment['name']} ended as {run['status']}: {run['error']}"
            raise DemoError(message)
        return run

    def _show_runs(
        self, title: str, segments: list[dict[str, Any]], runs: list[dict[str, Any]]
    ) -> None:
        self._title(title)
        columns = {
            "matched": "match", "add": "add", "update": "update", "unsubscribe": "unsub",
            "unchanged": "same", "skipped": "skip",
        }  # fmt: skip
        if any(run["counts"]["failed"] for run in runs):
            columns["failed"] = "fail"
        rows = [
            [segment["name"], *(str(run["counts"][c]) for c in columns), str(run["calls"])]
            for segment, run in zip(segments, runs, strict=True)
        ]
        self._console.print(make_table(("segment", *columns.values(), "calls"), rows))
        reasons = Counter[str]()
        for run in runs:
            reasons.update(run["skippedByReason"])
        if reasons:
            skipped = [[reason, str(n)] for reason, n in reasons.most_common()]
            self._console.print(make_table(("why contacts were skipped", "contacts"), skipped))

    def _pick(
        self, segment: dict[str, Any], run: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Contacts that the first sync has added: some to change, and one to opt out."""
        page = self._get(
            "segments/listChanges", id=run["id"], action="add", state="done", limit=CHANGED + 1
        )
        found = [
            change["contact"] | {"email": change["email"]}
            for change in page["items"]
            if change["contact"]
        ]
        if len(found) <= CHANGED:
            message = f"The sync of {segment['name']} added too few members for the story."
            raise DemoError(message)
        return found[:CHANGED], found[CHANGED]

    def _change(self, contacts: list[dict[str, Any]]) -> None:
        self._title(f"{len(contacts)} people change their name, one opts out")
        body = {
            "contacts": [
                {
                    "entityType": contact["entityType"],
                    "entityId": contact["entityId"],
                    "email": contact["email"],
                    "lastName": f"Newname{number}",
                }
                for number, contact in enumerate(contacts, 1)
            ]
        }
        answer = self._post("contacts/upsert", body)
        self._console.print(f"contacts.upsert: {answer['updated']} updated")
        if answer["updated"] != len(contacts):
            message = f"contacts.upsert changed not {len(contacts)} contacts: {answer}"
            raise DemoError(message)

    def _withdraw(self, contact: dict[str, Any], since: int) -> None:
        began = time.monotonic()
        self._post(
            "preferences/updateOptStatus",
            {
                "entityType": contact["entityType"],
                "entityId": contact["entityId"],
                "status": "opted_out",
                "source": "demo",
            },
        )
        while not self._writes(since):
            if time.monotonic() - began > WITHDRAWAL_SECONDS:
                message = f"The opt-out did not reach Mailchimp in {WITHDRAWAL_SECONDS:.0f} s."
                raise DemoError(message)
            time.sleep(0.05)
        self._console.print(
            f"preferences.updateOptStatus: the opt-out was at Mailchimp {time.monotonic() - began:.1f} s"
            " later, without any sync"
        )

    def _check_second(
        self, since: int, first: list[dict[str, Any]], second: list[dict[str, Any]]
    ) -> int:
        writes = self._writes(since)
        members: int = sum(call["members"] for call in writes)
        before = sum(run["counts"]["done"] for run in first)
        done = sum(run["counts"]["done"] for run in second)
        self._console.print(
            f"The first syncs sent {before} changes. Since then Mailchimp was sent {members} members in "
            f"{len(writes)} calls: the {CHANGED} changed ones and the opt-out. Everybody else was "
            "left in peace."
        )
        if members != CHANGED + 1 or done != CHANGED:
            message = (
                f"{members} members were written and {done} changes done by the second syncs, "
                f"instead of {CHANGED + 1} and {CHANGED}."
            )
            raise DemoError(message)
        return members

    def _send_a_mail(self, contact: dict[str, Any]) -> dict[str, Any]:
        """One transactional message, asked for twice under one key."""
        self._title("A confirmation mail")
        body = {
            "to": [{"email": contact["email"], "mergeVars": {"NAME": "there"}}],
            "fromEmail": "people@nordlicht-werke.example",
            "subject": "Your new name is in the directory",
            "html": "<p>Hello *|NAME|*, it is done.</p>",
            "autoText": True,
            "idempotencyKey": f"demo-{contact['entityId']}",
        }
        began = time.monotonic()
        ids = {self._post("transactional/send", body)["id"] for _ in range(2)}
        mail = self._get("transactional/get", id=min(ids))
        while mail["status"] in ("queued", "sending"):
            if time.monotonic() - began > MAIL_SECONDS:
                message = f"The mail did not leave in {MAIL_SECONDS:.0f} s: {mail['status']}."
                raise DemoError(message)
            time.sleep(0.05)
            mail = self._get("transactional/get", id=mail["id"])
        self._console.print(
            f"transactional.send, twice with one key: {len(ids)} message, handed to Mailchimp "
            f"{mail['handIns']} time; {mail['people'][0]['status']} after "
            f"{time.monotonic() - began:.1f} s"
        )
        if len(ids) != 1 or mail["status"] != "submitted" or mail["handIns"] != 1:
            message = f"The mail did not go out once: {mail['status']}."
            raise DemoError(message)
        return {"status": mail["status"], "recipient": mail["people"][0]["status"]}

    def _say_goodbye(self) -> None:
        self._console.print(
            f"\n[bold green]That was mcsync, in {time.monotonic() - self._began:.0f} seconds.[/] Go on "
            "with:\n"
            "  make dev        the same stack, kept running; open /docs there and paste the token\n"
            "  mcsync --help   the operator's commands\n"
            "  README.md       how to run it for real\n",
            markup=True,
        )

    # -------------------------------------------------------------------------- plumbing

    def _title(self, text: str) -> None:
        self._console.print(f"\n{text}", style="bold")

    def _newest_call(self) -> int:
        answer: dict[str, int] = self._mailchimp.get("metrics/seq").raise_for_status().json()
        return answer["seq"]

    def _writes(self, since: int) -> list[dict[str, Any]]:
        answer = self._mailchimp.get("calls", params={"since": since, "write": "true"})
        calls: list[dict[str, Any]] = answer.raise_for_status().json()["calls"]
        return [call for call in calls if call["members"]]

    def _get(self, procedure: str, **query: str | int) -> Any:
        return self._checked(self._api.get(f"/mailchimp/{procedure}", params=query))

    def _post(self, procedure: str, body: dict[str, Any]) -> Any:
        return self._checked(self._api.post(f"/mailchimp/{procedure}", json=body))

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_error:
            message = (
                f"{answer.request.url.path} answered {answer.status_code}: {answer.text[:500]}"
            )
            raise DemoError(message)
        return answer.json()
