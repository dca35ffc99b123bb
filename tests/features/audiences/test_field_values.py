"""What a merge field takes, and how Mailchimp is sent it."""

from __future__ import annotations

import pytest

from mcsync.features.audiences.field_values import (
    PROBLEMS,
    format_problem,
    problem_code,
    problem_of,
    sent_as,
)
from mcsync.features.audiences.merge_map import Field

DATE = Field("HIRED", "Hired", "date")
BIRTHDAY = Field("BDAY", "Birthday", "birthday")
NUMBER = Field("NUM", "Number", "number")
CHOICE = Field("SITE", "Site", "dropdown", choices=("Lisbon", "München", "Porto "))
US_PHONE = Field("PHONE", "Phone", "phone", phone_format="US")
PHONE = Field("PHONE", "Phone", "phone", phone_format="International")


@pytest.mark.parametrize(
    ("field", "value_format", "value", "sent"),
    [
        (DATE, None, "2026-06-01", "2026-06-01"),
        (DATE, None, "2026-06-01T08:00:00Z", "2026-06-01"),
        (DATE, None, "2026-06-01 08:00:00+02", "2026-06-01"),
        (DATE, None, "2026-06-01 08:00:00.123456+00:00", "2026-06-01"),
        (DATE, None, "2026-06-01T08:00:00+0530", "2026-06-01"),
        (DATE, None, "2026-06-01T08:00", "2026-06-01"),
        (DATE, None, " 2026/6/1 ", "2026-06-01"),
        (DATE, None, "2026-06-01 08:00:00 +0000 UTC", "2026-06-01"),
        (DATE, None, "2026-06-01T08:00:00+02:00[Europe/Berlin]", "2026-06-01"),
        (DATE, "DD.MM.YYYY", "31.12.2026", "2026-12-31"),
        (DATE, "DD.MM.YYYY", "1.6.2026 00:00", "2026-06-01"),
        (DATE, "D. M. YYYY", "1. 6. 2026", "2026-06-01"),
        (DATE, "DD/MM/YY", "31/12/26", "2026-12-31"),
        (DATE, "MM/DD/YY", "12/31/69", "1969-12-31"),
        (DATE, "DDMMYYYY", "31122026", "2026-12-31"),
        (DATE, "YYYYMMDD", "20260601", "2026-06-01"),
        (BIRTHDAY, None, "12/31", "12/31"),
        (BIRTHDAY, None, "2/29", "02/29"),
        (BIRTHDAY, None, "1990-06-01T00:00:00", "06/01"),
        (BIRTHDAY, "DD/MM", "31/12", "12/31"),
        (BIRTHDAY, "DD.MM.", "1.6.", "06/01"),
        (BIRTHDAY, "DD.MM.YYYY", "29.02.2000", "02/29"),
        (NUMBER, None, "1234.50", "1234.50"),
        (NUMBER, None, " -7 ", "-7"),
        (NUMBER, None, "0.30000000000000004", "0.30000000000000004"),
        (NUMBER, "1.234,56", "1.234,5", "1234.5"),
        (NUMBER, "1.234,56", "1234", "1234"),
        (NUMBER, "1.234,56", "1.234.567", "1234567"),
        (NUMBER, "1234,56", "-0,5", "-0.5"),
        (NUMBER, "1 234,56", "1\u00a0234,5", "1234.5"),
        (NUMBER, "1'234.56", "1\u2019234.5", "1234.5"),
        (NUMBER, "1,234.56", "1,234", "1234"),
        (CHOICE, None, " LISBON ", "Lisbon"),
        (CHOICE, None, "MÜNCHEN", "München"),
        (CHOICE, None, "porto", "Porto "),
        (US_PHONE, None, "555-123-4567", "(555) 123-4567"),
        (US_PHONE, None, "+1 (555) 123 4567", "(555) 123-4567"),
        (US_PHONE, None, "1.555.123.4567", "(555) 123-4567"),
        (PHONE, None, "+49 30 123456", "+49 30 123456"),
        (Field("ZIP", "", "zip"), None, "02134-1000", "02134"),
        (Field("WEB", "", "url"), None, "HTTPS://acme.test/x?y=1", "HTTPS://acme.test/x?y=1"),
        (Field("NOTE", "", "text"), None, " as it is ", " as it is "),
        (Field("NOTE", "", "text"), None, "é" * 127, "é" * 127),
        (DATE, "DD.MM.YYYY", " \u00a0\t", ""),
        (CHOICE, None, "", ""),
    ],
)
def test_what_is_read_is_sent_in_mailchimps_form(
    field: Field, value_format: str | None, value: str, sent: str
) -> None:
    assert sent_as(field, value, value_format) == sent
    assert problem_of(field, value, value_format) is None


