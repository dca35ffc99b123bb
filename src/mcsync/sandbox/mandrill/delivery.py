"""Events on their way to webhooks: signed, many at a time, with retries (MC 17.4)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING

import httpx
import orjson

from mcsync.sandbox.outgoing import webhook_client

if TYPE_CHECKING:
    from .model import Hook, Json
    from .post_office import PostOffice

_FIELD = "mandrill_events"
_MOST = 1000
_TEST_KEY = "test-webhook"


def signature(key: str, url: str, params: dict[str, str]) -> str:
    """X-Mandrill-Signature: over the URL and every parameter, sorted by name."""
    signed = url + "".join(name + value for name, value in sorted(params.items()))
    return base64.b64encode(hmac.digest(key.encode(), signed.encode(), hashlib.sha1)).decode()


class Deliveries:
    """The postmen of all webhooks, one each."""

    def __init__(self, office: PostOffice) -> None:
        self.office = office
        self._client: httpx.AsyncClient | None = None
        self._last: set[asyncio.Task[None]] = set()

    def start(self, hook: Hook) -> None:
        """Something waits for this webhook."""
        if hook.task is None or hook.task.done():
            hook.task = asyncio.get_running_loop().create_task(self._serve(hook))

    def stop(self, hooks: Iterable[Hook]) -> None:
        """Give up what is under way."""
        for hook in hooks:
            if hook.task is not None:
                hook.task.cancel()
        client, self._client = self._client, None
        if client is not None:
            task = asyncio.get_running_loop().create_task(client.aclose())
            self._last.add(task)
            task.add_done_callback(self._last.discard)

    async def verify(self, url: str) -> bool:
        """Whether the URL may become a webhook: HEAD, else an empty POST signed with the test key."""
        if await self._ask("HEAD", url, {}, None) == 200:
            return True
        return await self._post(url, _TEST_KEY, []) == 200

    async def _serve(self, hook: Hook) -> None:
        while hook.waiting and not hook.disabled:
            rules = self.office.world.config.mandrill
            await asyncio.sleep(rules.webhook_seconds * rules.webhook_scale)
            batch = hook.waiting[:_MOST]
            status = await self._post(hook.url, hook.auth_key, batch)
            if status == 200:
                del hook.waiting[: len(batch)]
                hook.batches, hook.sent, hook.failures = (
                    hook.batches + 1,
                    hook.sent + len(batch),
                    0,
                )
                hook.last_sent, hook.last_error = self.office.now(), None
                continue
            hook.failures += 1
            hook.last_error = f"HTTP {status}" if status else "no answer"
            hook.disabled = hook.failures > rules.webhook_retries
            if not hook.disabled:
                # Later events wait behind the ones that fail.
                await asyncio.sleep(rules.webhook_retry_seconds * rules.webhook_scale)

    async def _post(self, url: str, key: str, events: list[Json]) -> int:
        form = {_FIELD: orjson.dumps(events).decode()}
        return await self._ask(
            "POST", url, {"X-Mandrill-Signature": signature(key, url, form)}, form
        )

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None
    ) -> int:
        """The status, 0 where there is no answer."""
        if self._client is None:
            self._client = webhook_client()
        seconds = self.office.world.config.mandrill.webhook_timeout_seconds
        headers = {"User-Agent": "Mandrill-Webhook/1.0", **headers}
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(
                    method, url, headers=headers, data=form, timeout=seconds
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
            return 0
        return answer.status_code
