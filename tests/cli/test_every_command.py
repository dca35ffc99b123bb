"""Every command with every option, against the whole stack: for people and for scripts, and never a traceback."""

from __future__ import annotations

import csv
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from mcsync.cli.app import app
from tests.cli.terminal import Ended, call
from tests.support.installation import until
from tests.support.stack import Stack

PEOPLE: Final = 30


@dataclass(frozen=True)
class Case:
    """A command line. It runs at a terminal and, with ``--json`` where there is such an option, in a script.

    ``again`` is the line of the second run where the first one cannot be repeated, ``saves`` what later
    lines may name in braces: name -> key of the result.
    """

    line: str
    code: int = 0
    again: str | None = None
    saves: dict[str, str] = field(default_factory=dict)
    typed: str = ""


# Each line runs after those above it. {names} are filled in from the world and from earlier results.
CASES: Final = (
    Case("org create '[/b] :smile: one'", again="org create '[bold]two'", saves={"org": "id"}),
    Case("org rename '[bold]two' '[/]three'", again="org rename {org} '[/i]four'"),
    Case("org list"),
    Case("token create '[/red]' --role viewer --days 3 --org {home}"),
    Case("token create form --publishable --audience {audience} --org {home}", saves={"token": "id"}),
    Case("token list --org {home}"),
    Case("token revoke {token} --in-minutes 5 -y --org {home}"),
    Case(
        "contacts import {csv} --charset utf-8 --map Dept:department --map Odd: --set entityType:employee"
        " --columns Floor --confirm-withdrawals --time-zone Europe/Berlin --org {home}"
    ),
    Case("contacts import - --no-confirm-withdrawals --org {home}", 6,
         typed="entityType,entityId,email\nemployee,X1,nobody\n"),
    Case("contacts list --limit 3 --department '[/]Sales' --location Here --search p --include-left"
         " --org {home}"),
    Case("contacts list --no-include-left --org {home}"),
    Case("contacts explain p1@corp.example --org {home}"),
    Case("contacts explain --type employee --id P1 --org {home}"),
    Case(
        "preferences import {stated} --charset utf-8 --map Odd: --set entityType:employee --columns entityId"
        " --confirm-withdrawals --time-zone Europe/Berlin --org {home}"
    ),
    Case("preferences import - --no-confirm-withdrawals --org {home}", 6,
         typed="entityType,entityId,optStatus\nemployee,X9,opted_in\n"),
    Case("segments list --org {home}"),
    Case("segments preview '[/b]All' --sample 3 --org {home}"),
    Case("segments sync {segment} --dry-run --org {home}"),
    Case("segments sync '[/b]ALL' --watch --org {home}", saves={"run": "id"}),
    Case("runs list --segment {segment} --status succeeded --limit 5 --org {home}"),
    Case("runs list --status nonsense --org {home}", 4),
    Case("runs show {run} --changes 5 --org {home}"),
    Case("runs approve {run} -y --org {home}", 4),
    Case("runs cancel {run} -y --org {home}", 4),
    Case("webhooks list --org {home}"),
    Case("webhooks check --org {home}", 4),
    Case("webhooks rotate {audience} -y --org {home}", 4),
    Case("erasures list --open --limit 5 --org {home}"),
    Case("erasures show {erasure} --org {home}"),
    Case("erasures verify {receipt} --key unknown --org {home}", 6),
    Case("erasures verify {receipt} --ours --org {home}", 6),
    Case("erasures export {folder}/erased.ndjson"),
    Case("erasures export"),
    Case("erasures replay {folder}/erased.ndjson"),
    Case("audit list --limit 3 --action segments.create --actor nobody --entity {segment}"
         " --since 2026-01-01 --until 2099-01-01T10:00:00 --org {home}"),
    Case("audit list --org {home}"),
    Case("audit verify --org {home}"),
    Case("audit export {folder}/audit.csv --csv --action segments.create --actor nobody"
         " --entity {segment} --since 2026-01-01 --until 2099-01-01 --org {home}"),
    Case("audit export --org {home}"),
    Case(
        "sources add '[/b]a' --mode watermark --url sqlite:///{sqlite} --query-file {query}"
        " --watermark changed --overlap 5 --map entityId=no --map email=mail --set entityType=employee"
        " --timeout 10 --time-zone Europe/Berlin --check --org {home}",
        again="sources add b --url - --query 'select no, mail from people' --map entityId=no --snapshot"
        " --map email=mail --set entityType=employee --no-check --no-snapshot --org {home}",
        typed="sqlite:///{sqlite}\n",
    ),
    Case(
        "sources add q --mode queue --url sqlite:///{sqlite} --query 'select no, mail from people'"
        " --key no --acknowledge 'delete from people where no = :key' --map entityId=no"
        " --map email=mail --set entityType=employee --org {home}",
        again="sources list --org {home}",
    ),
    Case("sources list --org {home}"),
    Case("sources test b --rows 2 --org {home}"),
    Case("sources pull b --from-start --confirm-withdrawals --confirm-deletions --org {home}"),
    Case("sources pull b --no-from-start --no-confirm-withdrawals --no-confirm-deletions --org {home}"),
    Case("sources remove '[/b]a' -y --org {home}", again="sources remove b -y --org {home}"),
    Case("campaigns available --search News --limit 5 --org {home}"),
    Case("campaigns track {campaign} --org {home}", again="campaigns list --org {home}"),
    Case("campaigns list --status draft --search News --org {home}"),
    Case("campaigns refresh --org {home}"),
    Case("campaigns refresh {campaign} --org {home}"),
    Case("campaigns history {campaign} --org {home}"),
    Case("campaigns history {campaign} --svg --org {home}"),
    Case("campaigns untrack {campaign} -y --org {home}", again="campaigns list --org {home}"),
    Case(
        "transactional send --to a@corp.example --cc b@corp.example --bcc c@corp.example"
        " --from us@corp.example --from-name '[/b]Us' --subject '[/b]Hi' --html-file {html} --text Hi"
        " --var A=1 --tag news --attach {html} --at {soon} --key '[/b]k' --org {home}",
        saves={"message": "id"},
    ),
    Case("transactional send --to a@corp.example --template none --region A=1 --at {soon}"
         " --org {home}"),
    Case("transactional list --status queued --tag news --email a@corp.example --limit 5 --org {home}"),
    Case("transactional list --org {home}"),
    Case("transactional show {message} --org {home}"),
    Case("transactional resend {message} -y --org {home}", 4),
    Case("transactional cancel {message} -y --org {home}",
         again="transactional show {message} --org {home}"),
    Case("transactional templates --label x --org {home}"),
    Case("keys generate --name k9"),
    Case("keys doctor"),
    Case("keys rotate"),
    Case("doctor --org {home} --every-account"),
    Case("doctor --offline"),
    Case("probe --domain probe.example --audience {audience} --org {home}", again="keys doctor"),
    Case("openapi"),
    Case("openapi --check --file {openapi}"),
    Case("migrate --service-role mcsync_service --wait 5"),
)  # fmt: skip

