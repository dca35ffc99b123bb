"""``mcsync erasures``: who asked to be forgotten, how far it is, and whether a receipt is genuine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli import replay
from mcsync.cli.administration import acting, choose_organisation
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, run
from mcsync.cli.paging import dumped
from mcsync.cli.tables import make_table
from mcsync.core.web.paging import MAX_LIMIT, PageParams

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.erasure.schemas import ErasureStatus

erasures = typer.Typer(no_args_is_help=True, help="Erasures: requests to be forgotten.")


@erasures.command("list")
def erasures_list(
    open_only: Annotated[bool, typer.Option("--open", help="Only those still under way.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 50,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List erasures, newest first."""
    from mcsync.features.erasure import service

    out = Output(as_json)
    status: ErasureStatus | None = "open" if open_only else None

    async def work(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        page = await service.list_erasures(resources, actor, PageParams(limit, None), status)
        return [dumped(item) for item in page.items]

    columns = {
        "id": "id", "status": "status", "requestedAt": "requested", "completedAt": "completed",
        "openTargets": "open", "lastError": "waits for",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None: preferences.gdprDelete asks for one")


@erasures.command("show")
def erasures_show(
    erasure_id: Annotated[UUID, typer.Argument(help="The erasure's id.")],
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one erasure: stores, targets, and the receipt once it is done.

    Redirect the JSON to a file, and `mcsync erasures verify FILE` checks the receipt in it.
    """
    from mcsync.features.erasure import service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        view = await service.get(resources, actor, erasure_id)
        return dumped(view)

    shown = run(out, work)
    out.result(shown, lambda console: _show(console, shown))


def _show(console: Console, shown: dict[str, Any]) -> None:
    console.print(f"{shown['id']}  {shown['status']}  requested {shown['requestedAt']}")
    if shown["lastError"]:
        console.print(f"waits for: {shown['lastError']}, next try {shown['nextAttemptAt']}")
    for one in shown["sharedAddresses"]:
        console.print(
            f"address {one['address']} is also that of {one['contacts']} other contact(s): "
            "they keep it, and it is wanted nowhere"
        )
    rows = [[s["store"], s["how"], str(s["rows"]), s["what"]] for s in shown["stores"]]
    console.print(make_table(("store", "how", "rows", "what"), rows))
    rows = [
        [t["audienceId"] or "(account)", str(t["address"] or "-"), t["state"],
         " ".join(str(a["status"]) for a in t["deleteAnswers"]) or "-",
         str(t["readBackStatus"] or "-"), t["lastError"] or t["closedReason"] or "-"]
        for t in shown["targets"]
    ]  # fmt: skip
    headings = ("audience", "address", "state", "delete", "read back", "note")
    console.print(make_table(headings, rows))
    if shown["receipt"]:
        console.print(f"signed by {shown['receipt']['publicKey']}: {shown['signature']}")


@erasures.command("verify")
def erasures_verify(
    file: Annotated[Path, typer.Argument(help="The JSON of getErasure; - reads standard input.")],
    key: Annotated[
        str | None, typer.Option(help="The public key that must have signed it, if it is known.")
    ] = None,
    ours: Annotated[
        bool, typer.Option("--ours", help="It must be the key of the organisation here.")
    ] = False,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt. Needs no server, except with --ours. Exits 6 unless it is genuine."""
    from mcsync.features.erasure import receipt

    out = Output(as_json)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError, RecursionError):
        out.fail(Exit.USAGE, f"{file} cannot be read as JSON.", kind="no_receipt")
    if ours:
        key = run(out, lambda resources: _own_key(resources, organisation))
    verdict = receipt.verify(document, expected_key=key)
    told = {
        "valid": verdict.valid,
        "reason": verdict.reason,
        "publicKey": verdict.public_key,
        "erasureId": verdict.receipt.get("erasureId"),
        "completedAt": verdict.receipt.get("completedAt"),
    }

    def human(console: Console) -> None:
        if not verdict.valid:
            console.print(f"Not genuine: {verdict.reason}")
            return
        console.print(f"Genuine: erasure {told['erasureId']}, completed {told['completedAt']}")
        if key is None:
            console.print(f"Signed by {verdict.public_key}; compare it, or say --ours or --key.")

    out.result(told, human)
    if not verdict.valid:
        raise typer.Exit(Exit.ATTENTION)


async def _own_key(resources: Resources, organisation: str | None) -> str:
    from mcsync.features.erasure import receipt

    org_id = (await choose_organisation(resources, organisation)).id
    return receipt.public_key(await resources.hash_keys.hash_key(org_id), org_id)


erasures.command("export")(replay.export)
erasures.command("replay")(replay.replay)
