"""Posting events to webhooks over real HTTP, with retries, and on request late, twice or out of order (MC 9)."""

from __future__ import annotations

import asyncio
import time
import urllib.parse
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from mcsync.sandbox.outgoing import webhook_client

from .hook_events import posts_of
from .webhooks import DELIVERED, DROPPED, HELD, LOST, PENDING, Attempt, Delivery, Webhook

if TYPE_CHECKING:
    from .audience import Audience
    from .history import Actor
    from .model import Member
    from .world import World

SIGNATURE = "X-Mailchimp-Signature"
_VALIDATOR = "MailChimp.com WebHook Validator"
_AGENT = "MailChimp.com"
_GONE = 410
_KEPT = 50_000
_ANSWER_KEPT = 200


class Courier:
    """All deliveries of one sandbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deliveries: deque[Delivery] = deque(maxlen=_KEPT)
        self.holding = False
        self.held: list[Delivery] = []
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    # What happened

    def notice(
        self,
        audience: Audience,
        member: Member,
        states: tuple[str, str],
        kind: str,
        actor: Actor,
        *,
        old_email: str,
    ) -> None:
        """A member changed: post what the audience's webhooks are to hear of it."""
        rules = self.world.config.webhooks
        for event, email, fields in posts_of(audience, member, states, kind, old_email, rules):
            self.publish(audience, actor.origin, event, fields, email=email)

    def publish(
        self,
        audience: Audience,
        origin: str,
        event: str,
        fields: Sequence[tuple[str, str]],
        *,
        email: str = "",
    ) -> None:
        """Post an event to every webhook of the audience that wants it; `origin` as in the history."""
        source = {"person": "user", "form": "user", "api": "api"}.get(origin, "admin")
        for hook in list(audience.webhooks.values()):
            if hook.wants(event, source):
                self._post(hook, event, fields, email)

    def _post(
        self, hook: Webhook, event: str, fields: Sequence[tuple[str, str]], email: str
    ) -> None:
        fired = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.world.clock.second()))
        form = [("type", event), ("fired_at", fired), *fields]
        body = urllib.parse.urlencode(form).encode()
        self._dispatch(self._delivery(hook, event, email, body))
        every = self.world.config.webhooks.double_every
        if every and self._count % every == 0:
            original = self.deliveries[-1]
            self._dispatch(self._delivery(hook, event, email, body, original.seq))

    def _delivery(
        self, hook: Webhook, event: str, email: str, body: bytes, repeats: int = 0
    ) -> Delivery:
        if not repeats:
            self._count += 1
        made = Delivery(self.world.history.next_seq(), hook, event, email, body, repeats=repeats)
        self.deliveries.append(made)
        return made

    def _dispatch(self, delivery: Delivery) -> None:
        if self.holding:
            delivery.state = HELD
            self.held.append(delivery)
        else:
            self._start(self._carry(delivery))

    # The control API's acts

    def release(self, order: str) -> int:
        """Let the held deliveries go, one after another, and hold no more; answers how many there were.

        `order` is `fifo`, `reversed` or `shuffled`; ValueError for another.
        """
        if order not in ("fifo", "reversed", "shuffled"):
            raise ValueError("order must be fifo, reversed or shuffled")
        chosen, self.held, self.holding = self.held, [], False
        if order == "reversed":
            chosen.reverse()
        elif order == "shuffled":
            self.world.random.shuffle(chosen)
        for each in chosen:
            each.state = PENDING
        self._start(self._carry_in_order(chosen))
        return len(chosen)

    def repeat(self, delivery: Delivery, times: int) -> None:
        """Post a delivery again as it was, newly signed: what a lost answer makes Mailchimp do."""
        for _ in range(times):
            hook, event, email = delivery.hook, delivery.type, delivery.email
            self._dispatch(self._delivery(hook, event, email, delivery.body, delivery.seq))

    def pending(self) -> int:
        """Deliveries that are on their way or wait for a retry."""
        return sum(each.state == PENDING for each in self.deliveries)

    def stop(self) -> None:
        """Give everything up: the world ends."""
        for task in self._tasks:
            task.cancel()
        client, self._client = self._client, None
        if client is not None:
            self._start(client.aclose())

    # On the way

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_in_order(self, deliveries: Sequence[Delivery]) -> None:
        """First tries in the given order; retries go their own ways."""
        for each in deliveries:
            if not await self._try(each):
                self._start(self._retry(each))

    async def _carry(self, delivery: Delivery) -> None:
        rules = self.world.config.webhooks
        wait = rules.delay_seconds + rules.jitter_seconds * self.world.random.random()
        if wait:
            await asyncio.sleep(wait)
        if not await self._try(delivery):
            await self._retry(delivery)

    async def _retry(self, delivery: Delivery) -> None:
        rules = self.world.config.webhooks
        for seconds in rules.retry_seconds:
            await asyncio.sleep(seconds * rules.retry_scale)
            if await self._try(delivery):
                return
        delivery.state = LOST
        hook = delivery.hook
        hook.losses += 1
        if rules.disable_after and hook.losses >= rules.disable_after:
            self.disable(hook, "persistent failure")

    async def _try(self, delivery: Delivery) -> bool:
        """One try; True if the delivery has come to its end."""
        hook = delivery.hook
        async with hook.slots:
            if hook.disabled or hook.removed:
                delivery.state = DROPPED
                return True
            attempt = await self._attempt(hook, delivery.body)
        delivery.attempts.append(attempt)
        if 200 <= attempt.status < 300:
            delivery.state = DELIVERED
            hook.losses = 0
            return True
        if attempt.status == _GONE:
            delivery.state = LOST
            self.disable(hook, "410 Gone")
            return True
        return False

    async def _attempt(self, hook: Webhook, body: bytes) -> Attempt:
        # Signed with the host's time, since the receiver's clock is not shifted with the sandbox's.
        at = time.time()
        signature = hook.sign(body, int(at))
        headers = {"User-Agent": _AGENT, "Content-Type": "application/x-www-form-urlencoded"}
        if signature:
            headers[SIGNATURE] = signature
        began = time.monotonic()
        status, text = await self._ask("POST", hook.url, headers, body)
        return Attempt(at, status, time.monotonic() - began, signature, text)

    def disable(self, hook: Webhook, reason: str) -> None:
        """No more posts; by default it is not even listed any more ([U], MC 9)."""
        hook.disabled = reason
        audience = self.world.audiences.get(hook.list_id)
        if audience is not None and not self.world.config.webhooks.disabled_listed:
            audience.webhooks.pop(hook.id, None)

    async def probe(self, url: str) -> int:
        """The status that the validator's GET is answered, 0 where there is no answer."""
        return (await self._ask("GET", url, {"User-Agent": _VALIDATOR}, None))[0]

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, str]:
        if self._client is None:
            self._client = webhook_client()
        seconds = self.world.config.webhooks.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(
                    method, url, headers=headers, content=body, timeout=seconds
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            return 0, type(error).__name__
        return answer.status_code, answer.text[:_ANSWER_KEPT]
