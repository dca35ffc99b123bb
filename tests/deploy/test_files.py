"""What `compose.yaml`, `deploy/` and the production page say fits what mcsync is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mcsync.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose.yaml"
KUBERNETES = ROOT / "deploy/kubernetes/mcsync.yaml"
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
TIMERS = sorted((ROOT / "deploy/systemd").glob("*.timer"))
PAGE = ROOT / "docs/production.md"

FIELDS = {f"MCSYNC_{name.upper()}" for name in Settings.model_fields}
COMMANDS_ONLY = {"MCSYNC_SERVICE_PASSWORD", "MCSYNC_SOURCE_URL", "MCSYNC_ORG"}
"""Variables that commands read by themselves; no process that serves has them."""
LEFT_OUT = {"MCSYNC_MIGRATION_DATABASE_URL"}
"""Only the job that migrates has the owner's URL."""
KNOWN = FIELDS | COMMANDS_ONLY


def service(name: str) -> str:
    """The text of one service in compose.yaml, or of an `x-` part."""
    found = re.search(
        rf"^(?:  )?{name}:.*\n((?:(?:    |  (?=\S)(?! *{name})).*\n|\s*\n)*)",
        COMPOSE.read_text(),
        re.MULTILINE,
    )
    assert found, name
    return found[0]


class TestCompose:
    def test_every_setting_is_passed_on(self) -> None:
        passed = set(re.findall(r"^ {4}(MCSYNC_\w+):", service("x-service"), re.MULTILINE))
        assert passed == FIELDS - LEFT_OUT

    def test_no_unknown_name(self) -> None:
        assert set(re.findall(r"MCSYNC_[A-Z_]*[A-Z]", COMPOSE.read_text())) <= KNOWN

    def test_ports_are_published_on_the_loopback_unless_told(self) -> None:
        published = re.findall(r'"(\$\{\w+:-[\d.]+\}:[^"]*)"', COMPOSE.read_text())
        assert published == [
            "${BIND_ADDRESS:-127.0.0.1}:${API_PORT:-8000}:8000",
            "${PROXY_BIND_ADDRESS:-0.0.0.0}:80:80",
            "${PROXY_BIND_ADDRESS:-0.0.0.0}:443:443",
        ]
        assert COMPOSE.read_text().count("ports:") == 2

    def test_images_are_pinned(self) -> None:
        images = re.findall(r"image: (\S+)", COMPOSE.read_text())
        assert images
        for image in images:
            assert re.search(r":(local$|\d+\.\d+)", image), image

    def test_no_secret_in_a_command(self) -> None:
        commands = re.findall(
            r"^ {4}command:(.*\n(?: {6}.*\n)*)", COMPOSE.read_text(), re.MULTILINE
        )
        assert len(commands) == 4
        for command in commands:
            assert not re.search(r"(?<!\$)\$\{", command), command

    def test_every_service_has_limits_a_log_that_ends_and_a_grace_period(self) -> None:
        text = COMPOSE.read_text()
        body = text[text.index("\nservices:") : text.index("\nnetworks:")]
        services = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\s*\n)+)", body, re.MULTILINE))
        assert set(services) == {"postgres", "valkey", "migrate", "api", "worker", "proxy"}
        for name, one in services.items():
            assert re.search(r"<<: \*(hardened|service)", one), name
            if name != "migrate":
                assert "mem_limit:" in one, name
                assert "stop_grace_period:" in one, name

    def test_the_worker_is_asked_at_the_port_that_it_opens(self) -> None:
        text = COMPOSE.read_text()
        assert 'command: [worker, --port, "8001"]' in text
        assert "127.0.0.1:8001/health/live" in text


