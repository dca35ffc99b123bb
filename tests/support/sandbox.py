"""The Mailchimp sandbox as a process of its own, and its control API as typed methods."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import deque
from types import TracebackType
from typing import Any, Literal, Self, cast

import httpx

from tests.support.sandbox_mail import MailControl
from tests.support.sandbox_types import (
    AccountRef,
    AdminAct,
    AttemptEntry,
    CallEntry,
    DeliveryEntry,
    DumpEntry,
    HistoryEntry,
    HookEntry,
    InternalMember,
    ListRef,
    OpenedAccount,
    PersonAct,
    SandboxMetrics,
)

__all__ = [
    "ALL_STAFF",
    "DEFAULT_KEY",
    "SUPPLIERS",
    "AccountRef",
    "AdminAct",
    "AttemptEntry",
    "CallEntry",
    "DeliveryEntry",
    "DumpEntry",
    "HistoryEntry",
    "HookEntry",
    "InternalMember",
    "ListRef",
    "OpenedAccount",
    "PersonAct",
    "SandboxControl",
    "SandboxMetrics",
    "SandboxProcess",
]

DEFAULT_KEY = "5a9d0b0c1e2f3a4b5c6d7e8f90a1b2c3-us1"
"""Key of the account every sandbox starts with; a `reset` brings it back."""

ALL_STAFF = "a1f0c3d2e4"
SUPPLIERS = "b2e1d4c3f5"


class SandboxProcess:
    """`python -m mcsync.sandbox` on a free port, for the length of a `with` block."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self._config = config or {}
        self._process: subprocess.Popen[str] | None = None
        self._complaints: deque[str] = deque(maxlen=200)
        self.url = ""
        """Base URL of the Marketing API, ending in /3.0."""
        self.control = ""
        """Base URL of the control API."""
        self.api_key = ""
        self.mandrill_url = ""
        """Base URL of the Transactional API, ending in /api/1.0."""
        self.mandrill_key = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait for its ready line; RuntimeError with its complaints if it dies first."""
        command = [sys.executable, "-m", "mcsync.sandbox", "--host", "127.0.0.1", "--port", "0"]
        command += ["--config", json.dumps(self._config)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        # Its standard error is read all the time: a full pipe would stop the process.
        threading.Thread(
            target=self._complaints.extend, args=(self._process.stderr,), daemon=True
        ).start()
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"the sandbox did not start: {''.join(self._complaints)}")
        ready = json.loads(line)
        self.url, self.control, self.api_key = ready["url"], ready["control"], ready["apiKey"]
        self.mandrill_url, self.mandrill_key = ready["mandrillUrl"], ready["mandrillKey"]

    def stop(self) -> None:
        """Ask it to stop, and insist if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        """Process id, for measuring its CPU and memory."""
        assert self._process is not None, "not started"
        return self._process.pid


