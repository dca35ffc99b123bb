"""The Transactional accounts of a sandbox, and what the clock makes of their mails (MC 17.2)."""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import md5
from typing import TYPE_CHECKING, Any

from . import model
from .delivery import Deliveries
from .model import Hook, Mail, Reject, Template

if TYPE_CHECKING:
    from ..config import MandrillRules
    from ..world import World

_REJECTING = {"hard_bounce": "hard-bounce", "spam": "spam", "unsub": "unsub"}


class MailAccount:
    """One account with one key."""

    def __init__(self, office: PostOffice, key: str, username: str) -> None:
        self.office = office
        self.key = key
        self.username = username
        self.id = office.fresh_id("account", key)
        self.created = office.now()
        self.mails: dict[str, Mail] = {}
        self.waiting: list[Mail] = []
        self.templates: dict[str, Template] = {}
        self.rejects: dict[str, Reject] = {}
        self.hooks: dict[int, Hook] = {}
        self.fields: dict[str, int] = {}
        """Metadata names that are indexed, with when they were declared."""
        self.searches: deque[float] = deque()

    @property
    def rules(self) -> MandrillRules:
        return self.office.world.config.mandrill

    # Mails

    def take(self, mail: Mail) -> None:
        """A mail was handed in. What is not refused waits, goes when it is due, or goes at once."""
        self.mails[mail.id] = mail
        if mail.state == model.REJECTED:
            self.emit("reject", mail)
        elif mail.state in (model.SCHEDULED, model.QUEUED):
            self.waiting.append(mail)
            self.office.wake_at(self.leaves(mail))
        elif mail.state == model.SENT:
            self._leave(mail)

    def leaves(self, mail: Mail) -> float:
        """When a waiting mail goes."""
        return mail.due if mail.state == model.SCHEDULED else mail.ts + self.rules.queue_seconds

    def settle(self) -> None:
        """Let go what is due by now."""
        now = self.office.world.clock.now()
        due = [mail for mail in self.waiting if self.leaves(mail) <= now]
        if due:
            self.waiting = [mail for mail in self.waiting if self.leaves(mail) > now]
        for mail in due:
            if reject := self.rejects.get(mail.email.lower()):
                mail.state, mail.reject_reason = model.REJECTED, reject.reason
                self.emit("reject", mail)
            else:
                self._leave(mail)

    def _leave(self, mail: Mail) -> None:
        mail.state = model.SENT
        if mail.due:
            mail.ts = mail.due
        now = self.office.now()
        mail.smtp.append({"ts": now, "type": "sent", "diag": "250 OK"})
        self.emit("send", mail)
        self.emit("delivered", mail)

    def happen(self, mail: Mail, event: str, *, url: str, diag: str) -> None:
        """What the recipient or its server does to a mail that was sent; ValueError for an unknown event."""
        now = self.office.now()
        more: model.Json = {}
        if event in ("open", "click"):
            trace = {"ts": now, "ip": "198.51.100.7", "location": "London, GB", "ua": "Sandbox"}
            more = {"ip": trace["ip"], "user_agent": "Sandbox", "location": None}
            if event == "click":
                mail.clicks.append(trace | {"url": url})
                more["url"] = url
            else:
                mail.opens.append(trace)
        elif event in ("hard_bounce", "soft_bounce"):
            mail.state = model.BOUNCED if event == "hard_bounce" else model.SOFT_BOUNCED
            mail.smtp.append({"ts": now, "type": mail.state, "diag": diag})
        elif event == "deferral":
            mail.smtp.append({"ts": now, "type": "deferred", "diag": diag})
        elif event in ("spam", "unsub"):
            mail.state = event
        elif event != "delivered":
            raise ValueError(f"unknown act: {event}")
        self.emit(event, mail, more)
        if reason := _REJECTING.get(event):
            self.reject(mail.email, reason, diag)

    # The rejects list (MC 17.3)

    def reject(self, email: str, reason: str, detail: str) -> None:
        """Put an address on the list, unless it is there."""
        key = email.lower()
        if key in self.rejects:
            return
        self.rejects[key] = Reject(email, reason, detail, self.office.now())
        self._emit_sync("add", self.rejects[key])

    def unreject(self, email: str) -> bool:
        found = self.rejects.pop(email.lower(), None)
        if found is not None:
            self._emit_sync("remove", found)
        return found is not None

    # Events (MC 17.4)

    def emit(self, event: str, mail: Mail, more: model.Json | None = None) -> None:
        message = mail.info()
        if event in ("hard_bounce", "soft_bounce"):
            message |= {"bounce_description": "bad_mailbox", "diag": mail.smtp[-1]["diag"]}
        entry = {"event": event, "_id": mail.id, "msg": message, "ts": self.office.now()}
        self._post(event, entry | (more or {}))

    def _emit_sync(self, action: str, reject: Reject) -> None:
        entry: model.Json = {
            "type": "blacklist",
            "action": action,
            "reject": reject.view(),
            "ts": self.office.now(),
        }
        self._post("blacklist", entry)

    def _post(self, event: str, entry: model.Json) -> None:
        for hook in self.hooks.values():
            if event in hook.events and not hook.disabled:
                hook.waiting.append(entry)
                self.office.deliveries.start(hook)

    # Metadata (MC 17.2)

    def indexed(self, name: str) -> bool:
        """Whether a search finds this metadata by now."""
        if self.rules.metadata_always_indexed:
            return True
        declared = self.fields.get(name)
        now = self.office.world.clock.now()
        return declared is not None and now >= declared + self.rules.metadata_index_seconds


