"""What holds for the repository as a whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mcsync.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_setting_is_in_the_readme_and_nothing_else() -> None:
    table = re.findall(
        r"^\|\s*`MCSYNC_([A-Z0-9_]+)`", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(table) == len(set(table)), "a setting is listed twice"
    # read by the commands themselves, not by the service
    commands_only = {"ORG", "SERVICE_PASSWORD", "SOURCE_URL"}
    assert set(table) - commands_only == {name.upper() for name in Settings.model_fields}


def test_every_setting_explains_itself() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert silent == []


def test_every_ignored_lint_rule_has_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    rules = [line for line in lines if re.match(r'^\s+"[A-Z]{1,4}[0-9]*",?\s*(#.*)?$', line)]
    assert rules
    assert [line for line in rules if "#" not in line] == []


def test_the_pins_have_hashes_and_name_no_place() -> None:
    for name in ("constraints.txt", "requirements.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index-url" not in text
        pins = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE | re.IGNORECASE)
        assert len(pins) == len(set(pins))
        blocks = re.split(r"\n(?=[A-Za-z])", text)
        assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_the_pins_cover_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = set(
        re.findall(r"^([a-z0-9._-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=;! ]", one)[0].lower().replace("_", "-") for one in wanted}
    assert names - {"mcsync"} <= pinned


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
            "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_carries_migrations_examples_licence_and_static_files(
    wheel: zipfile.ZipFile,
) -> None:
    names = set(wheel.namelist())
    assert {
        "mcsync/alembic.ini",
        "mcsync/migrations/env.py",
        "mcsync/examples/contacts.csv",
    } <= names
    checkout = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    shipped = {name.rsplit("/", 1)[1] for name in names if "/migrations/versions/" in name}
    assert shipped == checkout
    static = ROOT / "src" / "mcsync" / "core" / "web" / "static"
    for file in static.rglob("*.*"):
        assert f"mcsync/core/web/static/{file.relative_to(static).as_posix()}" in names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [name for name in names if name.startswith("tests/")]


def test_an_unpacked_wheel_finds_its_migrations(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import json, mcsync; from mcsync.core.db import migrations; "
        "from mcsync.cli.demo import example_contacts; "
        "print(json.dumps([mcsync.__file__, str(migrations.alembic_ini()), migrations.head(),"
        " str(example_contacts())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    places = json.loads(done.stdout)
    assert all(place.startswith(str(tmp_path)) for place in (places[0], places[1], places[3]))
    assert places[2]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    suspicious = re.compile(
        r"(?<![\w.])/(?:home|root|Users)/[a-z]|https?://\S+\.whl\b|://[^/]*pypi"
    )
    found = []
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if not file.is_file() or file.suffix in {".js", ".css", ".png"}:
            continue
        text = file.read_text(errors="ignore")
        if suspicious.search(text) and file != Path(__file__):
            found.append(name)
    assert found == []