class TestKubernetes:
    def test_names_are_settings(self) -> None:
        # In a comment, the family of names that Kubernetes makes is named.
        lines = [
            line for line in KUBERNETES.read_text().splitlines() if "MCSYNC_API_PORT" not in line
        ]
        assert set(re.findall(r"MCSYNC_[A-Z_]*[A-Z]", "\n".join(lines))) <= KNOWN

    def test_every_pod_is_kept_free_of_service_variables(self) -> None:
        text = KUBERNETES.read_text()
        pods = len(re.findall(r"^ {6}containers:", text, re.MULTILINE))
        assert pods == 3
        assert len(re.findall(r"^ {6}enableServiceLinks: false$", text, re.MULTILINE)) == pods
        assert len(re.findall(r"readOnlyRootFilesystem: true", text)) == pods

    def test_probes_ask_ports_that_are_opened(self) -> None:
        documents = [d for d in KUBERNETES.read_text().split("\n---\n") if "kind: Deployment" in d]
        assert len(documents) == 2
        for document in documents:
            name, port = re.search(
                r"ports: \[\{name: (\w+), containerPort: (\d+)\}\]", document
            ).groups()  # type: ignore[union-attr]
            assert f'--port, "{port}"]' in document
            probes = re.findall(r"httpGet: \{path: (\S+), port: (\w+)\}", document)
            assert probes == [
                ("/health/live", name),
                ("/health/live", name),
                ("/health/ready", name),
            ]


class TestSystemd:
    def test_units_are_those_that_the_page_starts(self) -> None:
        started = set(re.findall(r"mcsync-(\w+)[@. ]", " ".join(
            line for line in PAGE.read_text().splitlines() if line.startswith("systemctl ")
        ) + " "))  # fmt: skip
        assert {unit.stem.removeprefix("mcsync-").rstrip("@") for unit in UNITS} == started

    @pytest.mark.parametrize("timer", TIMERS, ids=lambda timer: timer.stem)
    def test_timers_start_a_unit_that_ends(self, timer: Path) -> None:
        assert "Type=oneshot" in timer.with_suffix(".service").read_text()
        assert f"enable --now {timer.name}" in timer.read_text()

    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
    def test_what_serves_restarts_without_limit(self, unit: Path) -> None:
        text = unit.read_text()
        if "Type=oneshot" in text:
            assert "Restart=" not in text
            return
        assert "Restart=always" in text
        assert "StartLimitIntervalSec=0" in text.partition("[Service]")[0]
        assert "TimeoutStopSec=" in text

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
    @pytest.mark.parametrize("unit", UNITS + TIMERS, ids=lambda unit: unit.name)
    def test_systemd_understands_them(self, unit: Path, tmp_path: Path) -> None:
        program = tmp_path / "mcsync"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        copy = tmp_path / unit.name.replace("@", "@8000")
        if unit in TIMERS:
            shutil.copy(unit.with_suffix(".service"), tmp_path)
        copy.write_text(unit.read_text().replace("/opt/mcsync/bin/mcsync", str(program)))
        answer = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        # It follows references to units of this machine as well: only what it says of ours counts.
        assert [line for line in answer.stderr.splitlines() if copy.name in line] == []


class TestPage:
    def test_names_are_settings(self) -> None:
        assert set(re.findall(r"MCSYNC_[A-Z_]*[A-Z]", PAGE.read_text())) <= KNOWN

    def test_files_that_it_names_are_there(self) -> None:
        links = re.findall(r"\]\((\.\./[^)#]+)\)", PAGE.read_text())
        assert links
        for link in links:
            assert (PAGE.parent / link).exists(), link

    def test_blocks_are_shell(self) -> None:
        blocks = re.findall(
            r"^```(?:sh|text)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
        )
        assert len(blocks) > 10
        for block in blocks:
            subprocess.run(["bash", "-n"], input=block, text=True, check=True, timeout=10)


def test_the_wheel_holds_the_migrations(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--no-index", "--wheel-dir", str(tmp_path), str(ROOT),
        ],
        check=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("mcsync-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    migrations = {
        f"mcsync/migrations/versions/{one.name}"
        for one in (ROOT / "migrations/versions").glob("*.py")
    }
    assert migrations
    assert migrations | {"mcsync/alembic.ini", "mcsync/migrations/env.py"} <= held