class PostOffice:
    """All Transactional accounts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deliveries = Deliveries(self)
        self.accounts: list[MailAccount] = []
        self.keys: dict[str, MailAccount] = {}
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.open(world.config.mandrill.key, world.config.mandrill.username)

    def now(self) -> int:
        return self.world.clock.second()

    def next_id(self) -> int:
        """Integers of its own, so that the Marketing side numbers its things as ever."""
        self._serial += 1
        return self._serial

    def fresh_id(self, *parts: object) -> str:
        """32 hex characters, other ones in every run: whoever outlives a sandbox may meet its successor."""
        text = ":".join(map(str, (*parts, self.world.clock.now(), self.next_id())))
        return md5(text.encode(), usedforsecurity=False).hexdigest()

    def open(self, key: str, username: str) -> MailAccount:
        """A new account; ValueError if the key is taken."""
        if key in self.keys:
            raise ValueError("this key belongs to an account already")
        account = MailAccount(self, key, username)
        self.accounts.append(account)
        self.keys[key] = account
        return account

    def account(self, key: str) -> MailAccount:
        """The account of a key, also of a revoked one; the first if none is named. KeyError."""
        for each in self.accounts:
            if key in ("", each.key):
                return each
        raise KeyError("key")

    def find(self, ident: str) -> tuple[MailAccount, Mail] | None:
        """A mail of any account."""
        self.settle()
        for account in self.accounts:
            if mail := account.mails.get(ident):
                return account, mail
        return None

    def settle(self) -> None:
        """Let the clock do its part in every account."""
        for account in self.accounts:
            account.settle()

    def wake_at(self, moment: float) -> None:
        """Look again when a mail is due, so that it goes although nobody asks."""
        loop = asyncio.get_running_loop()
        delay = max(0.0, moment - self.world.clock.now())
        # Remembered here: what uvloop hands out for no delay cannot tell its time.
        if self._timer is not None and self._timer_at <= loop.time() + delay:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = loop.time() + delay
        self._timer = loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.settle()
        leaving = [each.leaves(mail) for each in self.accounts for mail in each.waiting]
        if leaving:
            self.wake_at(min(leaving))

    def stop(self) -> None:
        """Give everything up: the world ends."""
        if self._timer is not None:
            self._timer.cancel()
        self.deliveries.stop(hook for each in self.accounts for hook in each.hooks.values())


def view_of(account: MailAccount, mail: Mail) -> dict[str, Any]:
    """A mail as it really is, for assertions."""
    return {
        "id": mail.id,
        "handIn": mail.hand_in,
        "key": account.key[-4:],
        "at": mail.ts,
        "email": mail.email,
        "type": mail.kind,
        "fromEmail": mail.from_email,
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "template": mail.template,
        "tags": mail.tags,
        "metadata": mail.metadata,
        "attachments": [each["name"] for each in mail.attachments],
        "state": mail.state,
        "sent": mail.state in model.LEFT,
        "rejectReason": mail.reject_reason,
        "queuedReason": mail.queued_reason,
        "sendAt": model.stamp(mail.due) if mail.due else "",
        "opens": len(mail.opens),
        "clicks": len(mail.clicks),
    }