ELSEWHERE: Final = {
    "api": "tests/core/web, tests/drills: as a process",
    "worker": "tests/drills: as a process",
    "backup": "tests/core/db/test_backups.py",
    "restore": "tests/core/db/test_backups.py",
    "sandbox": "tests/support/sandbox.py: as a process",
    "dev": "tests/support/stack.py: as a process",
    "demo": "tests/e2e: as a process",
}
"""Commands that are processes of their own, or need servers of their own: where they run."""


def _leaves() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(command: Any, path: list[str]) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found[" ".join(path)] = command
            return
        for name in children:
            walk(children[name], [*path, name])

    walk(typer.main.get_command(app), [])
    return found


def test_every_command_and_option_has_a_case() -> None:
    called: dict[str, set[str]] = {}
    leaves = _leaves()
    for case in CASES:
        for line in (case.line, case.again or ""):
            words = shlex.split(line)
            name = " ".join(words[:2]) if " ".join(words[:2]) in leaves else " ".join(words[:1])
            called.setdefault(name, {"--json"}).update(w for w in words if w.startswith("-"))
    missing = []
    for name, command in leaves.items():
        if name in ELSEWHERE:
            continue
        if name not in called:
            missing.append(name)
            continue
        for option in command.params:
            if option.param_type_name != "option" or option.name == "help" or option.hidden:
                continue
            wanted = (
                [*option.opts, *option.secondary_opts] if option.secondary_opts else option.opts
            )
            used = [word for word in wanted if word in called[name]]
            if not used or (option.secondary_opts and len(used) < len(wanted)):
                missing.append(f"{name} {' '.join(wanted)}")
    assert missing == []
    assert set(called) - {""} <= set(leaves)
    assert set(ELSEWHERE) <= set(leaves)


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.name == name
        assert command.help


