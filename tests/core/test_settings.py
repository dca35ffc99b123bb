"""Settings: what an operator gets wrong, and is told at once."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from mcsync.app import create_app
from mcsync.core.crypto import KeyRing
from mcsync.core.settings import Settings, SettingsError


def _key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


WEAK = {
    "short": base64.b64encode(os.urandom(16)).decode(),
    "not base64": "%%%",
    "all the same": base64.b64encode(b"\x01" * 32).decode(),
    "zeros": base64.b64encode(bytes(32)).decode(),
    "typed": base64.b64encode(b"change-me-change-me-change-me-32").decode(),
    "counted": base64.b64encode(bytes(range(200, 232))).decode(),
    "hex digits": base64.b64encode(os.urandom(16).hex().encode()).decode(),
    "empty": "",
}


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().require_service()
    text = str(caught.value)
    for name in ("MCSYNC_DATABASE_URL", "MCSYNC_REDIS_URL", "MCSYNC_MASTER_KEYS"):
        assert name in text


@pytest.mark.parametrize("name", WEAK)
def test_weak_keys_are_refused_and_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps({"good": _key(), "weak": WEAK[name]}))
    monkeypatch.setenv("MCSYNC_MASTER_KEY_ACTIVE", "good")
    settings = Settings(database_url="postgresql://x", redis_url="redis://x")  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as caught:
        settings.require_service()
    assert "(weak)" in str(caught.value)
    assert len(caught.value.problems) == 1
    assert not WEAK[name] or WEAK[name] not in str(caught.value)
    with pytest.raises(SettingsError):
        KeyRing.from_settings(settings)


def test_environment_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCSYNC_DATABASE_URL", "postgresql://user:hidden-word@host/db")
    monkeypatch.setenv("MCSYNC_REDIS_URL", "redis://host")
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps({"k1": _key()}))
    settings = Settings()
    settings.require_service()
    assert settings.active_key_id == "k1"
    assert settings.migration_url == "postgresql://user:hidden-word@host/db"
    assert "hidden-word" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "hidden-word"),
        ("DATABASE_URL", "mysql://user:hidden-word@host/db"),
        ("DATABASE_URL", "postgresql+psycopg://user:hidden-word@host/db"),
        ("DATABASE_URL", "postgresql://user:hidden-word@host:port/db"),
        ("REDIS_URL", "http://:hidden-word@host"),
        ("REDIS_URL", "redis://:hidden-word@host:port"),
    ],
)
def test_a_url_that_cannot_serve_is_named_and_not_shown(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCSYNC_DATABASE_URL", "postgres://user@host/db")
    monkeypatch.setenv("MCSYNC_REDIS_URL", "rediss://host")
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps({"k1": _key()}))
    Settings().require_service()
    monkeypatch.setenv(f"MCSYNC_{name}", url)
    with pytest.raises(SettingsError) as caught:
        Settings().require_service()
    (problem,) = caught.value.problems
    assert problem.startswith((f"MCSYNC_{name} is not a URL such as", f"MCSYNC_{name}, host 1:"))
    assert "hidden-word" not in problem


def test_several_keys_need_an_active_one_that_exists() -> None:
    keys = {"a": _key(), "b": _key()}
    for active in (None, "c"):
        with pytest.raises(SettingsError, match="MASTER_KEY_ACTIVE"):
            Settings(master_keys=keys, master_key_active=active).decoded_master_keys()  # type: ignore[arg-type]


def test_a_file_named_env_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MCSYNC_REDIS_URL=redis://from-a-file\n")
    monkeypatch.chdir(tmp_path)
    assert Settings().redis_url is None


def test_slots_of_both_lanes_stay_within_mailchimps_ten() -> None:
    (problem,) = [p for p in Settings(slots_per_account=9).service_problems() if "SLOTS" in p]
    assert "together exceed 10" in problem
    assert not [p for p in Settings(slots_per_account=8).service_problems() if "SLOTS" in p]


def test_every_setting_explains_itself() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


async def test_an_api_without_configuration_refuses_to_start() -> None:
    app = create_app()
    with pytest.raises(SettingsError, match="MCSYNC_MASTER_KEYS"):
        async with app.router.lifespan_context(app):
            pass
