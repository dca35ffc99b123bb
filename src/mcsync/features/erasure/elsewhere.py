"""Whether Mailchimp knows an address of which nothing is known here."""

from __future__ import annotations

import structlog

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError, McsyncError, NotFoundError
from mcsync.core.resources import Resources
from mcsync.features.connection import service as connection
from mcsync.features.erasure import finding
from mcsync.features.erasure.models import Erasure
from mcsync.features.erasure.schemas import SubjectInput
from mcsync.mailchimp import MailchimpError, spellings, subscriber_hash

_log = structlog.get_logger(__name__)


async def only_there(resources: Resources, actor: Actor, wanted: SubjectInput) -> bool:
    """Whether nothing new is known here of the person, and one of the account's lists has the address.

    Raises what :func:`finding.find` raises, but for a person of whom nothing is known; and where it cannot
    be found out, so that nobody is told that a person is unknown who may be on a list.
    """
    if wanted.email is None:
        return False
    async with resources.db.transaction(actor.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        try:
            found = await finding.find(session, hash_key, wanted, erasing=True)
        except NotFoundError:
            found = None
    if found is not None and not (isinstance(found, Erasure) and found.status == "done"):
        return False
    try:
        return await is_on_a_list(resources, actor, finding.spelled(hash_key, wanted.email))
    except (McsyncError, MailchimpError) as error:
        if found is None:
            raise
        # the erasure that was made before is answered, and is true as of its time
        _log.info("erased_address_not_looked_for", error=type(error).__name__)
        return False


async def is_on_a_list(resources: Resources, actor: Actor, emails: tuple[str, ...]) -> bool:
    """Asks every audience of the connected account, those included that were never mirrored.

    False where no account ever was connected. Raises ``ConflictError`` (``not_connected``) where one was,
    and what ``connection.calling`` and the client raise.
    """
    async with resources.db.transaction(actor.org_id) as session:
        if await connection.last_account(session) is None:
            return False
        if await connection.get_live(session) is None:
            message = (
                "Nothing is known of this address here, and its lists at Mailchimp cannot be asked while no"
                " account is connected. Connect the account, then repeat this."
            )
            raise ConflictError(message, code="not_connected")
    hashes = dict.fromkeys(subscriber_hash(each) for email in emails for each in spellings(email))
    async with connection.calling(resources, actor.org_id) as link:
        for audience in await link.client.audiences():
            for known_as in hashes:
                if await link.client.find_member(audience.id, known_as) is not None:
                    return True
    return False
