"""Answers become errors by status first, then by their words."""

import orjson
import pytest

from mcsync.mailchimp import (
    BatchResult,
    CredentialError,
    InvalidRequestError,
    MailchimpError,
    MethodNotAllowedError,
    NotFoundError,
    RefusalCode,
    RefusedError,
    RowOutcome,
    ThrottledError,
    TransientError,
    account_rows,
    classify_refusal,
    error_from_response,
    merge_tag,
)

PROBLEM = {"Content-Type": "application/problem+json; charset=utf-8"}
HTML = {"content-type": "text/html"}


def problem(title: str = "", detail: str = "", **more: object) -> bytes:
    return orjson.dumps({"title": title, "detail": detail, "instance": "i-1", **more})


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (500, PROBLEM, problem("Internal"), TransientError),
        (502, HTML, b"<html>", TransientError),
        (503, {}, b"", TransientError),
        (504, HTML, b"<html>", TransientError),
        (408, {}, b"", TransientError),
        (302, {"location": "https://evil.test/"}, b"", TransientError),
        (429, PROBLEM, problem("Too Many Requests"), ThrottledError),
        (429, {}, b"", ThrottledError),
        (403, HTML, b"<html>Access Denied", ThrottledError),
        (403, {}, b"", ThrottledError),
        (403, PROBLEM, problem("Forbidden"), CredentialError),
        (401, PROBLEM, problem("API Key Invalid"), CredentialError),
        (401, {}, b"", CredentialError),
        (404, PROBLEM, problem("Resource Not Found"), NotFoundError),
        (405, PROBLEM, problem("Method Not Allowed"), MethodNotAllowedError),
        (400, PROBLEM, problem("Member Exists"), RefusedError),
        (400, PROBLEM, problem("JSON Parse Error"), InvalidRequestError),
        (400, {}, b"[1]", InvalidRequestError),
        (400, {}, b"\xff\xfe", InvalidRequestError),
        (422, PROBLEM, problem("InvalidMethodOverride"), InvalidRequestError),
        (426, HTML, b"", InvalidRequestError),
    ],
)
def test_status_decides(
    status: int, headers: dict[str, str], body: bytes, kind: type[MailchimpError]
) -> None:
    error = error_from_response(status, headers, body)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "title", "detail", "code"),
    [
        (401, "API Key Invalid", "", "api_key_invalid"),
        (401, "API Key Missing", "", "api_key_missing"),
        (401, "", "", "api_key_invalid"),
        (403, "Forbidden", "User action not permitted", "forbidden"),
        (403, "User Disabled", "This account has been deactivated.", "user_disabled"),
        (403, "Forbidden", "This account has been deactivated.", "user_disabled"),
        (403, "Wrong Datacenter", "", "wrong_datacenter"),
        (403, "", "", "forbidden"),
    ],
)
def test_a_refused_key_has_a_code(status: int, title: str, detail: str, code: str) -> None:
    error = error_from_response(status, PROBLEM, problem(title, detail))
    assert isinstance(error, CredentialError)
    assert error.code == code


EXISTS = "a@b.org is already a list member. Use PUT to insert or update list members."
COMPLIANCE = (
    "a@b.org is in a compliance state due to unsubscribe, bounce, or compliance review "
    "and cannot be subscribed."
)
FORGOTTEN = "a@b.org was permanently deleted and cannot be re-imported."
FAKE = "a@b.org looks fake or invalid, please enter a real email address."
LISTS = "a@b.org has signed up to a lot of lists very recently; we're not allowing more signups"


