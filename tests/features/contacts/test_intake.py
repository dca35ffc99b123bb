"""From bytes to COPY lines: what a file says must not depend on how its bytes arrive."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsync.core.crypto import keyed_hash
from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake import STAGED_COLUMNS, CsvIntake, Intake, NdjsonIntake
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.intake.rows import RowStager
from mcsync.mailchimp import normalise_address, subscriber_hash

KEY = b"k" * 32
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HEAD = "entityType,entityId,email"
GOOD = "employee,1,a@n.example"


def stager(*, entity_keys: bool = False) -> RowStager:
    return RowStager(Addresses(KEY), lambda: NOW, entity_keys=entity_keys)


_UNESCAPE = {"t": "\t", "n": "\n", "r": "\r"}


def unescaped(cell: str) -> str | None:
    if cell == "\\N":
        return None
    return re.sub(r"\\(.)", lambda match: _UNESCAPE.get(match[1], match[1]), cell)


def fed(intake: Intake, data: bytes, size: int = 1 << 16) -> list[dict[str, Any]]:
    """The staged rows, as PostgreSQL would read them."""
    copied = b"".join(intake.feed(data[at : at + size]) for at in range(0, len(data), size))
    copied += intake.finish()
    rows = []
    for line in copied.decode().split("\n")[:-1]:
        cells = [unescaped(cell) for cell in line.split("\t")]
        row: dict[str, Any] = dict(zip(STAGED_COLUMNS, cells, strict=True))
        row["line"] = int(row["line"])
        row["attributes"] = orjson.loads(row["attributes"] or "{}")
        rows.append(row)
    return rows


def read(text: str | bytes, size: int = 1 << 16) -> list[dict[str, Any]]:
    data = text.encode() if isinstance(text, str) else text
    return fed(CsvIntake(stager()), data, size)


def reported(rows: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(row["line"], row["field"], row["code"]) for row in rows if row["code"]]


class TestHeader:
    def test_spelling_of_standard_names_does_not_matter(self) -> None:
        (row,) = read(
            "Entity Type;entity_id;E-Mail;FIRSTNAME;Cost Centre\nVendor;7;a@n.example;Bo;12\n"
        )
        assert (row["entity_type"], row["entity_id"], row["first_name"]) == ("vendor", "7", "Bo")
        assert row["attributes"] == {"Cost Centre": "12"}

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "missing_columns"),
            ("entityType,email\n", "missing_columns"),
            (f"{HEAD},email\n", "duplicate_column"),
            (f"{HEAD},a,a\n", "duplicate_column"),
            (f"{HEAD},{'x' * 101}\n", "invalid_column_name"),
            (f"{HEAD},{','.join(f'a{n}' for n in range(101))}\n", "too_many_columns"),
        ],
    )
    def test_a_hopeless_header_refuses_the_file(self, text: str, code: str) -> None:
        with pytest.raises(BadRequestError) as error:
            read(text)
        assert error.value.code == code

    def test_utf_16_is_named_as_such(self) -> None:
        with pytest.raises(BadRequestError) as error:
            read(f"{HEAD}\n{GOOD}\n".encode("utf-16"))
        assert error.value.code == "not_utf8"

    def test_a_byte_order_mark_and_nameless_columns_are_ignored(self) -> None:
        (row,) = read(f"\ufeff{HEAD},,\n{GOOD},x,y\n")
        assert (row["entity_type"], row["attributes"]) == ("employee", {})

    @pytest.mark.parametrize("size", [1, 30, 1 << 16])
    def test_the_header_may_have_a_quoted_newline(self, size: int) -> None:
        (row,) = read(f'{HEAD},"cost\ncentre"\n{GOOD},5\n', size)
        assert row["attributes"] == {"cost\ncentre": "5"}
        assert row["line"] == 3

    def test_an_attribute_name_may_hold_a_backslash(self) -> None:
        (row,) = read(f"{HEAD},a\\b\n{GOOD},5\n")
        assert row["attributes"] == {"a\\b": "5"}

    def test_no_rows_are_no_error(self) -> None:
        assert read(HEAD) == []


class TestRows:
    def test_what_the_file_lacks_is_not_provided(self) -> None:
        intake = CsvIntake(stager())
        fed(intake, f"{HEAD},lastName\n{GOOD},\n".encode())
        assert intake.fields == {"lastName", "email"}
        assert not intake.consent

    def test_problems_carry_the_line_of_the_first_line_of_the_record(self) -> None:
        rows = read(
            f'{HEAD},note\n'                      # 1
            f'{GOOD},"two\nlines"\n'              # 2-3
            f'employee,2,bad,"three\n\nlines"\n'  # 4-6
            f'\n'                                 # 7
            f'employee,3,c@n.example\n'           # 8: the last cell is missing
            f'employee,4,d@n.example,x,y\n'       # 9
            f',,,\n'                              # 10
            f'Robot,5,,\n'                        # 11
            f'employee,"6,e@n.example,\n'         # 12: never closed
            f'employee,7,f@n.example,x\n'         # 13
        )  # fmt: skip
        assert reported(rows) == [
            (4, "email", "invalid_email"),
            (9, "", "wrong_column_count"),
            (11, "entityType", "unknown_entity_type"),
            (12, "", "unclosed_quote"),
        ]
        assert [row["entity_id"] for row in rows if not row["code"]] == ["1", "2", "3", "7"]
        assert rows[0]["attributes"] == {"note": "two\nlines"}

    def test_a_quote_never_closed_in_a_long_file_costs_one_row(self) -> None:
        body = "".join(f"employee,{n},p{n}@n.example\n" for n in range(5000))
        intake = CsvIntake(stager())
        rows = fed(intake, f'{HEAD}\nemployee,"x,y@n.example\n{body}'.encode(), 4096)
        assert reported(rows) == [(2, "", "unclosed_quote")]
        assert len(rows) == 5001
        assert intake.received == 5001

    def test_bytes_that_are_no_text_cost_their_row(self) -> None:
        rows = read(
            f"{HEAD},firstName\n".encode()
            + b"employee,1,a@n.example,J\xfcrgen\n"
            + b"employee,2,b@n.example,J\x00rgen\n"
            + "employee,3,c@n.example,Jürgen\n".encode()
        )
        assert reported(rows) == [
            (2, "firstName", "invalid_utf8"),
            (3, "firstName", "nul_character"),
        ]
        assert rows[-1]["first_name"] == "Jürgen"

    def test_lengths(self) -> None:
        rows = read(
            f"{HEAD},firstName,note\n"
            f"employee,1,a@n.example,{'ü' * 255},{'n' * 1000}\n"
            f"employee,2,b@n.example,{'ü' * 256},{'n' * 1001}\n"
            f"employee,{'3' * 256},c@n.example,,\n"
        )
        assert reported(rows) == [
            (3, "firstName", "too_long"),
            (3, "attributes.note", "too_long"),
            (4, "entityId", "too_long"),
        ]

    @pytest.mark.parametrize("quote", ["", '"'])
    def test_a_value_beyond_what_csv_reads_by_itself_costs_its_row(self, quote: str) -> None:
        value = quote + "n" * 200_000 + quote
        rows = read(f"{HEAD},note\n{GOOD},{value}\nemployee,2,b@n.example,\n")
        assert reported(rows) == [(2, "attributes.note", "too_long")]
        assert rows[-1]["entity_id"] == "2"

    def test_a_column_name_of_any_length_is_refused_in_words(self) -> None:
        with pytest.raises(BadRequestError) as error:
            read(f'{HEAD},"{"n" * 200_000}\n{"n" * 1_000_000}"\n{GOOD},5\n')
        assert error.value.code in ("invalid_column_name", "line_too_long")

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_any_line_end_in_any_pieces(self, end: str, size: int) -> None:
        text = end.join([HEAD, GOOD, "employee,2,bad", 'vendor,"3",c@n.example', ""])
        rows = read(text, size)
        assert reported(rows) == [(3, "email", "invalid_email")]
        assert [row["line"] for row in rows if not row["code"]] == [2, 3, 4]

    def test_a_file_without_line_ends_is_given_up(self) -> None:
        for intake in (CsvIntake(stager()), NdjsonIntake(stager())):
            with pytest.raises(BadRequestError) as error:
                fed(intake, b"x" * (3 << 20))
            assert error.value.code == "line_too_long"

    def test_consent(self) -> None:
        rows = read(
            f"{HEAD},optStatus,consentSource,consentGivenAt\n"
            "employee,1,a@n.example,opted_in,form,2026-01-02T03:04:05+02:00\n"
            "employee,2,a@n.example,Opted-In,,2026-01-02\n"
            "employee,3,a@n.example,yes,,\n"
            "employee,4,a@n.example,opted_in,,yesterday\n"
            "employee,5,a@n.example,opted_in,,2026-12-24\n"
            "employee,6,a@n.example,,form,nonsense\n"
            "employee,7,bad,opted_out,letter,\n"
            "Robot,8,h@n.example,opted_out,letter,\n"
        )
        assert [(row["opt_status"], row["consent_given_at"]) for row in rows[:2]] == [
            ("opted_in", "2026-01-02T01:04:05+00:00"), ("opted_in", "2026-01-01T10:00:00+00:00"),
        ]  # fmt: skip
        assert reported(rows) == [
            (4, "optStatus", "invalid_consent"),
            (5, "consentGivenAt", "invalid_consent"),
            (6, "consentGivenAt", "invalid_consent"),
            (8, "email", "invalid_email"),
            (9, "entityType", "unknown_entity_type"),
        ]
        taken = {row["entity_id"]: row["opt_status"] for row in rows[2:] if not row["code"]}
        assert taken == {"3": None, "4": None, "5": None, "6": None, "7": "opted_out"}
        # an opt-out holds even where its row is refused
        last = rows[-1]
        assert (last["opt_status"], last["entity_id"], last["email"]) == (
            "opted_out",
            None,
            "h@n.example",
        )


class TestNdjson:
    def test_objects_line_by_line(self) -> None:
        rows = fed(
            NdjsonIntake(stager()),
            b'\xef\xbb\xbf{"entityType":"employee","entityId":7,"email":"a@n.example","level":3}\n'
            b"\n"
            b'{"entityType":"vendor","entityId":"8","email":"b@n.example","attributes":{"x":null}}\r\n'
            b"[1]\n{nonsense\n\xff\n"
            b'{"entityType":"employee","entityId":"9","email":5}\n'
            b'{"entityType":"employee","entityId":"9","email":"c@n.example","attributes":{"a":[1]}}\n'
            b'{"entityType":"employee","entityId":"10","email":"d@n.example","lastName":"x\\u0000"}',
            16,
        )
        assert reported(rows) == [
            (4, "", "invalid_json"),
            (5, "", "invalid_json"),
            (6, "", "invalid_utf8"),
            (7, "email", "invalid_type"),
            (8, "attributes.a", "invalid_attribute"),
            (9, "lastName", "nul_character"),
        ]
        assert rows[0]["attributes"] == {"level": 3}
        assert (rows[0]["entity_id"], rows[1]["attributes"]) == ("7", {"x": None})


NASTY = st.text(
    st.one_of(
        st.sampled_from("\",;\t\r\n\\N |'{}:\u00a0\u2028\u3000\x0b\x1f\x7fäλЖ名ع"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=40,
)


class TestRoundTrip:
    @given(
        st.lists(st.tuples(NASTY, NASTY, NASTY, NASTY), max_size=8),
        st.integers(1, 60),
        st.sampled_from(["\n", "\r\n"]),
    )
    @settings(max_examples=150, deadline=None)
    def test_whatever_csv_can_quote_arrives_as_it_was(
        self, values: list[tuple[str, ...]], size: int, end: str
    ) -> None:
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerow([*HEAD.split(","), "firstName", "department", "a", "b"])
        for number, row in enumerate(values):
            writer.writerow(["vendor", f"n{number}", f"p{number}@n.example", *row])
        rows = read(file.getvalue(), size)
        assert reported(rows) == []
        got = [
            (r["first_name"], r["department"], r["attributes"]["a"], r["attributes"]["b"])
            for r in rows
        ]
        assert got == [tuple(value.strip() or None for value in row) for row in values]

    @given(st.lists(st.lists(st.one_of(
        st.sampled_from(["employee", "VENDOR", "robot", "", " ", "E1", "a@n.example", "A@N.example",
                         "bad", "x" * 300, "opted_in", "Opted-Out", "2026-01-01", "never", "ünï@n.example",
                         "unsubscribed", "FALSE", "yes", "0", "2026-01-01 10:00", "01.02.2026"]),
        st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
                max_size=12),
    ), min_size=3, max_size=9), max_size=6))  # fmt: skip
    @settings(max_examples=150, deadline=None)
    def test_the_fast_way_and_the_careful_way_agree(self, values: list[list[str]]) -> None:
        head = f"{HEAD},lastName,optStatus,consentGivenAt,tag"
        plain = "".join("\t".join(row) + "\n" for row in [head.split(","), *values])
        careful = CsvIntake(stager(entity_keys=True))
        quoted = "".join(
            "\t".join(f'"{cell}"' for cell in row) + "\n" for row in [head.split(","), *values]
        )
        fast = CsvIntake(stager(entity_keys=True))
        assert fed(fast, plain.encode()) == fed(careful, quoted.encode())
        assert fast.received == careful.received


class TestAddresses:
    @given(st.emails(), st.binary(min_size=1, max_size=100))
    @settings(max_examples=60, deadline=None)
    def test_hashes_are_those_of_everybody_else(self, email: str, key: bytes) -> None:
        md5, keyed = Addresses(key).hashes(email)
        address = normalise_address(email)
        assert md5 == subscriber_hash(email)
        assert keyed == keyed_hash(key, "address", address).hex
        assert (
            Addresses(key).entity_key("vendor", "ü1") == keyed_hash(key, "entity", "vendor\0ü1").hex
        )
