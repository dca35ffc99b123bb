"""The settings of the environment: everything that is wrong is named at once, and no value is shown."""

from __future__ import annotations

import base64
import json
import os

import pytest

from mcsync.core.environment import read_settings, unknown_names
from mcsync.core.settings import Settings, SettingsError

SECRET = "hidden-word"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which a service can run."""
    key = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("MCSYNC_DATABASE_URL", "postgresql://user@host/db")
    monkeypatch.setenv("MCSYNC_REDIS_URL", "redis://host")
    monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps({"k1": key}))
    return monkeypatch


class TestUnknownNames:
    def test_the_name_that_is_meant_is_told(self) -> None:
        names = {
            "MCSYNC_DATABSE_URL": "Is MCSYNC_DATABASE_URL meant?",
            "MCSYNC_ORGANISATION": "Remove it.",
            "MCSYNC_LOGLEVEL": "Is MCSYNC_LOG_LEVEL meant?",
            "mcsync_trusted_proxy": "Is MCSYNC_TRUSTED_PROXIES meant?",
            "MCSYNC_COLOUR_OF_THE_DOOR": "Remove it.",
            "MCSYNC_": "Remove it.",
        }
        for name, advice in names.items():
            assert unknown_names([name]) == [f"{name} is no setting of this version. {advice}"]

    @pytest.mark.parametrize("name", ["MCSYNC_FOO", "MCSYNC_BAR", "MCSYNC_OR1G1N", "MCSYNC_X"])
    def test_the_prefix_makes_no_name_alike(self, name: str) -> None:
        assert unknown_names([name]) == [f"{name} is no setting of this version. Remove it."]

    @pytest.mark.parametrize(
        "name",
        [
            "PATH", "_MCSYNC_COMPLETE", "MCSYNCHRONY", "MCSYNC_DATABASE_URL", "mcsync_redis_url",
            "MCSYNC_ORG", "MCSYNC_SOURCE_URL", "MCSYNC_SERVICE_PASSWORD",
            # what Kubernetes adds where Services are named mcsync and mcsync-api
            "MCSYNC_PORT", "MCSYNC_SERVICE_HOST", "MCSYNC_SERVICE_PORT", "MCSYNC_SERVICE_PORT_HTTP",
            "MCSYNC_PORT_80_TCP_ADDR", "MCSYNC_API_PORT_80_TCP",
        ],
    )  # fmt: skip
    def test_names_that_are_known_or_of_others(self, name: str) -> None:
        assert unknown_names([name]) == []


class TestReading:
    def test_a_sound_environment(self, shell: pytest.MonkeyPatch) -> None:
        reading = read_settings()
        assert (reading.wrong, reading.service_problems()) == ({}, [])
        assert reading.complete() is reading.sound() is reading.settings
        assert set(reading.settings.master_keys) == {"k1"}

    def test_an_empty_environment_is_readable_and_not_complete(self) -> None:
        reading = read_settings()
        reading.sound()
        with pytest.raises(SettingsError) as caught:
            reading.complete()
        assert len(caught.value.problems) == 3

    def test_unreadable_missing_and_senseless_values_are_named_together(
        self, shell: pytest.MonkeyPatch
    ) -> None:
        shell.delenv("MCSYNC_REDIS_URL")
        for name, value in {
            "LOG_LEVEL": "LOUD",
            "RUN_LEASE_SECONDS": "soon",
            "DATABASE_POOL_OVERFLOW": "-1",
            "MASTER_KEYS": "{k1:x}",
            "TRUSTED_PROXIES": "nginx",
            "FORM_ORIGINS": "https://good.example,www.example.com,*",
        }.items():
            shell.setenv(f"MCSYNC_{name}", value)
        problems = read_settings().service_problems()
        assert sorted(problem.split(" ")[0].rstrip(",:") for problem in problems) == [
            "MCSYNC_DATABASE_POOL_OVERFLOW", "MCSYNC_FORM_ORIGINS", "MCSYNC_FORM_ORIGINS",
            "MCSYNC_LOG_LEVEL", "MCSYNC_MASTER_KEYS", "MCSYNC_REDIS_URL",
            "MCSYNC_RUN_LEASE_SECONDS", "MCSYNC_TRUSTED_PROXIES",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "value", "wanted"),
        [
            ("RUN_LEASE_SECONDS", SECRET, "a whole number from 3 to 600."),
            ("RUN_LEASE_SECONDS", "601", "a whole number from 3 to 600."),
            ("DATABASE_POOL_OVERFLOW", SECRET, "a whole number from 0 to 200."),
            ("FULL_PULL_DAYS", "0", "a whole number of at least 1."),
            ("GUARD_REMOVALS_SHARE", "10%", "a number from 0 to 1."),
            ("GUARD_ADDITIONS_SHARE", "-1", "a number of at least 0."),
            ("GUARD_ADDITIONS_SHARE", "nan", "a number of at least 0."),
            ("LOG_LEVEL", SECRET, "one of DEBUG, INFO, WARNING, ERROR."),
            ("LOG_FORMAT", SECRET, "one of json, console."),
        ],
    )
    def test_what_a_value_must_be(
        self, name: str, value: str, wanted: str, shell: pytest.MonkeyPatch
    ) -> None:
        shell.setenv(f"MCSYNC_{name}", value)
        reading = read_settings()
        assert reading.problems == [f"MCSYNC_{name} must be {wanted}"]
        default = Settings.model_fields[name.lower()].default
        assert getattr(reading.settings, name.lower()) == default
        with pytest.raises(SettingsError, match=f"MCSYNC_{name}"):
            reading.sound()

    def test_every_setting_says_what_it_must_be(self, shell: pytest.MonkeyPatch) -> None:
        """A setting of a kind that has no words yet would say `another value`."""
        for name in Settings.model_fields:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(f"MCSYNC_{name.upper()}", SECRET)
                for problem in read_settings().service_problems():
                    assert problem.startswith(f"MCSYNC_{name.upper()}"), problem
                    assert "another value" not in problem
                    assert SECRET not in problem

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (f"{{k1:{SECRET}}}", "is not JSON such as"),
            (f'["{SECRET}"]', "is not a JSON object of texts"),
            (f'{{"k1": {{"{SECRET}": 1}}}}', "is not a JSON object of texts"),
            ('{"k1": 1}', "is not a JSON object of texts"),
            ("[]", "MCSYNC_MASTER_KEYS"),
            ("null", "is not a JSON object of texts"),
            (f'{{"k1": "{SECRET}", "k1": "other"}}', "has one id twice"),
        ],
    )
    def test_master_keys_that_cannot_be_read(
        self, text: str, said: str, shell: pytest.MonkeyPatch
    ) -> None:
        shell.setenv("MCSYNC_MASTER_KEYS", text)
        (problem,) = read_settings().service_problems()
        assert said in problem
        assert SECRET not in problem

    def test_one_unreadable_slot_setting_is_not_compared(self, shell: pytest.MonkeyPatch) -> None:
        shell.setenv("MCSYNC_SLOTS_PER_ACCOUNT", "9")
        shell.setenv("MCSYNC_LIVE_SLOTS", "x")
        (problem,) = read_settings().service_problems()
        assert problem == "MCSYNC_LIVE_SLOTS must be a whole number from 1 to 9."

    def test_fields_that_are_left_out_are_not_read(self, shell: pytest.MonkeyPatch) -> None:
        shell.setenv("MCSYNC_DATABASE_URL", SECRET)
        shell.setenv("MCSYNC_MASTER_KEYS", SECRET)
        shell.setenv("MCSYNC_MAX_BODY_BYTES", "4096")
        without = ("database_url", "master_keys")
        reading = read_settings(without=without)
        assert reading.service_problems(without=without) == []
        assert reading.settings.database_url is None
        assert reading.settings.max_body_bytes == 4096
