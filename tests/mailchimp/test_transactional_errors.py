"""The table of Mandrill's errors: the name decides, the status only where there is none."""

import httpx
import orjson
import pytest

from mcsync.mailchimp import (
    CredentialError,
    InvalidRequestError,
    MailchimpError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from mcsync.mailchimp.transactional import (
    PaymentRequiredError,
    SendUncertainError,
    UnknownMessageError,
    UnknownRejectError,
    UnknownSubaccountError,
    UnknownTemplateError,
    UnknownWebhookError,
    ValidationFailedError,
)
from mcsync.mailchimp.transactional.errors import error_from_answer

JSON = httpx.Headers({"Content-Type": "application/json"})


def read(
    status: int, name: str | None, *, sends: bool = False, changes: bool = False
) -> MailchimpError:
    body = b"<html>" if name is None else orjson.dumps({"name": name, "message": "a@x.org"})
    return error_from_answer(status, JSON, body, sends=sends, changes=changes)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Invalid_Key", CredentialError),
        ("PaymentRequired", PaymentRequiredError),
        ("Unknown_Template", UnknownTemplateError),
        ("Unknown_Subaccount", UnknownSubaccountError),
        ("Unknown_Message", UnknownMessageError),
        ("Unknown_Webhook", UnknownWebhookError),
        ("Invalid_Reject", UnknownRejectError),
        ("ValidationError", ValidationFailedError),
        ("Unknown_Pool", NotFoundError),
        ("Invalid_Tag_Name", InvalidRequestError),
        ("RequestLimitExceeded", ThrottledError),
    ],
)
def test_the_name_decides(status: int, name: str, kind: type[MailchimpError]) -> None:
    for sends in (True, False):
        error = read(status, name, sends=sends)
        assert type(error) is kind
        assert str(error) == f"{status} {name}"


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (401, None, CredentialError),
        (403, None, ThrottledError),
        (403, "Forbidden", InvalidRequestError),
        (404, None, InvalidRequestError),
        (405, None, InvalidRequestError),
        (413, None, InvalidRequestError),
        (429, None, ThrottledError),
        (302, None, TransientError),
    ],
)
def test_without_a_name_the_status_decides(
    status: int, name: str | None, kind: type[MailchimpError]
) -> None:
    assert type(read(status, name, sends=True)) is kind


@pytest.mark.parametrize(
    ("status", "name"),
    [(500, "GeneralError"), (503, "ServiceUnavailable"), (502, None), (408, None), (500, "New")],
)
def test_trouble_leaves_a_send_in_doubt(status: int, name: str | None) -> None:
    assert type(read(status, name, sends=True)) is SendUncertainError
    read_only, change = read(status, name), read(status, name, changes=True)
    assert isinstance(read_only, TransientError)
    assert isinstance(change, TransientError)
    assert (read_only.outcome_unknown, change.outcome_unknown) == (False, True)


def test_a_wait_asked_for_is_kept() -> None:
    error = error_from_answer(429, {"Retry-After": "7"}, b"", sends=True, changes=True)
    assert error.retry_after == 7.0


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"name": 3}', b"\xff"])
def test_bodies_are_read_leniently(body: bytes) -> None:
    assert type(error_from_answer(422, JSON, body, sends=True, changes=True)) is (
        InvalidRequestError
    )
