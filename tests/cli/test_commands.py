"""The operator's commands: what they print, what they change, how they end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import openpyxl
import pytest
from typer.testing import CliRunner

from mcsync.cli.app import app
from mcsync.core.settings import Settings

Command = Callable[..., Any]

_CSV = """entityType,entityId,email,firstName,department
employee,E1,one@nordlicht-werke.example,One,Sales
employee,E2,two@nordlicht-werke.example,Two,Sales
employee,E3,broken,Three,Sales
"""


@pytest.fixture
def configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The environment of a configured service, with a wide terminal that is none."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    monkeypatch.setenv("MCSYNC_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(keys))
    monkeypatch.setenv("MCSYNC_MAILCHIMP_URL", settings.mailchimp_url)
    return settings


@pytest.fixture
def mcsync(configured: Settings) -> Command:
    """Runs a command as a script would: answers its JSON; ``code=`` is the exit code expected."""
    runner = CliRunner()

    def command(*arguments: str, code: int = 0) -> Any:
        done = runner.invoke(app, list(arguments))
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        if code:
            return json.loads(done.stderr) if done.stderr.startswith("{") else done.stderr
        return json.loads(done.stdout)

    return command


def _role(superuser_url: str, name: str) -> str:
    """A URL of the same database as a login role that is in no group."""

    async def make() -> None:
        connection = await asyncpg.connect(superuser_url)
        await connection.execute(f"drop role if exists {name}")
        await connection.execute(f"create role {name} login password 'word'")
        await connection.close()

    asyncio.run(make())
    host = superuser_url.split("@", 1)[1]
    return f"postgresql://{name}:word@{host}"


class TestOrganisationsAndTokens:
    def test_a_name_is_a_name(self, mcsync: Command) -> None:
        made = mcsync("org", "create", "  Nordlicht ")
        assert made["name"] == "Nordlicht"
        for name in ("", " ", "a\nb", "x" * 201, made["id"]):
            assert mcsync("org", "create", name, code=4)["error"]["code"] == "invalid_name"
        decomposed = "Cafe\u0301"
        assert mcsync("org", "create", decomposed)["name"] == "Caf\u00e9"
        assert mcsync("org", "create", "CAF\u00c9", code=4)["error"]["code"] == "name_taken"

    def test_an_organisation_is_renamed(self, mcsync: Command) -> None:
        made = mcsync("org", "create", "Nordlicht")
        mcsync("org", "create", "Globex")
        assert mcsync("org", "rename", "nordlicht", "Aurora") == made | {"name": "Aurora"}
        assert mcsync("org", "rename", "Aurora", "globex", code=4)["error"]["code"] == "name_taken"
        assert (
            mcsync("org", "rename", "Nordlicht", "X", code=4)["error"]["code"]
            == "organisation_not_found"
        )
        assert mcsync("org", "rename", made["id"], " ", code=4)["error"]["code"] == "invalid_name"
        assert sorted(row["name"] for row in mcsync("org", "list")) == ["Aurora", "Globex"]

    def test_an_organisation_gets_a_token_that_ends_when_revoked(self, mcsync: Command) -> None:
        made = mcsync("org", "create", "Nordlicht")
        assert [row["name"] for row in mcsync("org", "list")] == ["Nordlicht"]
        token = mcsync("token", "create", "HR system", "--role", "editor", "--days", "30")
        assert token["token"].startswith("mcs_")
        assert token["organisation"] == made["id"]
        listed = mcsync("token", "list")
        assert [(row["name"], row["role"], row["state"]) for row in listed] == [
            ("HR system", "editor", "live")
        ]
        assert token["token"] not in json.dumps(listed)
        mcsync("token", "revoke", token["id"], "--yes")
        assert mcsync("token", "list")[0]["state"] == "revoked"

    def test_each_act_is_in_the_audit(self, mcsync: Command, superuser_url: str) -> None:
        mcsync("org", "create", "Nordlicht")
        token = mcsync("token", "create", "one")
        mcsync("token", "revoke", token["id"], "--yes")

        async def actions() -> list[tuple[str, str]]:
            connection = await asyncpg.connect(superuser_url)
            rows = await connection.fetch(
                "select actor_kind, action from audit_entries order by seq"
            )
            await connection.close()
            return [(row[0], row[1]) for row in rows]

        assert asyncio.run(actions()) == [
            ("cli", "organisation.create"), ("cli", "token.create"), ("cli", "token.revoke"),
        ]  # fmt: skip

    def test_the_audit_is_listed_verified_and_written_to_a_file(
        self, mcsync: Command, tmp_path: Path
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        token = mcsync("token", "create", "one")
        listed = mcsync("audit", "list", "--action", "token.create")
        assert [entry["entityId"] for entry in listed] == [token["id"]]
        verified = mcsync("audit", "verify")
        assert (verified["valid"], verified["entries"]) == (True, 2)
        target = tmp_path / "audit.csv"
        done = CliRunner().invoke(app, ["audit", "export", str(target)])
        assert done.exit_code == 0, done.output
        assert [line.split(",")[0] for line in target.read_text().splitlines()] == ["seq", "1", "2"]
        done = CliRunner().invoke(app, ["audit", "export", "--since", "2099-01-01"])
        assert (done.exit_code, done.stdout) == (0, "")

    def test_errors_have_a_code_and_an_exit_code(self, mcsync: Command) -> None:
        assert mcsync("token", "list", code=4)["error"]["code"] == "organisation_needed"
        mcsync("org", "create", "Nordlicht")
        assert mcsync("org", "create", "NORDLICHT", code=4)["error"]["code"] == "name_taken"
        mcsync("org", "create", "Second")
        assert mcsync("token", "list", code=4)["error"]["code"] == "organisation_needed"
        assert mcsync("token", "list", "--org", "second") == []
        missing = mcsync("token", "list", "--org", "third", code=4)
        assert missing["error"]["code"] == "organisation_not_found"

    def test_what_cannot_be_undone_needs_yes(self, mcsync: Command) -> None:
        mcsync("org", "create", "Nordlicht")
        token = mcsync("token", "create", "one")
        refused = mcsync("token", "revoke", token["id"], code=2)
        assert refused["error"]["code"] == "confirmation_needed"
        assert mcsync("token", "list")[0]["state"] == "live"


class TestContacts:
    def test_a_file_goes_in_and_its_bad_rows_are_reported(
        self, mcsync: Command, tmp_path: Path
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        file = tmp_path / "people.csv"
        file.write_text(_CSV)
        done = CliRunner().invoke(app, ["contacts", "import", str(file)])
        assert done.exit_code == 6
        report = json.loads(done.stdout)
        assert (report["received"], report["created"], report["rejected"]) == (3, 2, 1)
        assert report["rejections"][0]["line"] == 4
        assert "broken" not in done.output
        assert [c["entityId"] for c in mcsync("contacts", "list", "--limit", "1")] == ["E1"]

    def test_statements_of_consent_go_in(self, mcsync: Command, tmp_path: Path) -> None:
        mcsync("org", "create", "Nordlicht")
        people, stated = tmp_path / "people.csv", tmp_path / "stated.csv"
        people.write_text(_CSV)
        CliRunner().invoke(app, ["contacts", "import", str(people)])
        stated.write_text("entityType,entityId,optStatus\nemployee,E1,opted_in\n")
        report = mcsync("preferences", "import", str(stated))
        assert (report["received"], report["optedIn"], report["rejected"]) == (1, 1, 0)
        stated.write_text("entityType,entityId,optStatus\nemployee,E9,opted_in\n")
        done = CliRunner().invoke(app, ["preferences", "import", str(stated)])
        assert done.exit_code == 6
        assert json.loads(done.stdout)["rejections"][0]["code"] == "contact_not_found"
        assert mcsync("preferences", "import", "nowhere.csv", code=2)["error"]["code"] == "no_file"

    def test_a_file_with_other_names_in_another_encoding_goes_in(
        self, mcsync: Command, tmp_path: Path
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        file = tmp_path / "leute.txt"
        file.write_bytes(
            "Nr;E-Mail-Adresse;Straße;Ort\n1;a@n.example;Allee;Köln\n".encode("cp1252")
        )
        said = ["--map", "Nr:entityId", "--map", "E-Mail-Adresse:email", "--set",
                "entityType:employee", "--columns", "Ort"]  # fmt: skip
        refused = CliRunner().invoke(app, ["contacts", "import", str(file), *said])
        assert json.loads(refused.stderr)["error"]["code"] == "not_utf8"
        report = mcsync("contacts", "import", str(file), "--charset", "windows-1252", *said)
        assert (report["created"], report["rejected"]) == (1, 0)
        assert mcsync("contacts", "list")[0]["attributes"] == {"Ort": "Köln"}
        stated = tmp_path / "stated.dat"
        stated.write_text('\n{"Nr":"1","Status":"opted_out"}')
        said = ["--map", "Nr:entityId,Status:optStatus", "--set", "entityType:employee"]
        assert mcsync("preferences", "import", str(stated), *said)["optedOut"] == 1

    def test_a_workbook_goes_in_by_its_suffix_or_its_bytes(
        self, mcsync: Command, tmp_path: Path
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        book = openpyxl.Workbook()
        book.worksheets[0].append(["entityType", "entityId", "email"])
        book.worksheets[0].append(["employee", 7, "a@n.example"])
        for name in ("people.xlsx", "people"):
            book.save(tmp_path / name)
            assert mcsync("contacts", "import", str(tmp_path / name))["received"] == 1
        done = CliRunner().invoke(
            app, ["contacts", "import", "-"], input=(tmp_path / "people").read_bytes()
        )
        assert json.loads(done.stdout)["unchanged"] == 1
        (tmp_path / "old.xlsx").write_text(_CSV)
        refused = CliRunner().invoke(app, ["contacts", "import", str(tmp_path / "old.xlsx")])
        assert json.loads(refused.stderr)["error"]["code"] == "unreadable_spreadsheet"

    def test_a_person_is_explained(self, mcsync: Command, tmp_path: Path) -> None:
        mcsync("org", "create", "Nordlicht")
        file = tmp_path / "people.csv"
        file.write_text(_CSV)
        CliRunner().invoke(app, ["contacts", "import", str(file)])
        by_address = mcsync("contacts", "explain", "ONE@nordlicht-werke.example")
        assert by_address["contacts"][0]["entityId"] == "E1"
        assert by_address["summary"] == "No consent recorded. In none of 0 audiences."
        by_id = mcsync("contacts", "explain", "--type", "employee", "--id", "E1")
        assert by_id["contacts"] == by_address["contacts"]
        unknown = mcsync("contacts", "explain", "nobody@nordlicht-werke.example", code=4)
        assert unknown["error"]["code"] == "contact_not_found"
        assert mcsync("contacts", "explain", code=4)["error"]["code"] == "nothing_to_explain"
        assert len(mcsync("contacts", "list", "--department", "Sales")) == 2

    def test_a_missing_file_is_wrong_usage(self, mcsync: Command) -> None:
        assert mcsync("contacts", "import", "nowhere.csv", code=2)["error"]["code"] == "no_file"


class TestKeys:
    def test_a_generated_key_is_one_that_the_service_takes(self) -> None:
        keys = json.loads(CliRunner().invoke(app, ["keys", "generate"]).stdout)
        Settings.model_validate({"master_keys": keys}).decoded_master_keys()

    def test_a_rotation_moves_every_secret_and_the_old_key_can_go(
        self, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        mcsync("org", "create", "Suedlicht")
        old = json.loads(os.environ["MCSYNC_MASTER_KEYS"])
        new = {"next": base64.b64encode(os.urandom(32)).decode()}
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(old | new))
        monkeypatch.setenv("MCSYNC_MASTER_KEY_ACTIVE", "next")
        states = {row["key"]: (row["secrets"], row["state"]) for row in mcsync("keys", "doctor")}
        assert states == {"next": (0, "active"), "test": (2, "in use")}
        assert mcsync("keys", "rotate")["renewed"] == 2
        assert mcsync("keys", "rotate")["renewed"] == 0
        states = {row["key"]: (row["secrets"], row["state"]) for row in mcsync("keys", "doctor")}
        assert states == {"next": (2, "active"), "test": (0, "may be removed")}
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(new))
        mcsync("token", "create", "still works", "--org", "Nordlicht")

    def test_a_missing_key_is_found(self, mcsync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        mcsync("org", "create", "Nordlicht")
        other = {"other": base64.b64encode(os.urandom(32)).decode()}
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(other))
        done = CliRunner().invoke(app, ["keys", "doctor"])
        assert done.exit_code == 6
        rows = {row["key"]: row for row in json.loads(done.stdout)}
        assert rows["test"]["state"] == "missing"
        assert rows["test"]["unreadable"] == 1
        done = CliRunner().invoke(app, ["doctor"])
        checks = json.loads(done.stdout)["checks"]
        assert any("cannot be opened" in one["detail"] for one in checks)
        assert not any(one["check"].startswith("Mailchimp") for one in checks)


class TestDoctor:
    def test_a_healthy_service(self, mcsync: Command) -> None:
        report = mcsync("doctor")
        assert report["healthy"] is True
        states = {check["check"]: check["state"] for check in report["checks"]}
        assert {
            states[name] for name in ("settings", "database", "role", "migrations", "redis")
        } == {"ok"}
        assert states["workers"] == "warning"

    def test_a_misspelt_setting_is_a_problem_and_the_rest_is_checked(
        self, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An API that is started in this environment would refuse."""
        monkeypatch.setenv("MCSYNC_LOGLEVEL", "INFO")
        done = CliRunner().invoke(app, ["doctor"])
        assert done.exit_code == 6
        checks = json.loads(done.stdout)["checks"]
        (problem,) = [check for check in checks if check["state"] == "problem"]
        assert problem["check"] == "settings"
        assert "Is MCSYNC_LOG_LEVEL meant?" in problem["detail"]
        assert "redis" in {check["check"] for check in checks}

    @pytest.mark.parametrize("command", ["api", "worker", "doctor"])
    def test_all_that_is_wrong_with_the_settings_is_told_at_once(
        self, command: str, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MCSYNC_REDIS_URL")
        monkeypatch.setenv("MCSYNC_LIVE_SLOTS", "many")
        monkeypatch.setenv("MCSYNC_TRUSTED_PROXIES", "10.0.0.5/8")
        monkeypatch.setenv("MCSYNC_FOO", "hidden-word")
        said = mcsync(command, code=3)
        told = str(said)
        for name in ("REDIS_URL", "LIVE_SLOTS", "TRUSTED_PROXIES", "FOO"):
            assert f"MCSYNC_{name}" in told
        assert "hidden-word" not in told

    def test_a_superuser_is_a_problem(
        self, mcsync: Command, superuser_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_DATABASE_URL", superuser_url)
        done = CliRunner().invoke(app, ["doctor"])
        assert done.exit_code == 6
        checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
        assert checks["role"]["state"] == "problem"
        assert "superuser" in checks["role"]["detail"]
        assert checks["role"]["fix"]

    def test_a_role_outside_the_group_is_found_and_told_how_to_get_in(
        self, mcsync: Command, superuser_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_DATABASE_URL", _role(superuser_url, "outsider"))
        done = CliRunner().invoke(app, ["doctor"])
        assert done.exit_code == 6
        checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
        assert "not in the group mcsync_app" in checks["role"]["detail"]
        for name in ("role", "migrations"):
            assert checks[name]["state"] == "problem"
            assert checks[name]["fix"] == "mcsync migrate --service-role outsider"
        said = mcsync("segments", "list", code=3)["error"]
        assert said["code"] == "not_configured"
        assert "permission denied" in said["message"]

    def test_unreachable_servers_are_named_each_with_a_fix(
        self, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:9/x")
        monkeypatch.setenv("MCSYNC_REDIS_URL", "redis://127.0.0.1:9/0")
        done = CliRunner().invoke(app, ["doctor"])
        assert done.exit_code == 6
        problems = [c for c in json.loads(done.stdout)["checks"] if c["state"] == "problem"]
        assert {problem["check"] for problem in problems} == {"database", "redis"}
        assert all(problem["fix"] for problem in problems)
        assert "secret-word" not in done.output

    def test_without_redis_no_connection_is_blamed(
        self, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mcsync("org", "create", "Nordlicht")
        monkeypatch.setenv("MCSYNC_REDIS_URL", "redis://127.0.0.1:9/0")
        done = CliRunner().invoke(app, ["doctor"])
        checks = json.loads(done.stdout)["checks"]
        assert [one["check"] for one in checks if one["state"] == "problem"] == ["redis"]
        assert not any(one["check"].startswith("Mailchimp") for one in checks)


class TestProcesses:
    def test_migrating_twice_changes_nothing(
        self, mcsync: Command, superuser_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_MIGRATION_DATABASE_URL", superuser_url)
        first = mcsync("migrate", "--service-role", "mcsync_service")
        assert mcsync("migrate") == first

    def test_a_role_that_cannot_be_made_is_one_sentence(
        self, mcsync: Command, superuser_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_MIGRATION_DATABASE_URL", superuser_url)
        monkeypatch.delenv("MCSYNC_SERVICE_PASSWORD", raising=False)
        said = str(mcsync("migrate", "--service-role", "nobody_knows", code=3))
        assert "nobody_knows does not exist" in said
        assert "MCSYNC_SERVICE_PASSWORD" in said

    @pytest.mark.parametrize("command", ["api", "worker"])
    def test_half_configured_processes_refuse_and_name_all_that_is_missing(
        self, command: str, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DATABASE_URL", "REDIS_URL", "MASTER_KEYS"):
            monkeypatch.delenv(f"MCSYNC_{name}")
        said = mcsync(command, code=3)
        for name in ("DATABASE_URL", "REDIS_URL", "MASTER_KEYS"):
            assert f"MCSYNC_{name}" in str(said)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda url: url.replace("@", "-wrong@"), "password authentication failed"),
            (lambda url: url + "_of_nobody", "does not exist"),
            (lambda url: url.rsplit("/", 1)[0] + "/postgres", "mcsync migrate"),
        ],
    )
    def test_a_database_that_does_not_fit_is_one_sentence(
        self,
        change: Callable[[str], str],
        words: str,
        mcsync: Command,
        configured: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert configured.database_url is not None
        url = change(configured.database_url.get_secret_value())
        monkeypatch.setenv("MCSYNC_DATABASE_URL", url)
        said = mcsync("org", "list", code=3)["error"]
        assert said["code"] == "not_configured"
        assert words in said["message"]
        assert "sqlalchemy" not in said["message"]

    @pytest.mark.parametrize("command", ["api", "worker", "doctor"])
    def test_keys_that_lost_their_quotes_are_told(
        self, command: str, mcsync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", "{k1:hidden-word}")
        said = str(mcsync(command, code=3))
        assert "MCSYNC_MASTER_KEYS is not JSON" in said
        assert "hidden-word" not in said

    @pytest.mark.parametrize(
        "wrong", [["--port", "99999"], ["--config", "nonsense"], ["--config", '{"nosuch": 1}']]
    )
    def test_a_sandbox_that_cannot_be_is_wrong_usage(self, wrong: list[str]) -> None:
        command = [sys.executable, "-m", "mcsync", "sandbox", *wrong]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

    def test_a_port_that_is_taken_ends_the_api(self, mcsync: Command, unused_tcp_port: int) -> None:
        with socket.create_server(("127.0.0.1", unused_tcp_port)):
            command = [sys.executable, "-m", "mcsync", "api", "--port", str(unused_tcp_port)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "address already in use" in done.stderr
        _all_are_log_lines(done.stderr)

    @pytest.mark.parametrize(
        "wrong", [{"MCSYNC_REDIS_URL": ""}, {"MCSYNC_MASTER_KEYS": "{k"}, {"MCSYNC_LOG_LEVEL": "x"}]
    )
    @pytest.mark.parametrize("command", ["api", "worker"])
    def test_why_a_process_does_not_start_is_a_line_of_its_log(
        self, command: str, wrong: dict[str, str], mcsync: Command
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mcsync", command],
            env=os.environ | wrong, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        lines = _all_are_log_lines(done.stderr)
        assert [line["event"] for line in lines] == ["start_failed"]
        assert (lines[0]["exit_code"], done.returncode) == (3, 3)
        assert next(iter(wrong)) in lines[0]["message"]

    def test_a_stale_openapi_document_is_found(self, tmp_path: Path) -> None:
        file = tmp_path / "openapi.json"
        runner = CliRunner()
        document = runner.invoke(app, ["openapi"])
        assert document.exit_code == 0
        file.write_text(document.stdout)
        assert runner.invoke(app, ["openapi", "--check", "--file", str(file)]).exit_code == 0
        file.write_text(document.stdout.replace("segments", "sections"))
        assert runner.invoke(app, ["openapi", "--check", "--file", str(file)]).exit_code == 6


def _all_are_log_lines(text: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"level", "timestamp", "event"} <= line.keys()
    return lines


def test_every_command_explains_itself() -> None:
    import typer.main

    def walk(command: Any, path: list[str]) -> None:
        done = CliRunner().invoke(app, [*path, "--help"])
        assert done.exit_code == 0
        assert command.help, path
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*path, name])

    walk(typer.main.get_command(app), [])