def test_the_page_lists_every_command_and_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    parts = {part.split("\n", 1)[0]: part for part in page.split("\n## mcsync ")[1:]}
    leaves = _leaves()
    assert list(parts) == list(leaves)
    for name, command in leaves.items():
        plain = " ".join(parts[name].split())
        assert " ".join(command.help.split()) in plain, name
        for one in command.params:
            if one.name != "help" and not getattr(one, "hidden", False):
                for option in [*one.opts, *one.secondary_opts]:
                    assert one.param_type_name == "argument" or f"`{option}`" in plain, (
                        name,
                        option,
                    )


# ------------------------------------------------------------------------------------ the world


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("tour") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def environment(there: Stack) -> dict[str, str]:
    (file,) = [arg for arg in there.process.args if isinstance(arg, str) and arg.endswith("/data")]  # type: ignore[union-attr]
    lines = [shlex.split(line)[1] for line in (Path(file) / "env").read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines) | {
        "MCSYNC_MIGRATION_DATABASE_URL": there.ready["databaseUrl"]
    }


@pytest.fixture(scope="module")
def world(there: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    with (folder / "people.csv").open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["entityId", "email", "firstName", "Dept", "location", "Floor", "Odd", "optStatus",
                       "consentSource", "consentGivenAt"])  # fmt: skip
        for n in range(PEOPLE):
            rows.writerow([f"P{n}", f"p{n}@corp.example", "[/b]", "[/]Sales", "Here", n, "", "opted_in",
                           "form", "2025-01-01T10:00:00Z"])  # fmt: skip
    (folder / "stated.csv").write_text("entityId,optStatus,Odd\nP1,opted_out,\n")
    (folder / "query.sql").write_text("select no, mail, changed from people")
    (folder / "page.html").write_text("<p>Hi</p>")
    (folder / "receipt.json").write_text("{}")
    with sqlite3.connect(folder / "hr.db") as database:
        database.execute("create table people (no text, mail text, changed integer)")
        database.execute("insert into people values ('S1', 's1@corp.example', 1)")
    database.close()
    audience = there.query("connection.listAudiences")["items"][0]["audienceId"]
    there.import_csv(["entityType,entityId,email", "employee,Gone,gone@corp.example"])
    segment = there.mutate(
        "segments.create", name="[/b]All", segmentType="employee", audienceId=audience
    )
    erasure = there.mutate("preferences.gdprDelete", entityType="employee", entityId="Gone")
    (campaign,) = there.sandbox(
        "/campaigns",
        listId=audience,
        count=1,
        status="save",
        title="News [/b]",
        subject="News",
        type="regular",
        agoSeconds=3600,
        inSeconds=3600,
    )["campaigns"]
    return {
        "home": there.ready["organisation"],
        "soon": f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%dT%H:%M:%S}", "audience": audience, "segment": segment["id"],
        "erasure": erasure["id"], "campaign": campaign["id"], "folder": str(folder),
        "openapi": str(Path(__file__).parents[2] / "openapi.json"),
        "csv": str(folder / "people.csv"), "stated": str(folder / "stated.csv"),
        "query": str(folder / "query.sql"), "html": str(folder / "page.html"),
        "receipt": str(folder / "receipt.json"), "sqlite": str(folder / "hr.db"),
    }  # fmt: skip


def _filled(text: str, world: dict[str, str]) -> str:
    for name, value in world.items():
        text = text.replace("{" + name + "}", value)
    return text


def _sound(done: Ended, line: str, code: int) -> None:
    assert "Traceback" not in done.stdout + done.stderr, line
    assert done.code == code, (line, done)
    assert "unexpected happened" not in done.stderr, (line, done)


def _keep(names: dict[str, str], case: Case, done: Ended) -> None:
    if "--svg" in case.line:
        assert done.stdout.startswith("<svg")
        return
    for name, key in case.saves.items():
        names[name] = done.json[key]
    assert done.json is not None


