"""``mcsync backup`` and ``mcsync restore``."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcsync.cli.console import (
    AsJson,
    Exit,
    Output,
    ServiceRole,
    explained,
    quiet_logs,
    settings,
)

if TYPE_CHECKING:
    from mcsync.core.db.dump import Backup

PgBin = Annotated[
    Path | None,
    typer.Option(
        "--pg-bin",
        help="The folder with pg_dump and pg_restore; default: the fitting ones that are installed.",
    ),
]


def backup(
    file: Annotated[Path, typer.Argument(help="The new file; an existing one is never replaced.")],
    pg_bin: PgBin = None,
    as_json: AsJson = False,
) -> None:
    """Write a complete backup of the database: uses MCSYNC_MIGRATION_DATABASE_URL.

    The service can go on working. The file appears only when it is complete, with mode 0600. It is
    not encrypted, and the master keys are not in it: keep them elsewhere.
    """
    from mcsync.core.db import dump

    out = Output(as_json)
    made = _done(out, lambda: dump.back_up(_url(), file, pg_bin=pg_bin))
    out.result(
        {"file": str(made.file), "bytes": made.size, "revision": made.revision},
        lambda c: c.print(
            f"Backed up to {made.file} ({made.size:,} bytes, revision {made.revision}).",
            soft_wrap=True, markup=False,
        ),
    )  # fmt: skip


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `mcsync backup` wrote.")],
    service_role: ServiceRole = None,
    pg_bin: PgBin = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database: uses MCSYNC_MIGRATION_DATABASE_URL.

    Stop the APIs and workers first. People erased after the backup are in it again: see
    docs/backups.md before any process is started on the restored database.
    """
    import os

    from mcsync.core.db import dump, migrations

    out = Output(as_json)

    def work() -> Backup:
        url = _url()
        made = dump.restore(url, file, pg_bin=pg_bin)
        if service_role:
            migrations.admit(url, service_role, os.environ.get("MCSYNC_SERVICE_PASSWORD"))
        return made

    made = _done(out, work)
    found = migrations.compared(made.revision)
    state = "current" if found == "ok" else found
    out.result(
        {"file": str(made.file), "revision": made.revision, "state": state},
        lambda c: c.print(f"Restored {made.file}: the database is at revision {made.revision}."),
    )
    if state == "behind":
        out.warn("The backup is of an older version of mcsync: run `mcsync migrate` now.")
    elif state == "ahead":
        out.warn("The backup is of a newer version of mcsync: start no older processes on it.")
    out.warn("Before any process starts, read docs/backups.md: erased people may be back.")


def _url() -> str:
    configuration = settings()
    quiet_logs(configuration)
    return configuration.migration_url


def _done(out: Output, work: Callable[[], Backup]) -> Backup:
    """Does the work; an interruption or SIGTERM ends the programs it started and removes its traces."""
    from mcsync.core.db.dump import BackupRefusedError
    from mcsync.core.db.migrations import UnknownRoleError
    from mcsync.core.db.pg_tools import ToolError, ToolFailedError
    from mcsync.core.logging import redact

    def told() -> Backup:
        try:
            return work()
        except BackupRefusedError as error:
            out.fail(Exit.REFUSED, redact(str(error)), kind="refused")
        except (ToolError, UnknownRoleError) as error:
            out.fail(Exit.NOT_CONFIGURED, str(error), kind="not_configured")
        except ToolFailedError as error:
            out.fail(Exit.FAILED, redact(str(error)), kind="failed")

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return explained(out, told)
    finally:
        signal.signal(signal.SIGTERM, before)
