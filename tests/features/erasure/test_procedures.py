"""Erasure and access as front ends and operators call them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from mcsync.cli.app import app as commands
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.features.erasure import receipt
from tests.features.erasure import test_receipt
from tests.features.erasure.acts import Acts
from tests.features.sync.world import World, make_world
from tests.support.organisations import make_organisation
from tests.support.sandbox import SandboxControl, SandboxProcess

ADA = "ada.lovelace@acme.example"
AT = "/mailchimp/preferences"


class TestOverHttp:
    async def test_from_the_request_to_the_receipt(
        self, world: World, acts: Acts, api: httpx.AsyncClient
    ) -> None:
        person = await world.contact(ADA)
        body = {"entityType": "employee", "entityId": person}
        shown = await api.get(f"{AT}/exportEntity", params=body)
        assert ADA in shown.text

        asked = await api.post(f"{AT}/gdprDelete", json=body)

        assert asked.status_code == 202
        assert ADA not in asked.text
        assert f'"{person}"' not in asked.text
        where = asked.headers["location"]
        assert (await api.get(where)).json()["status"] == "open"
        listed = (await api.get(f"{AT}/listErasures", params={"status": "open"})).json()["items"]
        assert [one["id"] for one in listed] == [asked.json()["id"]]
        await acts.work((await acts.ask(person)).id, times=2)
        done = (await api.get(where)).json()
        assert done["status"] == "done"
        assert receipt.verify(done).valid
        assert (await api.get(f"{AT}/listErasures", params={"status": "open"})).json() == {
            "items": [], "nextCursor": None
        }  # fmt: skip
        gone = await api.get(f"{AT}/exportEntity", params=body)
        assert gone.json()["code"] == "contact_not_found"

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [({}, 400, "subject_needed"),
         ({"entityType": "vendor", "entityId": "V-1", "email": ADA}, 400, "subject_needed"),
         ({"entityType": "vendor"}, 422, "invalid_request"),
         ({"email": "nobody"}, 400, "invalid_email")],
    )  # fmt: skip
    async def test_nobody_named_is_refused(
        self, api: httpx.AsyncClient, body: dict[str, str], status: int, code: str
    ) -> None:
        answer = await api.post(f"{AT}/gdprDelete", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_a_stored_answer_that_names_the_person_is_erased(
        self, world: World, acts: Acts, api: httpx.AsyncClient
    ) -> None:
        person = await world.contact(ADA)
        body = {"entityType": "employee", "entityId": person}
        keys = [{"Idempotency-Key": key} for key in ("leave-1", f"leave {ADA}".replace(" ", "-"))]
        for key in keys:
            answer = await api.post("/mailchimp/contacts/delete", json=body, headers=key)
            assert ADA in answer.text
        key = {"Idempotency-Key": "erase-1"}
        asked = await api.post(f"{AT}/gdprDelete", json=body, headers=key)

        await acts.work((await acts.ask(person)).id, times=2)

        assert await acts.traces(ADA, f'"{person}"') == []
        again = await api.post("/mailchimp/contacts/delete", json=body, headers=keys[0])
        assert (again.status_code, again.json()["code"]) == (409, "answer_erased")
        again = await api.post(f"{AT}/gdprDelete", json=body, headers=key)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["id"] == asked.json()["id"]


class TestCommands:
    @pytest.fixture
    def run(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Runs a command as a script would; answers its JSON."""
        keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
        assert settings.database_url is not None
        assert settings.redis_url is not None
        monkeypatch.setenv("MCSYNC_DATABASE_URL", settings.database_url.get_secret_value())
        monkeypatch.setenv("MCSYNC_REDIS_URL", settings.redis_url.get_secret_value())
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(keys))

        def command(*arguments: str, code: int = 0) -> Any:
            done = CliRunner().invoke(commands, ["erasures", *arguments])
            assert done.exit_code == code, (done.output, done.stderr, done.exception)
            return json.loads(done.stdout) if done.stdout else done.stderr

        return command

    def test_show_how_far_erasures_are(
        self, run: Any, settings: Settings, sandbox_process: SandboxProcess, tmp_path: Path
    ) -> None:
        async def story() -> str:
            resources = await Resources.build(settings)
            try:
                org = await make_organisation(resources, "Acme")
                async with SandboxControl(sandbox_process.control) as control:
                    world = await make_world(resources, org, control)
                    acts = Acts(world, None)  # type: ignore[arg-type]
                    person = await world.contact(ADA)
                    asked = await acts.ask(person)
                    await acts.work(asked.id, times=2)
                    await acts.ask(await world.contact("bob@acme.example"))
                    return str(asked.id)
            finally:
                await resources.close()

        done = asyncio.run(story())

        assert len(run("list")) == 2
        assert [one["status"] for one in run("list", "--open")] == ["open"]
        shown = run("show", done)
        assert shown["status"] == "done"
        file = tmp_path / "erasure.json"
        file.write_text(json.dumps(shown))
        verdict = run("verify", str(file), "--ours")
        assert verdict["valid"]
        assert verdict["erasureId"] == done
        file.write_text(json.dumps(test_receipt.document()))
        assert run("verify", str(file))["valid"]
        assert not run("verify", str(file), "--ours", code=6)["valid"]

    def test_verify_needs_no_server(self, tmp_path: Path) -> None:
        made = test_receipt.document()
        key = made["receipt"]["publicKey"]
        file = tmp_path / "receipt.json"
        file.write_text(json.dumps(made))
        invoke = CliRunner().invoke
        assert invoke(commands, ["erasures", "verify", str(file), "--key", key]).exit_code == 0
        other = receipt.public_key(bytes(32), test_receipt.ORG)
        assert invoke(commands, ["erasures", "verify", str(file), "--key", other]).exit_code == 6
        file.write_text(file.read_text().replace('"rows": 1', '"rows": 0'))
        assert invoke(commands, ["erasures", "verify", str(file)]).exit_code == 6
        file.write_text("{")
        assert invoke(commands, ["erasures", "verify", str(file)]).exit_code == 2
