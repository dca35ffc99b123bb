"""Sending messages and finding them again (MC 17.2)."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from mcsync.mailchimp.transactional.caller import many, one
from mcsync.mailchimp.transactional.endpoints import TransactionalEndpoints
from mcsync.mailchimp.transactional.limits import check_size
from mcsync.mailchimp.transactional.message import Message, TemplateContent, moment
from mcsync.mailchimp.transactional.results import (
    MessageContent,
    MessageInfo,
    RecipientOutcome,
    ScheduledMessage,
)

SEARCH_MOST = 1000
_SEARCH_LEAST = 100
_SEARCH_WAIT_SECONDS = 60.0
"""After more than 20 searches within a minute only waiting helps; trying is counted too (MC 17.2)."""
_WORD = re.compile(r"[0-9A-Za-z_]+\Z")


def metadata_query(name: str, value: str) -> str:
    """Write the search for a metadata value: `u_<name>:<value>`, Lucene's syntax.

    Raises `ValueError` for a name that no search finds. Values beyond letters, digits and
    underscores go as a phrase, which the index may cut into words: compare what comes back.
    """
    if not _WORD.match(name) or name.startswith("_"):
        message = "this metadata name cannot be searched for"
        raise ValueError(message)
    if _WORD.match(value):
        return f"u_{name}:{value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'u_{name}:"{quoted}"'


class MessageEndpoints(TransactionalEndpoints):
    """Calls about messages. Every call raises `MailchimpError`."""

    async def send(
        self,
        message: Message,
        *,
        send_at: datetime | None = None,
        in_background: bool = False,
        ip_pool: str | None = None,
    ) -> tuple[RecipientOutcome, ...]:
        """Send a message once and return the outcome of each recipient.

        `send_at` schedules it, at most a year ahead, on paid accounts only; a past time means
        now. `in_background` is Mandrill's `async`; with more than 10 recipients it is so
        anyway.

        Raises `SendUncertainError` where nobody knows whether it was taken: find it with
        `find_by_metadata` before sending it again. Any other `MailchimpError` means that it
        was not. Raises `MessageTooLargeError` before the call.
        """
        check_size(message)
        params = {"message": message.as_json(), **_how(send_at, in_background, ip_pool)}
        return await self._post("messages/send", params, many(RecipientOutcome), sends=True)

    async def send_template(
        self,
        template_name: str,
        message: Message,
        *,
        content: Sequence[TemplateContent] = (),
        send_at: datetime | None = None,
        in_background: bool = False,
        ip_pool: str | None = None,
    ) -> tuple[RecipientOutcome, ...]:
        """Send a message made from a template; what the message says itself wins.

        As `send`, and `UnknownTemplateError`.
        """
        check_size(message)
        params = {
            "template_name": template_name,
            "template_content": [part.model_dump(mode="json") for part in content],
            "message": message.as_json(),
            **_how(send_at, in_background, ip_pool),
        }
        method = "messages/send-template"
        return await self._post(method, params, many(RecipientOutcome), sends=True)

    async def message_info(self, message_id: str) -> MessageInfo:
        """Return one message; `UnknownMessageError` also while it is not in the index yet."""
        return await self._post(
            "messages/info", {"id": message_id}, one(MessageInfo), changes=False
        )

    async def search_messages(
        self,
        query: str = "*",
        *,
        date_from: date | None = None,
        date_to: date | None = None,
        tags: Sequence[str] = (),
        senders: Sequence[str] = (),
        limit: int = SEARCH_MOST,
    ) -> tuple[MessageInfo, ...]:
        """Search recent messages, by default those of the last 7 days (UTC dates).

        The index lags behind. 20 searches a minute; beyond that `ThrottledError`, whose
        `retry_after` is a minute: that is for the caller to plan. Raises `ValueError` for a
        limit outside 100 to 1000.
        """
        if not _SEARCH_LEAST <= limit <= SEARCH_MOST:
            message = f"limit must be {_SEARCH_LEAST} to {SEARCH_MOST}"
            raise ValueError(message)
        params = {
            "query": query,
            "date_from": date_from and date_from.isoformat(),
            "date_to": date_to and date_to.isoformat(),
            "tags": list(tags) or None,
            "senders": list(senders) or None,
            "limit": limit,
        }
        return await self._post(
            "messages/search",
            params,
            many(MessageInfo),
            changes=False,
            throttled_seconds=_SEARCH_WAIT_SECONDS,
        )

    async def find_by_metadata(
        self, name: str, value: str, *, date_from: date | None = None
    ) -> tuple[MessageInfo, ...]:
        """Return the messages, one a recipient, whose metadata has exactly this value.

        The name must have been declared with `add_metadata_field`. Finding nothing proves
        nothing while the index may lag. `search_messages` tells what is raised.
        """
        found = await self.search_messages(metadata_query(name, value), date_from=date_from)
        return tuple(each for each in found if str(each.metadata.get(name)) == value)

    async def message_content(self, message_id: str) -> MessageContent:
        """Return a message as it went out; `UnknownMessageError`."""
        params = {"id": message_id}
        return await self._post("messages/content", params, one(MessageContent), changes=False)

    async def scheduled_messages(self, to: str | None = None) -> tuple[ScheduledMessage, ...]:
        """Return what waits for its time, or what waits for one recipient."""
        params = {"to": to}
        return await self._post(
            "messages/list-scheduled", params, many(ScheduledMessage), changes=False
        )

    async def cancel_scheduled(self, message_id: str) -> ScheduledMessage:
        """Cancel one; `UnknownMessageError` once it was sent, or cancelled."""
        return await self._first("messages/cancel-scheduled", {"id": message_id})

    async def reschedule(self, message_id: str, send_at: datetime) -> ScheduledMessage:
        """Give one another time; `UnknownMessageError` once it was sent."""
        params = {"id": message_id, "send_at": moment(send_at)}
        return await self._first("messages/reschedule", params)

    async def _first(self, method: str, params: Mapping[str, object]) -> ScheduledMessage:
        # An object in the guides, an array in the published description.
        found = await self._post(method, params, many(ScheduledMessage))
        return found[0] if found else ScheduledMessage()


def _how(
    send_at: datetime | None, in_background: bool, ip_pool: str | None
) -> dict[str, object | None]:
    return {
        "async": in_background,
        "ip_pool": ip_pool,
        "send_at": None if send_at is None else moment(send_at),
    }