@pytest.mark.parametrize(
    ("text", "error_code", "field", "message", "code"),
    [
        (COMPLIANCE, "ERROR_GENERIC", "", "", RefusalCode.COMPLIANCE),
        ("Member In  Compliance State", "", "", "", RefusalCode.COMPLIANCE),
        (FORGOTTEN, "ERROR_GENERIC", "", "", RefusalCode.FORGOTTEN),
        ("ForgottenEmailNotSubscribed", "", "", "", RefusalCode.FORGOTTEN),
        (FAKE, "ERROR_GENERIC", "", "", RefusalCode.FAKE),
        (LISTS, "ERROR_GENERIC", "", "", RefusalCode.THROTTLED),
        ("Recipient x has too many recent signup requests", "", "", "", RefusalCode.THROTTLED),
        (EXISTS, "ERROR_CONTACT_EXISTS", "", "", RefusalCode.EXISTS),
        ("anything", "ERROR_CONTACT_EXISTS", "", "", RefusalCode.EXISTS),
        ("Please enter a complete address", "", "", "", RefusalCode.INCOMPLETE_ADDRESS),
        (
            "Your merge fields were invalid.",
            "ERROR_GENERIC",
            "FNAME",
            "Please enter a value",
            RefusalCode.REQUIRED_FIELD_MISSING,
        ),
        (
            "Your merge fields were invalid.",
            "",
            "ADDRESS",
            "Please enter a complete address",
            RefusalCode.INCOMPLETE_ADDRESS,
        ),
        (
            "Your merge fields were invalid.",
            "",
            "BDAY",
            "Please enter a month (01-12) and a day (01-31)",
            RefusalCode.INVALID_VALUE,
        ),
        ("", "", "AGE", "Please enter a number", RefusalCode.INVALID_VALUE),
        ("", "", "AGE", "what nobody has seen", RefusalCode.INVALID_VALUE),
        ("Please provide a valid email address.", "", "", "", RefusalCode.INVALID_ADDRESS),
        (
            "",
            "",
            "email_address",
            "This value should be a valid email.",
            RefusalCode.INVALID_ADDRESS,
        ),
        (
            "",
            "",
            "email_address",
            "Schema describes string, NULL found instead",
            RefusalCode.INVALID_ADDRESS,
        ),
        ("what nobody has seen", "ERROR_GENERIC", "", "", RefusalCode.OTHER),
        ("", "", "", "", RefusalCode.OTHER),
    ],
)
def test_words_tell_why(
    text: str, error_code: str, field: str, message: str, code: RefusalCode
) -> None:
    assert classify_refusal(text, error_code=error_code, field=field, field_message=message) is code


def test_a_field_error_names_the_reason_of_a_400() -> None:
    body = problem(
        "Invalid Resource",
        "Your merge fields were invalid.",
        errors=[{"field": "FNAME", "message": "Please enter a value"}, "odd", {"field": None}],
    )
    error = error_from_response(400, PROBLEM, body)
    assert isinstance(error, RefusedError)
    assert error.code is RefusalCode.REQUIRED_FIELD_MISSING
    assert error.errors[0].field == "FNAME"
    assert error.instance == "i-1"


def test_a_request_about_no_single_contact_is_refused_as_a_whole() -> None:
    error = error_from_response(400, PROBLEM, problem("Member Exists"), about_contact=False)
    assert isinstance(error, InvalidRequestError)


def test_the_text_of_an_error_holds_no_address() -> None:
    error = error_from_response(400, PROBLEM, problem("Member Exists", EXISTS))
    assert "@" not in str(error)
    assert "@" not in repr(error)
    assert "a@b.org" in error.detail


@pytest.mark.parametrize("write", [True, False])
def test_a_server_error_leaves_only_a_write_open(write: bool) -> None:
    error = error_from_response(504, {}, b"", write=write)
    assert isinstance(error, TransientError)
    assert error.outcome_unknown is write


def test_retry_after_is_read_when_it_is_seconds() -> None:
    assert error_from_response(429, {"Retry-After": "7"}, b"").retry_after == 7.0
    assert error_from_response(429, {"Retry-After": "soon"}, b"").retry_after is None


