"""Campaigns, and how opens and clicks grow once they were sent (MC 11, 12).

Nothing is random: a campaign's id decides how well it does, the sandbox's clock how far it got. The same campaign at the
same time has the same figures in every process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING

from .states import SUBSCRIBED

if TYPE_CHECKING:
    from .world import World

SAVE, SCHEDULE, SENDING, SENT = "save", "schedule", "sending", "sent"
PAUSED, CANCELING, CANCELED, ARCHIVED = "paused", "canceling", "canceled", "archived"
STATUSES = (SAVE, PAUSED, SCHEDULE, SENDING, SENT, CANCELED, CANCELING, ARCHIVED)
TYPES = ("regular", "plaintext", "absplit", "rss", "variate")


class NotNow(Exception):
    """The campaign's status does not allow this; the text says why."""


@dataclass(slots=True)
class Campaign:
    """One campaign. Times are whole seconds, 0 where unset."""

    id: str
    web_id: int
    account_id: str
    list_id: str
    list_name: str
    created: int
    type: str = "regular"
    title: str = ""
    subject: str = ""
    preview: str = ""
    from_name: str = "Sandbox"
    reply_to: str = "news@sandbox.test"
    status: str = SAVE
    due: int = 0
    """When a scheduled one is to begin."""
    begun: int = 0
    recipients: int = 0
    """How many it goes to, fixed when it begins."""
    stopped: int = 0
    """When it was cancelled or paused while it was being sent."""

    @property
    def reported(self) -> bool:
        return self.begun > 0


@dataclass(slots=True, frozen=True)
class Figures:
    """What became of a campaign up to one moment."""

    emails_sent: int
    hard_bounces: int
    soft_bounces: int
    opens: int
    unique_opens: int
    proxy_excluded_opens: int
    proxy_excluded_unique_opens: int
    last_open: int
    clicks: int
    unique_clicks: int
    subscriber_clicks: int
    last_click: int
    unsubscribed: int
    abuse_reports: int

    @property
    def delivered(self) -> int:
        return self.emails_sent - self.hard_bounces - self.soft_bounces

    def rate(self, count: int) -> float:
        """A fraction 0-1 of what was delivered (MC 12)."""
        return round(count / self.delivered, 6) if self.delivered else 0.0


class Campaigns:
    """All campaigns of a sandbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.all: dict[str, Campaign] = {}

    def make(self, account_id: str, list_id: str, *, ident: str | None = None) -> Campaign:
        """A new draft for a list of the account; KeyError if it has none of that id."""
        audience = self.world.accounts[account_id].lists[list_id]
        web_id = self.world.next_id()
        if ident is None:
            text = f"{account_id}:{list_id}:{web_id}"
            ident = md5(text.encode(), usedforsecurity=False).hexdigest()[:10]
        made = Campaign(
            ident, web_id, account_id, list_id, audience.name, self.world.clock.second()
        )
        self.all[ident] = made
        return made

    def of(self, account_id: str) -> list[Campaign]:
        """An account's campaigns in the order they were made, each as it is now."""
        found = [each for each in self.all.values() if each.account_id == account_id]
        for each in found:
            self.settle(each)
        return found

    def find(self, ident: str, account_id: str | None = None) -> Campaign | None:
        """A campaign as it is now; None if there is none of this id in the account."""
        found = self.all.get(ident)
        if found is None or account_id not in (None, found.account_id):
            return None
        self.settle(found)
        return found

    # What is done to one

    def send(self, campaign: Campaign, at: int | None = None) -> None:
        """Begin sending, now or (to have a past) earlier. NotNow if there is nobody to send to."""
        if campaign.status not in (SAVE, PAUSED, SCHEDULE):
            raise NotNow(f"A campaign that is {campaign.status} cannot be sent.")
        audience = self.world.audiences.get(campaign.list_id)
        people = 0 if audience is None else audience.counts[SUBSCRIBED]
        if not people:
            raise NotNow("Your Campaign is not ready to send: it has no recipients.")
        campaign.status, campaign.recipients, campaign.stopped = SENDING, people, 0
        campaign.begun = at or self.world.clock.second()
        self.settle(campaign)

    def schedule(self, campaign: Campaign, due: int) -> None:
        """Send it later."""
        if campaign.status not in (SAVE, PAUSED):
            raise NotNow(f"A campaign that is {campaign.status} cannot be scheduled.")
        campaign.status, campaign.due = SCHEDULE, due

    def unschedule(self, campaign: Campaign) -> None:
        """Back to a draft."""
        if campaign.status != SCHEDULE:
            raise NotNow("This campaign is not scheduled.")
        campaign.status, campaign.due = SAVE, 0

    def stop(self, campaign: Campaign, status: str) -> None:
        """Pause or cancel one that waits or is on its way."""
        if campaign.status not in (SCHEDULE, SENDING, PAUSED, CANCELING):
            raise NotNow(f"A campaign that is {campaign.status} cannot be stopped.")
        if campaign.status == SENDING:
            campaign.stopped = self.world.clock.second()
        campaign.status = status

    def settle(self, campaign: Campaign) -> None:
        """Let the clock do its part."""
        now = self.world.clock.second()
        seconds = self.world.config.campaigns.sending_seconds
        if campaign.status == SCHEDULE and campaign.due <= now:
            try:
                self.send(campaign, campaign.due)
            except NotNow:
                campaign.status, campaign.due = SAVE, 0
        elif campaign.status == SENDING and now >= campaign.begun + seconds:
            campaign.status = SENT
        elif campaign.status == CANCELING and now >= campaign.stopped + seconds:
            campaign.status = CANCELED

    # What became of it

    def figures(self, campaign: Campaign) -> Figures:
        """The figures as of now."""
        return figures(
            campaign,
            self.world.clock.second(),
            sending_seconds=self.world.config.campaigns.sending_seconds,
            tau=self.world.config.campaigns.response_hours * 3600,
        )