@pytest.mark.e2e
@pytest.mark.slow
def test_every_command_runs(
    there: Stack, environment: dict[str, str], world: dict[str, str]
) -> None:
    names = dict(world)
    leaves = _leaves()
    wrong = []
    for case in CASES:
        for terminal, template in ((False, case.again or case.line), (True, case.line))[::-1]:
            words = shlex.split(_filled(template, names))
            leaf = leaves.get(" ".join(words[:2])) or leaves[words[0]]
            as_json = not terminal and any(one.name == "as_json" for one in leaf.params)
            done = call(
                [*words, *(["--json"] if as_json else [])],
                env=environment, terminal=terminal, typed=_filled(case.typed, names).encode(),
            )  # fmt: skip
            try:
                _sound(done, template, case.code)
                if as_json and done.code in {0, 6}:
                    _keep(names, case, done)
                elif as_json:
                    assert done.error["code"]
            except (AssertionError, ValueError, KeyError) as error:
                wrong.append(f"{template} [{'tty' if terminal else 'script'}]: {str(error)[:700]}")
    assert not wrong, "\n\n".join(wrong)


NOWHERE: Final = "01a22fff-0000-7000-8000-000000000000"
REFUSED: Final = (
    (f"org rename {NOWHERE} x", 4),
    ("org rename {home} ''", 4),
    ("org create ''", 4),
    ("token list --org nobody", 4),
    ("token list --org ''", 4),
    (f"token list --org {NOWHERE}", 4),
    ("token create '' --org {home}", 4),
    (f"token create {'x' * 300} --org {{home}}", 4),
    ("token create x --days 99999 --org {home}", 2),
    ("token create x --publishable --org {home}", 2),
    ("token create x --publishable --audience nowhere --org {home}", 4),
    (f"token revoke {NOWHERE} -y --org {{home}}", 4),
    (f"token revoke {NOWHERE} --in-minutes 99999999999999 -y --org {{home}}", 2),
    (f"token revoke {NOWHERE} --json --org {{home}}", 2),
    ("token revoke nothing -y --org {home}", 2),
    ("contacts import nowhere.csv --org {home}", 2),
    ("contacts import {folder} --org {home}", 2),
    ("contacts import {csv} --charset nonsense --org {home}", 4),
    ("contacts import {csv} --map nonsense --org {home}", 4),
    ("contacts import {csv} --set nonsense --org {home}", 4),
    ("contacts import {csv} --time-zone Nowhere --org {home}", 4),
    ("contacts list --limit 0 --org {home}", 2),
    ("contacts list --limit 99999999999999999999999 --org {home}", 0),
    ("contacts explain --org {home}", 4),
    ("contacts explain --type x --id y --org {home}", 4),
    ("contacts explain nobody --org {home}", 4),
    ("preferences import {receipt} --org {home}", 6),
    ("segments preview nowhere --org {home}", 4),
    ("segments preview '[/b]All' --sample 999 --org {home}", 2),
    ("segments sync nowhere --watch --org {home}", 4),
    ("runs list --segment nowhere --org {home}", 4),
    (f"runs show {NOWHERE} --org {{home}}", 4),
    (f"runs approve {NOWHERE} -y --org {{home}}", 4),
    (f"runs cancel {NOWHERE} -y --org {{home}}", 4),
    ("webhooks rotate nowhere -y --org {home}", 4),
    (f"erasures show {NOWHERE} --org {{home}}", 4),
    ("erasures verify nowhere", 2),
    ("erasures verify {html}", 2),
    ("erasures verify {folder}", 2),
    ("erasures export {folder}/none/x", 2),
    ("erasures export {folder}", 2),
    ("erasures replay {html}", 2),
    ("erasures replay {folder}", 2),
    ("audit list --action nonsense --org {home}", 2),
    ("audit list --since 0001-01-01 --until 9999-12-31 --org {home}", 0),
    ("audit list --limit 99999999999999999999999 --org {home}", 0),
    ("audit export {folder}/none/x --org {home}", 2),
    ("audit export {folder} --org {home}", 2),
    ("sources add x --org {home}", 2),
    ("sources add x --query 'select 1' --json --org {home}", 2),
    ("sources add x --query 'select 1' --url nonsense --org {home}", 4),
    ("sources add x --query 'select 1' --url sqlite:///{folder} --mode nonsense --org {home}", 4),
    ("sources add x --query 'select 1' --url sqlite:///{sqlite} --overlap -1 --org {home}", 4),
    ("sources add x --query 'select 1' --url sqlite:///{sqlite} --map x --org {home}", 2),
    ("sources add x --query 'select 1' --url sqlite:///{sqlite} --map a=b --map a=c --org {home}", 2),
    ("sources add x --query-file {folder} --url sqlite:///{sqlite} --org {home}", 2),
    ("sources add x --query-file {sqlite} --query x --url sqlite:///{sqlite} --org {home}", 2),
    ("sources add x --query 'select 1' --url postgresql://a:b@127.0.0.1:9/x --org {home}", 5),
    ("sources test nowhere --org {home}", 4),
    ("sources pull nowhere --org {home}", 4),
    ("sources remove nowhere -y --org {home}", 4),
    ("campaigns list --status nonsense --org {home}", 4),
    ("campaigns track nowhere --org {home}", 4),
    ("campaigns untrack nowhere -y --org {home}", 4),
    ("campaigns refresh nowhere --org {home}", 4),
    ("campaigns history nowhere --org {home}", 4),
    ("transactional send --to nobody --org {home}", 4),
    ("transactional send --to a@corp.example --var x --subject x --text x --org {home}", 2),
    ("transactional send --to a@corp.example --at 9999-12-31 --subject x --text x --org {home}", 4),
    ("transactional send --to a@corp.example --at 0001-01-01 --subject x --text x --org {home}", 2),
    ("transactional send --to a@corp.example --html-file {folder} --org {home}", 2),
    ("transactional send --to a@corp.example --html-file {sqlite} --subject x --org {home}", 2),
    ("transactional list --status nonsense --org {home}", 4),
    (f"transactional show {NOWHERE} --org {{home}}", 4),
    (f"transactional cancel {NOWHERE} -y --org {{home}}", 4),
    (f"transactional resend {NOWHERE} -y --org {{home}}", 4),
    ("doctor --org nobody", 4),
    ("probe --domain 'not a domain' --org {home}", 4),
    ("probe --domain probe.example --audience nowhere --org {home}", 4),
    ("migrate --service-role 'no\"body'", 3),
    ("openapi --check --file {folder}", 2),
    ("openapi --check --file {sqlite}", 6),
    ("backup {csv}", 4),
    ("restore nowhere", 4),
    ("backup {folder}/b --pg-bin {folder}", 3),
    ("nonsense", 2),
    ("org nonsense", 2),
    ("org list --nonsense", 2),
)  # fmt: skip
"""What cannot be done, and the exit code that says so."""


