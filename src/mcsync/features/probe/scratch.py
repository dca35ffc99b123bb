"""Where a probe works: an audience of its own, or a named one that it leaves as it was."""

from __future__ import annotations

from mcsync.core.errors import ConflictError, NotFoundError
from mcsync.features.probe.bench import Bench
from mcsync.mailchimp import (
    CredentialError,
    InvalidRequestError,
    MailchimpClient,
    MailchimpError,
    RefusedError,
    TransientError,
    path,
    subscriber_hash,
)

NAME = "mcsync probe"
"""How the name of every scratch audience begins."""


async def make(client: MailchimpClient, *, domain: str, token: str, company: str) -> str:
    """Makes a scratch audience that sends nothing to anybody; answers its id.

    Where the answer is lost, the audience is looked for by its name: none is left over unknown.

    Raises ``ConflictError`` (``audience_not_made``) where Mailchimp does not let the account make one.
    """
    definition = {
        "name": f"{NAME} {token} (may be deleted)",
        "permission_reminder": "This audience holds made-up addresses only. Nothing is sent to it.",
        "email_type_option": False,
        "double_optin": False,
        "contact": {
            "company": company or "mcsync", "address1": "1 Example Street", "city": "Atlanta",
            "state": "GA", "zip": "30308", "country": "US",
        },
        "campaign_defaults": {
            "from_name": "mcsync probe", "from_email": f"mcsync-probe@{domain}",
            "subject": "Not sent", "language": "en",
        },
    }  # fmt: skip
    try:
        return (await client.create_audience(definition)).id
    except TransientError as error:
        if error.outcome_unknown:
            for audience in await client.audiences():
                if audience.name == definition["name"]:
                    return audience.id
        raise
    except (CredentialError, InvalidRequestError, RefusedError) as error:
        if isinstance(error, CredentialError) and error.status != 403:
            raise
        words = "; ".join(e.message for e in error.errors) or error.detail or error.title
        raise ConflictError(
            "Mailchimp does not let this account make another audience, most often because its plan"
            " has no more. Name an audience of the account with --audience: the probe then adds"
            " made-up addresses to it and deletes them permanently afterwards."
            f" Mailchimp says: {words}",
            code="audience_not_made",
        ) from error


async def check(client: MailchimpClient, list_id: str) -> None:
    """Makes sure that adding members to a named audience sends no mail to anybody.

    Raises ``NotFoundError`` (``audience_not_found``) and ``ConflictError`` (``audience_sends_mail``).
    """
    seen = await client.observe("GET", path("lists", list_id))
    if not seen.accepted:
        raise NotFoundError(
            "The connected account has no audience of this id; `connection.listAudiences` lists them.",
            code="audience_not_found",
        )
    sending = {
        "double_optin": "it asks for double opt-in",
        "has_welcome": "it sends a welcome mail",
        "notify_on_subscribe": "it tells somebody of each new subscriber",
        "notify_on_unsubscribe": "it tells somebody of each unsubscribe",
    }
    why = [words for name, words in sending.items() if seen.body.get(name)]
    if why:
        raise ConflictError(
            f"This audience would send mail because of the probe: {', '.join(why)}. Name another one.",
            code="audience_sends_mail",
        )


async def remove(client: MailchimpClient, list_id: str) -> list[str]:
    """Deletes a scratch audience; answers what is left, and how to remove it."""
    try:
        await client.delete_audience(list_id)
    except MailchimpError as error:
        told = f"The audience {list_id}, named {NAME!r}, could not be deleted ({error})."
        return [f"{told} Delete it in Mailchimp under Audience, All contacts, Settings."]
    return []


async def clean(bench: Bench) -> list[str]:
    """Deletes what a probe put into a named audience, permanently; answers what is left."""
    left: list[str] = []
    members = bench.ids | {subscriber_hash(email) for email in bench.made}
    for ident in sorted(members):
        target = path("lists", bench.list_id, "members", ident) + "/actions/delete-permanent"
        if not await _gone(bench.client, "POST", target):
            left.append(ident)
    told = []
    if left:
        told.append(
            f"{len(left)} made-up members of the audience {bench.list_id} could not be deleted. Search"
            f" Mailchimp for {bench.prefix} and delete them there."
        )
    if not await _clean_tags(bench):
        told.append(f"Tags that begin with {bench.prefix} could not be deleted from the audience.")
    return told


async def _clean_tags(bench: Bench) -> bool:
    try:
        tags = await bench.client.search_tags(bench.list_id, bench.prefix)
    except MailchimpError:
        return False
    done = True
    for tag in tags:
        target = path("lists", bench.list_id, "segments", tag.id)
        done &= await _gone(bench.client, "DELETE", target)
    return done


async def _gone(client: MailchimpClient, method: str, target: str) -> bool:
    """Whether something is not there any more: deleted now, or known to nobody."""
    try:
        seen = await client.observe(method, target)
    except MailchimpError:
        return False
    return seen.accepted or seen.status == 404