@pytest.mark.parametrize(
    ("field", "value_format", "value", "problem"),
    [
        (DATE, None, "31.02.2026", "not_a_date"),
        (DATE, None, "2026-02-30", "not_a_date"),
        (DATE, None, "2025-02-29", "not_a_date"),
        (DATE, None, "0000-00-00", "not_a_date"),
        (DATE, None, "0044-03-15 00:00:00 BC", "not_a_date"),
        (DATE, None, "2026-06-01 or so", "not_a_date"),
        (DATE, None, "20260601", "not_a_date"),
        (DATE, "DD.MM.YYYY", "31.02.2026", "not_a_date"),
        (DATE, "DD.MM.YYYY", "2026-06-01", "not_a_date"),
        (DATE, "DD/MM/YYYY", "12/31/2026", "not_a_date"),
        (BIRTHDAY, None, "31/12", "not_a_birthday"),
        (BIRTHDAY, None, "02/30", "not_a_birthday"),
        (BIRTHDAY, "DD/MM", "12/31", "not_a_birthday"),
        (NUMBER, None, "1.234,56", "not_a_number"),
        (NUMBER, None, "1,5", "not_a_number"),
        (NUMBER, None, "twelve", "not_a_number"),
        (NUMBER, "1.234,56", "1.23", "not_a_number"),
        (NUMBER, "1.234,56", "1234.567", "not_a_number"),
        (CHOICE, None, "Madrid", "unknown_choice"),
        (US_PHONE, None, "+49 30 123456", "not_a_phone"),
        (US_PHONE, None, "030 1234567", "not_a_phone"),
        (US_PHONE, None, "555-1234", "not_a_phone"),
        (US_PHONE, None, "555-123-4567 ext. 5", "not_a_phone"),
        (PHONE, None, "5" * 256, "too_long"),
        (Field("ZIP", "", "zip"), None, "2134", "not_a_zip"),
        (Field("ZIP", "", "zip"), None, "SW1A 1AA", "not_a_zip"),
        (Field("WEB", "", "url"), None, "acme.test", "not_a_url"),
        (Field("WEB", "", "url"), None, "http://acme", "not_a_url"),
        (Field("WEB", "", "imageurl"), None, "https://acme.test/a b", "not_a_url"),
        (Field("WEB", "", "url"), None, "https://acme.test/" + "x" * 255, "not_a_url"),
        (Field("NOTE", "", "text"), None, "é" * 128, "too_long"),
        (Field("ADR", "", "address"), None, "1 Main Street", "incomplete_address"),
    ],
)
def test_what_is_not_read_has_a_problem_and_is_not_sent(
    field: Field, value_format: str | None, value: str, problem: str
) -> None:
    assert sent_as(field, value, value_format) is None
    assert problem_of(field, value, value_format) == problem == problem_code(field)
    assert problem in PROBLEMS


def test_an_address_is_taken_whole_or_not_at_all() -> None:
    field = Field("ADR", "", "address")
    whole = {"addr1": "1 Main St", "city": "X", "state": "CA", "zip": "90001"}
    assert problem_of(field, whole) is None
    assert problem_of(field, whole | {"city": " "}) == "incomplete_address"
    assert problem_of(field, {"addr1": "1 Main St"}) == "incomplete_address"
    assert problem_of(field, {}) is None


def test_a_choice_in_its_own_spelling_comes_before_one_in_another_case() -> None:
    field = Field("X", "", "radio", choices=("it", "IT"))
    assert [sent_as(field, value) for value in ("it", "IT", "It")] == ["it", "IT", "it"]


@pytest.mark.parametrize(
    ("kind", "value_format"),
    [
        ("date", "DD.MM"), ("date", "DD.MM.YYYY HH:mm"), ("date", "dd.mm.yyyy"), ("date", ""),
        ("date", "DD.DD.YYYY"), ("date", "DMYYYY"), ("date", "DD MMM YYYY"), ("date", "YYYY"),
        ("date", "DD.MM.YYYY" + " " * 20), ("birthday", "MM"), ("birthday", "DD.MM.YY.YY"),
        ("number", "#,##0"), ("number", "DD.MM"), ("text", "DD.MM.YYYY"), ("dropdown", "1,5"),
    ],
)  # fmt: skip
def test_a_format_that_describes_nothing_is_refused_with_what_to_do(
    kind: str, value_format: str
) -> None:
    assert format_problem(kind, value_format)


@pytest.mark.parametrize(
    ("kind", "value_format"),
    [
        ("date", "DD.MM.YYYY"), ("date", "M/D/YY"), ("date", "YYYYMMDD"), ("birthday", "DD/MM"),
        ("birthday", "D.M."), ("birthday", "YYYY-MM-DD"), ("number", "1.234,56"),
    ],
)  # fmt: skip
def test_a_format_that_fits_the_field_is_taken(kind: str, value_format: str) -> None:
    assert format_problem(kind, value_format) is None