GENERIC = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
IN_LIST = '"a@b.org" is already in this list with a status of "{}".'
RECORDED = [
    (
        "a@b.org has previously unsubscribed from this list and must opt in again.",
        RefusalCode.UNSUBSCRIBED,
        "",
    ),
    (
        (
            "a@b.org was previously removed from this audience. To rejoin, they'll need to sign up using a "
            "Mailchimp form."
        ),
        RefusalCode.FORGOTTEN,
        "",
    ),
    (IN_LIST.format("Unsubscribed"), RefusalCode.EXISTS, "unsubscribed"),
    (IN_LIST.format("Cleaned"), RefusalCode.EXISTS, "cleaned"),
    (IN_LIST.format("Deleted"), RefusalCode.EXISTS, "deleted"),
    (
        "a@b.org is already in this list with a status of Subscribed",
        RefusalCode.EXISTS,
        "subscribed",
    ),
    ('This member\'s status is "cleaned."', RefusalCode.CLEANED, "cleaned"),
    (
        "This member\u2019s status is \u201cunsubscribed.\u201d",
        RefusalCode.UNSUBSCRIBED,
        "unsubscribed",
    ),
    ('This member\'s status is "archived."', RefusalCode.ARCHIVED, "archived"),
    ('This member\'s status is "subscribed."', RefusalCode.EXISTS, "subscribed"),
    (
        (
            "a@b.org is already a list member in compliance state due to unsubscribe, bounce, or compliance "
            "review and cannot be subscribed."
        ),
        RefusalCode.COMPLIANCE,
        "",
    ),
    (COMPLIANCE, RefusalCode.COMPLIANCE, ""),
]


class TestWhereverTheWordsStand:
    @pytest.mark.parametrize(("words", "code", "status"), RECORDED)
    @pytest.mark.parametrize("typed", [True, False])
    def test_in_the_detail(self, words: str, code: RefusalCode, status: str, typed: bool) -> None:
        document = {"title": "Invalid Resource", "status": 400, "detail": words.upper()}
        if typed:
            document["type"] = "https://mailchimp.com/developer/marketing/docs/errors/"
        self.is_it(document, code, status)

    @pytest.mark.parametrize(("words", "code", "status"), RECORDED)
    def test_in_the_errors(self, words: str, code: RefusalCode, status: str) -> None:
        entry = {"field": "email address", "message": words}
        found = self.is_it({"detail": GENERIC, "errors": [entry]}, code, status)
        assert [merge_tag(each.field) for each in found.errors] == [None]
        self.is_it({"title": None, "detail": [], "errors": [7, None, words]}, code, status)

    @pytest.mark.parametrize(("words", "code", "status"), RECORDED)
    @pytest.mark.parametrize("shown", ["a@b.org", '"a@b.org"', ' "A@b.org" '])
    def test_in_a_row_of_a_bulk_call(
        self, words: str, code: RefusalCode, status: str, shown: str
    ) -> None:
        error = {"email_address": shown, "error": words, "error_code": "ERROR_GENERIC"}
        result = BatchResult.model_validate({"errors": [error]})
        (row,) = account_rows(["a@b.org"], result).rows
        assert (row.outcome, row.refusal, row.member_status) == (RowOutcome.ERROR, code, status)

    @staticmethod
    def is_it(document: dict[str, object], code: RefusalCode, status: str) -> RefusedError:
        error = error_from_response(400, PROBLEM, orjson.dumps(document))
        assert isinstance(error, RefusedError)
        assert (error.code, error.member_status) == (code, status)
        return error


@pytest.mark.parametrize(
    "message",
    [
        "Value must be one of: a, b,  (not z)",
        "The value you selected is not a valid choice.",
        "Data presented is not one of the accepted values: a, b.",
    ],
)
@pytest.mark.parametrize(
    "field", ["COLOUR", "merge_fields.COLOUR", "members.item:3.merge_fields.COLOUR"]
)
def test_a_value_that_is_no_choice_is_refused_with_its_field(message: str, field: str) -> None:
    body = problem(
        "Invalid Resource",
        "Your merge fields were invalid.",
        errors=[{"field": field, "message": message}],
    )
    error = error_from_response(400, PROBLEM, body)
    assert isinstance(error, RefusedError)
    assert error.code is RefusalCode.INVALID_VALUE
    assert merge_tag(error.errors[0].field) == "COLOUR"


@pytest.mark.parametrize(
    "field", ["", "email address", "email_address", "EMAIL", "status", "members.item:0.status"]
)
def test_what_is_no_merge_field_is_never_named_as_one(field: str) -> None:
    assert merge_tag(field) is None


def test_quotes_that_belong_to_an_address_stay() -> None:
    result = BatchResult.model_validate(
        {"errors": [{"email_address": '"a b"@b.org', "error": FAKE}]}
    )
    (row,) = account_rows(['"a b"@b.org'], result).rows
    assert row.refusal is RefusalCode.FAKE