class SandboxControl(MailControl):
    """The control API. Every refusal raises httpx.HTTPStatusError, whose text holds the sandbox's reason."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=120, verify=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return _checked(await self._client.get(path, params=params)).json()

    async def _post(self, path: str, **body: Any) -> Any:
        given = {key: value for key, value in body.items() if value is not None}
        return _checked(await self._client.post(path, json=given)).json()

    # The scene

    async def state(self) -> list[AccountRef]:
        """All accounts."""
        return cast("list[AccountRef]", (await self._get("/state"))["accounts"])

    async def reset(self) -> None:
        """Back to the start: default account, the configuration given at start, real time, empty logs."""
        await self._post("/reset")

    async def open_account(
        self, api_key: str, *, name: str | None = None, lists: list[str] | None = None
    ) -> OpenedAccount:
        """Another account with its own lists."""
        body = await self._post("/accounts", apiKey=api_key, name=name, lists=lists)
        return cast("OpenedAccount", body)

    async def revoke(self, api_key: str) -> None:
        """The key is answered 401 from now on; `rekey` brings the account back."""
        await self._post("/revoke", apiKey=api_key)

    async def rekey(self, api_key: str, new_api_key: str) -> OpenedAccount:
        """The same account under another key."""
        body = await self._post("/rekey", apiKey=api_key, newApiKey=new_api_key)
        return cast("OpenedAccount", body)

    async def delete_list(self, list_id: str) -> None:
        """The list is gone: 404."""
        await self._post(f"/lists/{list_id}/delete")

    async def change_list(
        self,
        list_id: str,
        *,
        name: str | None = None,
        double_optin: bool | None = None,
        marketing_permissions: list[str] | None = None,
    ) -> dict[str, str]:
        """What the owner may set on a list; an empty list of texts switches its GDPR fields off.

        Answers the ids of the GDPR fields with their texts.
        """
        body = {
            "name": name,
            "doubleOptin": double_optin,
            "marketingPermissions": marketing_permissions,
        }
        given = {key: value for key, value in body.items() if value is not None}
        answer = _checked(await self._client.patch(f"/lists/{list_id}", json=given))
        return cast("dict[str, str]", answer.json()["marketingPermissions"])

    async def config(self) -> dict[str, Any]:
        """All settings."""
        return cast("dict[str, Any]", await self._get("/config"))

    async def configure(self, **settings: Any) -> dict[str, Any]:
        """Change settings, named in camelCase: `latency={"baseMs": 5}`, `requireStatus=True`."""
        answer = _checked(await self._client.patch("/config", json=settings))
        return cast("dict[str, Any]", answer.json())

    async def fault(self, kind: str, *, method: str = "", path: str = "", times: int = 1) -> None:
        """The next `times` calls that match answer `kind`; an empty method or path matches all."""
        body = {"kind": kind, "method": method, "path": path, "times": times}
        _checked(await self._client.post("/faults", json=body))

    async def clear_faults(self) -> None:
        """Forget the faults that no call met."""
        _checked(await self._client.delete("/faults"))

    async def advance_clock(self, seconds: float) -> float:
        """Shift the sandbox's time forward; answers what time it is there now."""
        return cast("float", (await self._post("/clock", advanceSeconds=seconds))["now"])

    # People

    async def person(
        self,
        list_id: str,
        email: str,
        act: PersonAct,
        *,
        new_email: str | None = None,
        merge_fields: dict[str, Any] | None = None,
        marketing_permissions: dict[str, bool] | None = None,
        reason: str | None = None,
    ) -> InternalMember | None:
        """What the subscriber does; answers the member afterwards. 409 if the act is not possible."""
        body = await self._post(
            f"/lists/{list_id}/person",
            email=email,
            act=act,
            newEmail=new_email,
            mergeFields=merge_fields,
            marketingPermissions=marketing_permissions,
            reason=reason,
        )
        return cast("InternalMember | None", body["member"])

    async def admin(
        self,
        list_id: str,
        email: str,
        act: AdminAct,
        *,
        tag: str | None = None,
        new_email: str | None = None,
        merge_fields: dict[str, Any] | None = None,
    ) -> InternalMember | None:
        """What the owner's staff does in Mailchimp's pages; answers the member afterwards, None if it is gone."""
        body = await self._post(
            f"/lists/{list_id}/admin",
            email=email,
            act=act,
            tag=tag,
            newEmail=new_email,
            mergeFields=merge_fields,
        )
        return cast("InternalMember | None", body["member"])

    async def seed(
        self,
        list_id: str,
        count: int,
        *,
        prefix: str = "member",
        domain: str = "sandbox.test",
        status: str = "subscribed",
        tag: str | None = None,
    ) -> int:
        """Members `<prefix>0@<domain>` and on; answers how many were made."""
        body = await self._post(
            f"/lists/{list_id}/seed",
            count=count,
            prefix=prefix,
            domain=domain,
            status=status,
            tag=tag,
        )
        return cast("int", body["created"])

    # Questions

    async def members(self, list_id: str, *emails: str) -> list[InternalMember]:
        """The named members as they are held, absent ones left out; all members if none is named."""
        params = {"email": list(emails)} if emails else None
        body = await self._get(f"/lists/{list_id}/members", params)
        return cast("list[InternalMember]", body["members"])

    async def member(self, list_id: str, email: str) -> InternalMember | None:
        """One member, None if it is not in the list."""
        found = await self.members(list_id, email)
        return found[0] if found else None

    async def forgotten(self, list_id: str, *emails: str) -> list[str]:
        """Which of the addresses were permanently deleted."""
        body = await self._get(f"/lists/{list_id}/members", {"email": list(emails)})
        return cast("list[str]", body["forgotten"])

    async def dump(self, list_id: str) -> list[DumpEntry]:
        """Every member, oldest first."""
        text = _checked(await self._client.get(f"/lists/{list_id}/dump")).text
        return [cast("DumpEntry", json.loads(line)) for line in text.splitlines()]

    async def history(
        self, *, email: str | None = None, list_id: str | None = None, since: int | None = None
    ) -> list[HistoryEntry]:
        """Changes of members after the exclusive sequence number `since`, oldest first."""
        params = {"email": email, "listId": list_id, "since": since}
        body = await self._get("/history", {k: v for k, v in params.items() if v is not None})
        return cast("list[HistoryEntry]", body["history"])

    async def calls(self, *, since: int | None = None, write: bool = False) -> list[CallEntry]:
        """API calls after the exclusive sequence number `since`, oldest first; only writes if asked."""
        params = {"since": since, "write": "true" if write else None}
        body = await self._get("/calls", {k: v for k, v in params.items() if v is not None})
        return cast("list[CallEntry]", body["calls"])

    async def seq(self) -> int:
        """The newest sequence number, to be given as `since` later."""
        return cast("int", (await self._get("/metrics/seq"))["seq"])

    # Webhooks

    async def webhooks(self) -> list[HookEntry]:
        """The webhooks of all lists, with their secrets; disabled ones only where they stay listed."""
        return cast("list[HookEntry]", (await self._get("/webhooks"))["webhooks"])

    async def deliveries(
        self,
        *,
        list_id: str | None = None,
        type: str | None = None,  # noqa: A002 - Mailchimp's word
        email: str | None = None,
        state: str | None = None,
        since: int | None = None,
    ) -> list[DeliveryEntry]:
        """Posts to webhooks after the exclusive sequence number `since`, oldest first."""
        params = {
            "listId": list_id,
            "type": type,
            "email": email,
            "state": state,
            "since": since,
        }
        given = {key: value for key, value in params.items() if value is not None}
        body = await self._get("/webhooks/deliveries", given)
        return cast("list[DeliveryEntry]", body["deliveries"])

    async def delivered(self, *, timeout: float = 30.0) -> None:
        """Wait until no post is under way or waits for a retry; held ones do not count. TimeoutError."""
        async with asyncio.timeout(timeout):
            while (await self._get("/webhooks"))["pending"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def hold_deliveries(self) -> None:
        """Posts to webhooks are kept back from now on."""
        await self._post("/webhooks/hold")

    async def release_deliveries(
        self, order: Literal["fifo", "reversed", "shuffled"] = "fifo"
    ) -> int:
        """Send what was kept back, one after another, and hold no more; answers how many they are."""
        return cast("int", (await self._post("/webhooks/release", order=order))["released"])

    async def repeat_delivery(self, seq: int, *, times: int = 1) -> None:
        """Send a post again, its body as it was and newly signed."""
        await self._post(f"/webhooks/deliveries/{seq}/repeat", times=times)

    async def metrics(self) -> SandboxMetrics:
        """Counters since the last `reset_metrics`."""
        return cast("SandboxMetrics", await self._get("/metrics"))

    async def reset_metrics(self) -> None:
        """Set the counters to nothing."""
        await self._post("/metrics/reset")


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        text = f"{answer.status_code} {answer.request.url}: {answer.text}"
        raise httpx.HTTPStatusError(text, request=answer.request, response=answer)
    return answer