def _shares(ident: str) -> list[float]:
    """Numbers in [0, 1) that belong to an id."""
    return [byte / 256 for byte in md5(ident.encode(), usedforsecurity=False).digest()]


class _Growth:
    """A count on its way to its end, fast at first: people open what has just arrived."""

    def __init__(self, seconds: float, tau: float) -> None:
        self._tau = tau
        self._share = 1 - math.exp(-max(0.0, seconds) / tau)

    def count(self, end: int) -> int:
        # Half more than the end, else the last one would take for ever.
        return min(end, math.floor((end + 0.5) * self._share))

    def since(self, end: int) -> int:
        """Seconds from the beginning to when the count became what it is."""
        return math.ceil(-self._tau * math.log(1 - self.count(end) / (end + 0.5)))


def figures(campaign: Campaign, now: int, *, sending_seconds: float, tau: float) -> Figures:
    """The figures at one moment; all nothing before it was begun."""
    if not campaign.begun:
        return Figures(*[0] * 14)
    u = _shares(campaign.id)
    ran = (min(now, campaign.stopped) if campaign.stopped else now) - campaign.begun
    sent = campaign.recipients
    if ran < sending_seconds and campaign.status != SENT:
        sent = math.floor(sent * max(0, ran) / sending_seconds)
    hard, soft = math.floor(sent * 0.02 * u[0]), math.floor(sent * 0.03 * u[1])
    delivered = sent - hard - soft
    openers = round(delivered * (0.15 + 0.4 * u[2]))
    own_openers = round(openers * (0.4 + 0.4 * u[3]))
    clickers = round(openers * (0.05 + 0.3 * u[4]))
    opens, own_opens = round(openers * (1.2 + u[5])), round(own_openers * (1.2 + u[5]))
    links, clicks = round(clickers * (1 + 0.5 * u[6])), round(clickers * (1.2 + u[7]))
    growth = _Growth(now - campaign.begun, tau)
    return Figures(
        emails_sent=sent,
        hard_bounces=hard,
        soft_bounces=soft,
        opens=growth.count(opens),
        unique_opens=growth.count(openers),
        proxy_excluded_opens=growth.count(own_opens),
        proxy_excluded_unique_opens=growth.count(own_openers),
        last_open=campaign.begun + growth.since(opens) if growth.count(opens) else 0,
        clicks=growth.count(clicks),
        unique_clicks=growth.count(links),
        subscriber_clicks=growth.count(clickers),
        last_click=campaign.begun + growth.since(clicks) if growth.count(clicks) else 0,
        unsubscribed=growth.count(round(delivered * 0.01 * u[8])),
        abuse_reports=growth.count(round(delivered * 0.002 * u[9])),
    )
