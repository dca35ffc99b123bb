"""The production pieces: ``api``, ``worker``, ``migrate``, ``openapi``, ``sandbox``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mcsync.cli.console import (
    AsJson,
    Exit,
    Output,
    ServiceRole,
    explained,
    print_text,
    quiet_logs,
    settings,
)

if TYPE_CHECKING:
    from mcsync.core.environment import Reading

IKnow = Annotated[
    bool,
    typer.Option(
        "--i-know", help="Start as a role that row-level security does not bind (owner, superuser)."
    ),
]


def api(
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    trusted_proxies: Annotated[
        str | None,
        typer.Option(
            help="Addresses whose X-Forwarded-* headers are believed; default: MCSYNC_TRUSTED_PROXIES.",
            show_default=False,
        ),
    ] = None,
    i_know: IKnow = False,
    fd: Annotated[
        int | None, typer.Option(hidden=True, help="An inherited socket that listens already.")
    ] = None,
) -> None:
    """Run the API. More load: more of these processes behind a proxy."""
    import uvicorn

    from mcsync.core import network
    from mcsync.core.start import require_start

    out = _Service()
    wrong = network.trusted_proxies_problems(trusted_proxies) if trusted_proxies else []
    if wrong:
        said = "\n".join(f"--trusted-proxies{problem}" for problem in wrong)
        out.fail(Exit.USAGE, said, kind="usage")
    reading = _read()
    check = explained(out, lambda: require_start(reading, "api", os.environ, any_role=i_know))
    from mcsync.app import create_app  # takes a second, for which no refusal should wait

    configuration = reading.settings
    refused: list[Exception] = []

    def refuse(error: Exception) -> None:
        refused.append(error)
        server.should_exit = True

    def not_refused() -> None:
        for error in refused:
            raise error

    config = uvicorn.Config(
        lambda: create_app(configuration, check=check, refuse=refuse),
        factory=True,
        host=host,
        port=port,
        access_log=False,  # mcsync logs requests itself, without what must not be in a log
        log_config=None,
        proxy_headers=True,
        forwarded_allow_ips=network.trusted_proxies(
            trusted_proxies or configuration.trusted_proxies
        ),
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    # KeyboardInterrupt is how uvicorn passes SIGINT on when it is done; SystemExit, a port that is taken.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets=None if fd is None else [socket.socket(fileno=fd)])
    explained(out, not_refused)
    if not server.started:
        raise typer.Exit(Exit.FAILED)


def worker(
    host: Annotated[
        str, typer.Option(help="Interface of the health port; without --port none is opened.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Answer /health/live and /health/ready at this port; 0 takes a free one.",
        ),
    ] = None,
    i_know: IKnow = False,
) -> None:
    """Run a worker: syncs, orders, cron jobs. More load: more of these processes."""
    from mcsync import worker as process
    from mcsync.core.start import require_start
    from mcsync.core.worker_health import PortTakenError

    out = _Service()
    reading = _read()
    check = explained(out, lambda: require_start(reading, "worker", os.environ, any_role=i_know))
    try:
        explained(out, lambda: process.run(reading.settings, host=host, port=port, check=check))
    except PortTakenError as error:
        out.fail(Exit.FAILED, str(error), kind="port_taken")


def _read() -> Reading:
    """The settings, of which some may be wrong, and a log that is set up as far as they can be read."""
    from mcsync.core.environment import read_settings
    from mcsync.core.logging import configure_logging, log_everything

    reading = read_settings()
    configure_logging(reading.settings)
    log_everything()
    return reading


class _Service(Output):
    """Of a process of the service: why it does not start is a line of its log, as all that it says.

    At a terminal, and where the settings ask for it, it is text for people.
    """

    def fail(self, code: Exit, message: str, *, kind: str = "failed") -> NoReturn:
        """Logs ``start_failed`` and ends the process with ``code``."""
        from mcsync.core.logging import log_line

        if sys.stderr.isatty() or os.environ.get("MCSYNC_LOG_FORMAT", "").lower() == "console":
            super().fail(code, message, kind=kind)
        log_line("critical", "start_failed", code=kind, message=message, exit_code=int(code))
        raise typer.Exit(code)


def migrate(
    service_role: ServiceRole = None,
    wait: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seconds to go on trying while others hold a lock that a migration needs. The"
            " service goes on between the tries.",
        ),
    ] = 300,
    as_json: AsJson = False,
) -> None:
    """Bring the database to this version: uses MCSYNC_MIGRATION_DATABASE_URL. Safe to repeat."""
    from mcsync.core.db import migrations

    out = Output(as_json)

    def work() -> str:
        configuration = settings()
        quiet_logs(configuration)
        url = configuration.migration_url
        try:
            revision = migrations.upgrade(
                url,
                patience_seconds=wait,
                on_blocked=lambda who: out.warn(f"Waiting for {who}."),
            )
        except migrations.MigrationBlockedError as error:
            out.fail(Exit.UNAVAILABLE, str(error), kind="locked")
        except migrations.MigrationPooledError as error:
            out.fail(Exit.NOT_CONFIGURED, str(error), kind="not_configured")
        if service_role:
            password = os.environ.get("MCSYNC_SERVICE_PASSWORD")
            try:
                migrations.admit(url, service_role, password)
            except migrations.UnknownRoleError as error:
                out.fail(Exit.NOT_CONFIGURED, str(error), kind="not_configured")
        if revision != migrations.head():
            out.warn("A newer version of mcsync made this revision. It is left as it is.")
        return revision

    at = explained(out, work)
    out.result({"revision": at}, lambda c: c.print(f"The database is at revision {at}."))


def openapi(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with openapi.json instead of printing.")
    ] = False,
    file: Annotated[Path, typer.Option(help="The published document.")] = Path("openapi.json"),
) -> None:
    """Print the OpenAPI document, or check that the published one is fresh."""
    from mcsync.app import create_app
    from mcsync.core.settings import Settings
    from mcsync.core.web.openapi import render_openapi

    document = render_openapi(create_app(Settings.model_construct()))
    if not check:
        print_text(document)
        return
    out = Output(as_json=False)
    published = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    if published != document:
        out.fail(Exit.ATTENTION, f"{file} is not what the code says: run `make openapi`.")
    out.note(f"{file} is fresh.")


def sandbox(
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    config: Annotated[str, typer.Option(help="Settings as a JSON object, camelCase.")] = "{}",
) -> None:
    """Run the Mailchimp emulator; prints a line of JSON with its address and key when ready."""
    os.execv(  # noqa: S606 - the emulator takes this process's place
        sys.executable,
        [
            sys.executable, "-m", "mcsync.sandbox",
            "--host", host, "--port", str(port), "--config", config,
        ],
    )  # fmt: skip