@pytest.mark.e2e
def test_what_cannot_be_done_is_said(environment: dict[str, str], world: dict[str, str]) -> None:
    wrong = []
    for line, code in REFUSED:
        for terminal in (True, False):
            words = shlex.split(_filled(line, world))
            done = call(words, env=environment, terminal=terminal)
            if "Traceback" in done.stderr or done.code != code:
                wrong.append(f"{line} [{terminal}]: {done}"[:600])
            elif code in {1, 3, 4, 5} and not terminal and not done.error["message"]:
                wrong.append(f"{line}: says nothing")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.e2e
def test_an_interrupted_watch_says_that_the_run_goes_on(
    there: Stack, environment: dict[str, str], world: dict[str, str]
) -> None:
    def newest() -> Any:
        found = there.query("segments.listRuns", limit=1)["items"]
        return found[0] if found else {"id": None, "status": "none"}

    before = newest()["id"]
    there.configure(latency={"baseMs": 2000, "perMemberMs": 0})
    try:
        watching = subprocess.Popen(
            [sys.executable, "-m", "mcsync", "segments", "sync", world["segment"], "--watch",
             "--org", world["home"]],
            env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        # a worker has it: the command has long been told its id
        until(
            lambda: newest()["id"] != before and newest()["status"] != "queued", "a run", seconds=60
        )
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=60)[1]
    finally:
        there.configure(latency={"baseMs": 0, "perMemberMs": 0})
    run_id = newest()["id"]
    assert watching.returncode == 130
    assert f"mcsync runs show {run_id}" in " ".join(said.split())
    assert there.wait_for_run(run_id, seconds=60)["status"] in {"succeeded", "awaiting_approval"}
