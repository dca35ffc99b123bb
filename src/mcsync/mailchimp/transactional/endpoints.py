"""The calls beside messages: account, rejects, templates, metadata, webhooks (MC 17)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mcsync.mailchimp.transactional.caller import TransactionalCaller, many, one
from mcsync.mailchimp.transactional.message import MergeVar, TemplateContent
from mcsync.mailchimp.transactional.results import (
    AddedReject,
    DeletedReject,
    MetadataField,
    Pong,
    Reject,
    RenderedTemplate,
    Template,
    TransactionalWebhook,
    UserInfo,
)
from mcsync.mailchimp.transactional.transport import Post

_Answer = TypeVar("_Answer")


class TransactionalEndpoints:
    """Base of the groups of calls that make up the client."""

    def __init__(self, caller: TransactionalCaller) -> None:
        self._caller = caller

    async def _post(
        self,
        method: str,
        params: Mapping[str, object],
        decode: Callable[[bytes], _Answer],
        *,
        changes: bool = True,
        repeatable: bool = True,
        sends: bool = False,
        throttled_seconds: float | None = None,
    ) -> _Answer:
        """Call `<category>/<method>`; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        request = Post(
            f"transactional.{method.replace('/', '.')}",
            "POST",
            f"/{method}.json",
            content=self._caller.body(given),
            repeatable=repeatable and not sends,
            changes=changes,
            sends=sends,
            throttled_seconds=throttled_seconds,
        )
        return await self._caller.call(request, decode)


class AccountEndpoints(TransactionalEndpoints):
    """Calls about the account. Every call raises `MailchimpError`."""

    async def ping(self) -> None:
        """Check that the key works."""
        await self._post("users/ping2", {}, one(Pong), changes=False)

    async def user_info(self) -> UserInfo:
        """Return the account behind the key."""
        return await self._post("users/info", {}, one(UserInfo), changes=False)

    async def metadata_fields(self) -> tuple[MetadataField, ...]:
        """Return the metadata names that can be searched for."""
        return await self._post("metadata/list", {}, many(MetadataField), changes=False)

    async def add_metadata_field(self, name: str) -> MetadataField:
        """Let messages be searched for by this metadata name.

        Without it metadata is kept, but no search finds it. Takes a while to act: `state`
        is index, then active. `ValidationFailedError` where the name is there already.
        """
        return await self._post(
            "metadata/add", {"name": name}, one(MetadataField), repeatable=False
        )


class RejectEndpoints(TransactionalEndpoints):
    """Calls about addresses that get nothing. Every call raises `MailchimpError`."""

    async def rejects(
        self, email: str | None = None, *, include_expired: bool = False
    ) -> tuple[Reject, ...]:
        """Return up to 1000 entries of the rejects list, or those of one address."""
        params = {"email": email, "include_expired": include_expired}
        return await self._post("rejects/list", params, many(Reject), changes=False)

    async def add_reject(self, email: str, *, comment: str | None = None) -> AddedReject:
        """Send nothing more to this address, for ever."""
        params = {"email": email, "comment": comment}
        return await self._post("rejects/add", params, one(AddedReject))

    async def delete_reject(self, email: str) -> DeletedReject:
        """Send to this address again; `UnknownRejectError` where it was not on the list."""
        return await self._post("rejects/delete", {"email": email}, one(DeletedReject))


class TemplateEndpoints(TransactionalEndpoints):
    """Calls about templates. Every call raises `MailchimpError`."""

    async def templates(self, label: str | None = None) -> tuple[Template, ...]:
        """Return all templates, or those with a label."""
        return await self._post("templates/list", {"label": label}, many(Template), changes=False)

    async def template(self, name: str) -> Template:
        """Return one template by its slug or name; `UnknownTemplateError`."""
        return await self._post("templates/info", {"name": name}, one(Template), changes=False)

    async def render_template(
        self,
        template_name: str,
        *,
        content: Sequence[TemplateContent] = (),
        merge_vars: Sequence[MergeVar] = (),
    ) -> str:
        """Return the HTML that a template gives; `UnknownTemplateError`."""
        params = {
            "template_name": template_name,
            "template_content": [part.model_dump(mode="json") for part in content],
            "merge_vars": [part.model_dump(mode="json") for part in merge_vars],
        }
        found = await self._post("templates/render", params, one(RenderedTemplate), changes=False)
        return found.html


class TransactionalWebhookEndpoints(TransactionalEndpoints):
    """Calls about webhooks. Every call raises `MailchimpError`."""

    async def webhooks(self) -> tuple[TransactionalWebhook, ...]:
        """Return all webhooks, with the keys that sign their deliveries."""
        return await self._post("webhooks/list", {}, many(TransactionalWebhook), changes=False)

    async def add_webhook(
        self, url: str, *, events: Sequence[str], description: str | None = None
    ) -> TransactionalWebhook:
        """Make a webhook. The URL must answer 200 at once: it is asked by HEAD, then by POST.

        Not repeated when the outcome is unknown (`TransientError.outcome_unknown`): look with
        `webhooks` first.
        """
        params = {"url": url, "events": list(events), "description": description}
        return await self._post("webhooks/add", params, one(TransactionalWebhook), repeatable=False)

    async def update_webhook(
        self, webhook_id: int, *, url: str, events: Sequence[str], description: str | None = None
    ) -> TransactionalWebhook:
        """Change a webhook; its signing key stays. `UnknownWebhookError`."""
        params = {
            "id": webhook_id,
            "url": url,
            "events": list(events),
            "description": description,
        }
        return await self._post("webhooks/update", params, one(TransactionalWebhook))

    async def delete_webhook(self, webhook_id: int) -> TransactionalWebhook:
        """Remove a webhook; `UnknownWebhookError` where it is gone already."""
        return await self._post("webhooks/delete", {"id": webhook_id}, one(TransactionalWebhook))
