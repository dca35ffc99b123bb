"""The account (MC 1.1)."""

from mcsync.mailchimp.caller import decoder, nothing
from mcsync.mailchimp.endpoints.base import Endpoints
from mcsync.mailchimp.transport import Request
from mcsync.mailchimp.types.account import Account


class AccountEndpoints(Endpoints):
    """Calls about the account itself. Every call raises `MailchimpError`."""

    async def ping(self) -> None:
        """Check that the key works."""
        await self._call(Request("account.ping", "GET", "/ping"), nothing)

    async def account(self) -> Account:
        """Return the account behind the key."""
        request = Request("account.get", "GET", "/", {"exclude_fields": "_links"})
        return await self._call(request, decoder(Account))
