"""``mcsync erasures export`` and ``mcsync erasures replay``: for the day a backup is restored."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import typer

from mcsync.cli.console import AsJson, Exit, Output, run

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.erasure.replay import Key


def export(
    file: Annotated[Path, typer.Argument(help="Where to; - writes to standard output.")] = Path(
        "-"
    ),
) -> None:
    """Write who was erased, of all organisations, as keyed hashes: one JSON object a line.

    Keep the newest file apart from the database, and give it to `mcsync erasures replay` after a
    backup was restored. An existing file is replaced when the new one is complete.
    """
    from mcsync.cli.administration import organisations
    from mcsync.features.erasure import replay as work_of

    async def work(resources: Resources) -> bytes:
        lines = [
            orjson.dumps(
                {"organisation": one.id, "kind": kind, "key": key, "erasedAt": moment},
                default=str,
                option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z,
            )
            for one in await organisations(resources)
            for (kind, key), moment in await work_of.remembered(resources, one.id)
        ]
        return b"".join(lines)

    lines = run(Output(), work)
    if str(file) == "-":
        sys.stdout.buffer.write(lines)
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_bytes(lines)
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)


def replay(
    file: Annotated[Path, typer.Argument(help="What `export` wrote; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Erase again, after a restore, who was erased since the backup. Safe to repeat.

    Whoever is in the database is erased here at once and at Mailchimp by the workers; the others are
    refused when they come in an import. Exits 6 when something is left to decide.
    """
    from mcsync.cli.administration import operator, organisations
    from mcsync.features.erasure import replay as work_of

    out = Output(as_json)
    wanted = _read(out, file)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        rows = []
        known = {one.id: one.name for one in await organisations(resources)}
        for org_id, keys in wanted.items():
            row: dict[str, Any] = {"organisation": known.get(org_id, str(org_id))}
            if org_id in known:
                done = await work_of.replay(resources, operator(org_id), keys)
                row |= {
                    "remembered": done.remembered, "erased": len(done.erasures),
                    "suppressed": done.suppressed, "held": done.held, "failed": done.failed,
                }  # fmt: skip
            rows.append(row)
        return rows

    rows = run(out, work)
    columns = {
        "organisation": "organisation", "remembered": "known", "erased": "erased again",
        "suppressed": "nobody here", "held": "held by a contact", "failed": "failed",
    }  # fmt: skip
    out.table(rows, columns, empty="The file names nobody.")
    if any(row.get("held") for row in rows):
        out.warn(
            "Addresses held by a contact are wanted nowhere now, and the contact stays: whether it is"
            " the erased person is not known."
        )
    if any("remembered" not in row for row in rows):
        out.warn("Organisations without numbers are not in this database.")
    if any(row.get("failed") for row in rows):
        out.warn("Those that failed are wanted nowhere now. Connect the account, and repeat this.")
    if any("remembered" not in row or row["held"] or row["failed"] for row in rows):
        raise typer.Exit(Exit.ATTENTION)


def _read(out: Output, file: Path) -> dict[UUID, set[Key]]:
    found: dict[UUID, set[Key]] = defaultdict(set)
    number = 0
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        for line in content.splitlines():
            number += 1
            told = orjson.loads(line)
            if told["kind"] not in {"entity", "address"}:
                raise ValueError
            found[UUID(told["organisation"])].add((told["kind"], UUID(told["key"])))
    except OSError as error:
        out.fail(Exit.USAGE, f"{file} cannot be read: {error.strerror}.", kind="unreadable")
    except (ValueError, KeyError, TypeError, AttributeError):
        out.fail(
            Exit.USAGE, f"{file}, line {number}: this is no line that `mcsync erasures export` wrote.",
            kind="unreadable",
        )  # fmt: skip
    return dict(found)
