"""The part of the sandbox's control API that is about campaigns and transactional mail."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, cast

CampaignAct = Literal["send", "finish", "pause", "cancel", "archive", "delete"]
MailAct = Literal[
    "open", "click", "deferral", "delivered", "hard_bounce", "soft_bounce", "spam", "unsub"
]

MANDRILL_KEY = "md-Sandbox0Transactional1Key"
"""Key of the Transactional account every sandbox starts with."""


class CampaignEntry(TypedDict):
    """A campaign with what became of it; `figures` are in snake case as the sandbox counts them."""

    id: str
    webId: int
    accountId: str
    listId: str
    type: str
    title: str
    subject: str
    status: str
    sendTime: str
    figures: dict[str, int]


class MailEntry(TypedDict):
    """A message to one recipient. `sent` tells whether it really left."""

    id: str
    handIn: str
    at: float
    email: str
    type: str
    fromEmail: str
    subject: str
    html: str
    text: str
    template: str | None
    tags: list[str]
    metadata: dict[str, Any]
    attachments: list[str]
    state: str
    sent: bool
    rejectReason: str | None
    queuedReason: str | None
    sendAt: str
    opens: int
    clicks: int


class MailHookEntry(TypedDict):
    """A Transactional webhook; `waiting` events are on their way."""

    id: int
    url: str
    authKey: str
    events: list[str]
    batchesSent: int
    eventsSent: int
    failures: int
    disabled: bool
    lastError: str | None
    waiting: int


class MailControl:
    """Mixed into `SandboxControl`."""

    async def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError

    async def _post(self, path: str, **body: Any) -> Any:
        raise NotImplementedError

    # Campaigns

    async def make_campaigns(
        self,
        list_id: str,
        *,
        count: int = 1,
        status: str = "save",
        title: str = "Campaign",
        subject: str = "News",
        type: str = "regular",  # noqa: A002 - Mailchimp's word
        ago_seconds: int = 0,
        in_seconds: int = 3600,
    ) -> list[CampaignEntry]:
        """Campaigns in a status. Sent ones began `ago_seconds` before now, to who is subscribed now."""
        body = await self._post(
            "/campaigns",
            listId=list_id,
            count=count,
            status=status,
            title=title,
            subject=subject,
            type=type,
            agoSeconds=ago_seconds,
            inSeconds=in_seconds,
        )
        return cast("list[CampaignEntry]", body["campaigns"])

    async def make_campaign(self, list_id: str, **settings: Any) -> CampaignEntry:
        """One of them."""
        return (await self.make_campaigns(list_id, **settings))[0]

    async def campaigns(self, list_id: str | None = None) -> list[CampaignEntry]:
        """All campaigns as they are now."""
        body = await self._get("/campaigns", {"listId": list_id} if list_id else None)
        return cast("list[CampaignEntry]", body["campaigns"])

    async def campaign_act(self, campaign_id: str, act: CampaignAct) -> CampaignEntry | None:
        """What somebody does in Mailchimp's pages; 409 if the status forbids it. None once deleted."""
        body = await self._post(f"/campaigns/{campaign_id}/act", act=act)
        return cast("CampaignEntry | None", body["campaign"])

    # Transactional

    async def open_mandrill(self, key: str, *, username: str | None = None) -> None:
        """Another Transactional account."""
        await self._post("/mandrill/accounts", key=key, username=username)

    async def revoke_mandrill(self, key: str) -> None:
        """The key is answered Invalid_Key from now on."""
        await self._post("/mandrill/revoke", key=key)

    async def mails(
        self,
        *,
        key: str | None = None,
        email: str | None = None,
        metadata: tuple[str, str] | None = None,
    ) -> list[MailEntry]:
        """Messages of all accounts in the order they came, one a recipient."""
        params = {"key": key, "email": email}
        if metadata is not None:
            params |= {"metadata": metadata[0], "value": metadata[1]}
        given = {name: value for name, value in params.items() if value is not None}
        return cast("list[MailEntry]", (await self._get("/mandrill/messages", given))["messages"])

    async def mails_sent(self, name: str, value: str) -> int:
        """How often a message with this metadata value was really sent: hand-ins, not recipients."""
        params = {"metadata": name, "value": value}
        return cast("int", (await self._get("/mandrill/sent", params))["handIns"])

    async def mail_act(
        self, message_id: str, act: MailAct, *, url: str | None = None, diag: str | None = None
    ) -> MailEntry:
        """What a recipient or its server does; 409 if the message was not sent."""
        body = await self._post(f"/mandrill/messages/{message_id}/act", act=act, url=url, diag=diag)
        return cast("MailEntry", body["message"])

    async def add_mail_template(
        self,
        name: str,
        code: str,
        *,
        key: str | None = None,
        subject: str | None = None,
        from_email: str | None = None,
        labels: list[str] | None = None,
    ) -> str:
        """A published template; answers its slug."""
        body = await self._post(
            "/mandrill/templates",
            name=name,
            code=code,
            key=key,
            subject=subject,
            fromEmail=from_email,
            labels=labels,
        )
        return cast("str", body["slug"])

    async def mail_hooks(self) -> list[MailHookEntry]:
        """The Transactional webhooks of all accounts."""
        return cast("list[MailHookEntry]", (await self._get("/mandrill/webhooks"))["webhooks"])
