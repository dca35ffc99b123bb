"""Accounts, their keys and lists; the root of everything a sandbox holds."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from hashlib import md5

from .audience import Audience
from .batch import Batch
from .campaigns import Campaigns
from .clock import Clock
from .config import DEFAULT_KEY, SandboxConfig
from .courier import Courier
from .history import Actor, Change, History, Metrics
from .mandrill.post_office import PostOffice
from .model import Member, Segment

_DEFAULT_ACCOUNT = "5f0c1d2e3b4a59687a8b9c0d"
_DEFAULT_LISTS = ("a1f0c3d2e4", "b2e1d4c3f5")


def _hex(*parts: str, length: int) -> str:
    return md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()[:length]


def split_key(key: str) -> tuple[str, str]:
    """The secret and the data centre of `<secret>-<dc>` (MC 1)."""
    secret, dash, dc = key.rpartition("-")
    return (secret, dc) if dash else (key, "")


class Account:
    """One Mailchimp account. One key is enough here; `rekey` gives it another."""

    __slots__ = (
        "batch_turn",
        "batches",
        "created",
        "dc",
        "id",
        "in_flight",
        "key",
        "lists",
        "name",
    )

    def __init__(self, ident: str, name: str, key: str, created: int) -> None:
        self.id = ident
        self.name = name
        self.key = key
        self.dc = split_key(key)[1]
        self.created = created
        self.lists: dict[str, Audience] = {}
        self.in_flight = 0
        self.batches: dict[str, Batch] = {}
        self.batch_turn = asyncio.Lock()
        """One batch runs at a time per account (MC 10)."""


class World:
    """All state of one sandbox."""

    def __init__(self, config: SandboxConfig) -> None:
        self.initial = config
        self.reset()

    def reset(self) -> None:
        """Back to the start: the default account, the configuration given at start, empty logs."""
        self.config = dataclasses.replace(self.initial)
        self.clock = Clock()
        self.random = random.Random(0)
        self.history = History()
        self.metrics = Metrics()
        self.courier = Courier(self)
        self.campaigns = Campaigns(self)
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, Account] = {}
        self.audiences: dict[str, Audience] = {}
        self._serial = 100_000
        self.mandrill = PostOffice(self)
        standard = self.config.api_key == DEFAULT_KEY
        self.open_account(
            self.config.api_key,
            self.config.account_name,
            self.config.lists,
            ident=_DEFAULT_ACCOUNT if standard else None,
            list_ids=_DEFAULT_LISTS if standard else (),
        )

    def next_id(self) -> int:
        """Integers for segments and web ids, unique over the sandbox."""
        self._serial += 1
        return self._serial

    # Accounts and keys (MC 1)

    def open_account(
        self,
        key: str,
        name: str,
        lists: list[str],
        *,
        ident: str | None = None,
        list_ids: tuple[str, ...] = (),
    ) -> Account:
        """A new account; ValueError if the key's secret is taken. Ids follow from the key, so they are stable."""
        secret, _ = split_key(key)
        if secret in self.keys:
            raise ValueError("this key belongs to an account already")
        ident = ident or _hex("account", key, length=24)
        if ident in self.accounts:
            raise ValueError("an account that began with this key exists already")
        account = Account(ident, name, key, self.clock.second())
        self.accounts[ident] = account
        self.keys[secret] = account
        for number, title in enumerate(lists):
            self.open_list(account, title, list_ids[number] if number < len(list_ids) else None)
        return account

    def authenticate(self, key: str) -> Account | None:
        """The account of a key, unless the key names another data centre (MC 18.21)."""
        secret, dc = split_key(key)
        account = self.keys.get(secret)
        return account if account is not None and account.dc == dc else None

    def revoke(self, key: str) -> bool:
        return self.keys.pop(split_key(key)[0], None) is not None

    def rekey(self, key: str, new_key: str) -> Account:
        """The same account under another key, also after `revoke`; ValueError if unknown or taken."""
        account = next((each for each in self.accounts.values() if each.key == key), None)
        secret, dc = split_key(new_key)
        if account is None:
            raise ValueError("no account has this key")
        if self.keys.get(secret, account) is not account:
            raise ValueError("the new key belongs to another account")
        self.keys.pop(split_key(key)[0], None)
        self.keys[secret] = account
        account.key, account.dc = new_key, dc
        return account

    # Lists (MC 3)

    def open_list(self, account: Account, name: str, ident: str | None = None) -> Audience:
        ident = ident or _hex(account.id, name, str(self.next_id()), length=10)
        audience = Audience(
            ident,
            name,
            self.next_id(),
            self.clock.second(),
            account_id=account.id,
            ascii_lowering=self.config.ascii_lowering,
            one_spelling=self.config.both_spellings_one_member,
        )
        audience.ask_permissions(self.config.permissions)
        account.lists[ident] = audience
        self.audiences[ident] = audience
        return audience

    def close_list(self, audience: Audience) -> None:
        for hook in audience.webhooks.values():
            hook.removed = True
        del self.audiences[audience.id]
        del self.accounts[audience.account_id].lists[audience.id]

    def add_tag(self, audience: Audience, name: str) -> Segment:
        """The tag of this name, made if there is none (MC 4.7)."""
        if found := audience.tag_named(name):
            return found
        made = Segment(self.next_id(), name.strip(), created_at=self.clock.second())
        audience.add_segment(made)
        return made

    # Logs

    def record(
        self,
        audience: Audience,
        email: str,
        states: tuple[str, str],
        kind: str,
        actor: Actor,
        member: Member | None = None,
        *,
        old_email: str = "",
    ) -> None:
        """Log one effective change of one member, and post it to webhooks if the member itself is given."""
        if audience.webhooks and member is not None:
            self.courier.notice(audience, member, states, kind, actor, old_email=old_email)
        if not self.config.history:
            return
        history = self.history
        history.changes.append(
            Change(
                history.next_seq(),
                actor.at,
                audience.account_id,
                audience.id,
                email.lower(),
                states[0],
                states[1],
                kind,
                actor.origin,
                actor.via,
                actor.request_id,
            )
        )

    def in_flight(self) -> int:
        return sum(account.in_flight for account in self.accounts.values())
