"""Files as spreadsheets and databases write them: encodings, separators, workbooks, other column names."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from typing import Any

import asyncpg
import openpyxl
import pytest

from tests.features.contacts.callers import Caller, codes, counts

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
NDJSON = "application/x-ndjson"
HEAD = "entityType;entityId;email;firstName"
ROWS = "employee;E-1;zoe@n.example;Zoë\r\nemployee;E-2;juergen@n.example;Jürgen\r\n"
TEXT = f"{HEAD}\r\n{ROWS}"


def sheet(*rows: list[Any], before: bool = False, **formats: str) -> bytes:
    """A workbook as openpyxl writes it; ``before``: a hidden sheet comes first; formats by cell."""
    book = openpyxl.Workbook()
    active = book.active
    assert active is not None
    for row in rows:
        active.append(row)
    for cell, number_format in formats.items():
        active[cell].number_format = number_format
    book.create_sheet("other").append(["not", "this", "one"])
    if before:
        hidden = book.create_sheet("lists", 0)
        hidden.append(["choices"])
        hidden.sheet_state = "hidden"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


async def names(editor: Caller, *ids: str) -> list[str | None]:
    return [(await editor.contact(entity_id))["firstName"] for entity_id in ids]


class TestEncodings:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (TEXT.encode("utf-8-sig"), "text/csv"),
            (TEXT.encode("utf-16"), "text/csv"),
            (b"\xfe\xff" + TEXT.encode("utf-16-be"), "text/csv; charset=utf-8"),
            (TEXT.encode("utf-32"), "text/csv"),
            (TEXT.encode("utf-16-le"), "text/csv; charset=utf-16"),
            (TEXT.encode("utf-16-be"), "text/csv"),
            (TEXT.encode("cp1252"), "text/csv; charset=windows-1252"),
            (TEXT.encode("latin-1"), 'text/csv; header=present; charset="ISO-8859-1"'),
            (TEXT.encode("iso-8859-15"), "text/csv;charset=iso-8859-15"),
            (TEXT.encode("cp1250"), "text/csv; charset=cp1250"),
            (TEXT.encode("mac_roman"), "text/csv; charset=macroman"),
            (TEXT.encode("utf-16"), "application/vnd.ms-excel"),
        ],
    )
    async def test_a_file_is_read_in_the_encoding_that_it_says(
        self, editor: Caller, data: bytes, kind: str
    ) -> None:
        assert counts(await editor.took(data, kind)) == (2, 2, 0, 0, 0)
        assert await names(editor, "E-1", "E-2") == ["Zoë", "Jürgen"]

    async def test_japanese_and_chinese_files_are_read(self, editor: Caller) -> None:
        for charset, name in (("shift_jis", "髙橋①"), ("gb2312", "张伟"), ("euc-kr", "민준")):
            codec = {"shift_jis": "cp932"}.get(charset, charset)
            data = f"{HEAD}\nemployee;{charset};x@n.example;{name}\n".encode(codec)
            await editor.took(data, f"text/csv; charset={charset}")
            assert await names(editor, charset) == [name]

    async def test_lines_of_json_may_be_in_utf_16(self, editor: Caller) -> None:
        line = (
            '{"entityType":"employee","entityId":"E-1","email":"z@n.example","firstName":"Zoë"}\n'
        )
        await editor.took(line.encode("utf-16"), NDJSON)
        assert await names(editor, "E-1") == ["Zoë"]

    async def test_a_header_that_is_not_utf_8_is_told_with_what_to_do(self, editor: Caller) -> None:
        data = "entityType;entityId;email;Straße\nemployee;E-1;a@n.example;x\n".encode("cp1252")
        answer = await editor.send(data)
        assert (answer.status_code, answer.json()["code"]) == (400, "not_utf8")
        assert "charset=windows-1252" in answer.json()["detail"]
        assert counts(await editor.took(data, "text/csv; charset=windows-1252"))[1] == 1

    async def test_one_unreadable_row_costs_that_row(self, editor: Caller) -> None:
        data = f"{HEAD}\n".encode() + "employee;E-1;a@n.example;Jürgen\n".encode("cp1252")
        answer = await editor.took(data + b"employee;E-2;b@n.example;Bo\n")
        assert codes(answer) == [(2, "firstName", "invalid_utf8")]
        # 0x81 is no character of windows-1252, and half a character of Shift_JIS
        for charset in ("windows-1252", "shift_jis", "utf-8"):
            data = f"{HEAD}\n".encode() + b"employee;E-3;c@n.example;\x81\n"
            answer = await editor.took(
                data + b"employee;E-4;d@n.example;Di\n", f"text/csv; charset={charset}"
            )
            assert codes(answer) == [(2, "firstName", "invalid_utf8")]
        half = f"{HEAD}\nemployee;E-5;e@n.example;x".encode("utf-16-le") + b"\x00\xd8\n\x00"
        answer = await editor.took(half, "text/csv; charset=utf-16le")
        assert [row["code"] for row in answer["rejections"]] == ["invalid_utf8"]

    @pytest.mark.parametrize(
        "charset", ["ansi", "rot13", "cp037", "utf-7", "x" * 300, "%fc", "idna"]
    )
    async def test_a_charset_that_is_not_known_is_refused(
        self, editor: Caller, charset: str
    ) -> None:
        answer = await editor.send(TEXT, f"text/csv; charset={charset}")
        assert (answer.status_code, answer.json()["code"]) == (415, "unknown_charset")
        assert "windows-1252" in answer.json()["detail"]


class TestSeparators:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    async def test_it_is_found_by_the_header(self, editor: Caller, separator: str) -> None:
        text = TEXT.replace(";", separator)
        assert counts(await editor.took(text)) == (2, 2, 0, 0, 0)
        assert await names(editor, "E-1", "E-2") == ["Zoë", "Jürgen"]

    @pytest.mark.parametrize(
        ("header", "row"),
        [
            ('entityType;entityId;email;firstName;"street, number, town, country, planet"',
             "employee;E-1;a@n.example;Bo;x"),
            ('"entityType";"entityId";"email";"firstName";"a,b,c";"d,e,f"',
             'employee;E-1;a@n.example;"Bo";x;"y,z"'),
            ('entityType|entityId|email|firstName|"a;b;c;d;e;f"|"said ""a, b, c, d"""',
             "employee|E-1|a@n.example|Bo|x|y"),
            ("entityType;entityId;email;firstName;a,b,c,d,e,f,g", "employee;E-1;a@n.example;Bo;x"),
            ('"a,b\n,c,d";entityType;entityId;email;firstName', "x;employee;E-1;a@n.example;Bo"),
        ],
    )  # fmt: skip
    async def test_separators_inside_names_do_not_count(
        self, editor: Caller, header: str, row: str
    ) -> None:
        assert counts(await editor.took(f"{header}\n{row}\n")) == (1, 1, 0, 0, 0)
        assert await names(editor, "E-1") == ["Bo"]

    @pytest.mark.parametrize(
        ("first", "separator"),
        [("sep=;", ";"), ("SEP=;", ";"), ('"sep=;"', ";"), ("\ufeffsep=,", ","), ("sep=^", "^"),
         ("sep=\t", "\t"), ("sep=|;;;", "|")],
    )  # fmt: skip
    async def test_the_first_line_of_excel_is_obeyed(
        self, editor: Caller, first: str, separator: str
    ) -> None:
        text = TEXT.replace(";", separator)
        answer = await editor.took(f"{first}\r\n{text}employee{separator}E-3{separator}bad\r\n")
        assert counts(answer)[1] == 2
        assert answer["rejections"][0]["line"] == 5

    @pytest.mark.parametrize("size", [1, 3, 1 << 16])
    async def test_blank_lines_before_the_header_are_skipped_and_counted(
        self, editor: Caller, size: int
    ) -> None:
        data = f"\r\n;;;\r\n \r\n{HEAD}\r\nemployee;E-1;bad;x\r\n{ROWS}".encode()

        async def body() -> AsyncIterator[bytes]:
            for at in range(0, len(data), size):
                yield data[at : at + size]

        answer = await editor.took(body())  # type: ignore[arg-type]
        assert codes(answer) == [(5, "email", "invalid_email")]
        assert counts(answer) == (3, 2, 0, 0, 1)

    async def test_a_null_of_mysql_is_empty(self, editor: Caller) -> None:
        await editor.took(f"{HEAD};lastName;path\nemployee;E-1;a@n.example;Bo;Berg;x\n")
        await editor.took(
            f"{HEAD};lastName;path\nemployee;E-1;a@n.example;\\N;Berg;C:\\New\n"
            'employee;E-2;b@n.example;"\\N"; \\N ;\\\\N\n'
        )
        first, second = await editor.contact("E-1"), await editor.contact("E-2")
        assert (first["firstName"], first["attributes"]) == (None, {"path": "C:\\New"})
        assert (second["firstName"], second["lastName"]) == (None, None)
        assert second["attributes"] == {"path": "\\\\N"}


class TestWorkbooks:
    @pytest.mark.parametrize("kind", [XLSX, "text/csv", "application/octet-stream", NDJSON])
    async def test_the_first_sheet_is_read(
        self, editor: Caller, kind: str, onlooker: asyncpg.Connection
    ) -> None:
        data = sheet(
            [], ["Entity Type", "entityId", "E-Mail", "firstName", "hired", "seen", "level", "share",
                 "permanent", "at", "lasts", None],
            ["employee", 42, "z@n.example", "Zoë\nLee", date(2026, 3, 1), datetime.fromisoformat("2026-03-01T13:05"),
             7.0, 0.1 + 0.2, True, time(8, 30), timedelta(hours=30)],
            [None, None, ""],
            ["employee", 43, "bad", "x"],
            ["employee", 44, "y@n.example", "Yu", None, None, 1e20, -2.5, False],
            before=True,
        )  # fmt: skip
        answer = await editor.took(data, kind)
        assert counts(answer) == (3, 2, 0, 0, 1)
        assert codes(answer) == [(5, "email", "invalid_email")]
        first = await editor.contact("42")
        assert first["firstName"] == "Zoë\nLee"
        assert first["attributes"] == {
            "hired": "2026-03-01", "seen": "2026-03-01T13:05:00", "level": "7", "share": "0.3",
            "permanent": "true", "at": "08:30:00", "lasts": "30:00:00",
        }  # fmt: skip
        second = await editor.contact("44")
        assert second["attributes"] == {
            "level": "100000000000000000000", "share": "-2.5", "permanent": "false",
        }  # fmt: skip
        assert await onlooker.fetchval("select kind from contact_imports") == "xlsx"

    async def test_leading_zeros_that_are_shown_are_kept(self, editor: Caller) -> None:
        data = sheet(
            ["entityType", "entityId", "email"], ["employee", 42, "z@n.example"], B2="00000"
        )
        await editor.took(data, XLSX)
        assert (await editor.contact("00042"))["email"] == "z@n.example"

    async def test_a_long_sheet_goes_in_whole(self, editor: Caller) -> None:
        rows = [["vendor", n, f"p{n}@n.example", None, f"N{n}"] for n in range(3000)]
        data = sheet(["entityType", "entityId", "email", None, "firstName"], *rows)
        assert counts(await editor.took(data, XLSX)) == (3000, 3000, 0, 0, 0)

    async def test_an_error_of_a_formula_is_told_and_not_stored(self, editor: Caller) -> None:
        data = sheet(
            ["entityType", "entityId", "email", "department"],
            ["employee", 1, "a@n.example", "#N/A"],
            ["employee", 2, "b@n.example", "Sales"],
        )
        answer = await editor.took(data, XLSX)
        assert codes(answer) == [(2, "department", "invalid_utf8")]
        assert "#N/A" in answer["rejections"][0]["message"]
        assert answer["created"] == 2
        assert (await editor.contact("1"))["department"] is None

    async def test_it_may_hold_statements_of_consent(self, editor: Caller) -> None:
        await editor.took(TEXT)
        data = sheet(
            ["entityType", "entityId", "optStatus", "consentGivenAt"],
            ["employee", "E-1", "opted_in", datetime.fromisoformat("2026-01-02T03:04:05")],
            ["employee", "E-2", "opted_out"],
        )
        answer = await editor.stated(data, XLSX)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["optedIn"], answer.json()["optedOut"]) == (1, 1)

    @pytest.mark.parametrize(
        ("data", "kind", "status", "code"),
        [
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "application/vnd.ms-excel", 415,
             "unreadable_file"),
            (gzip.compress(TEXT.encode()), "text/csv", 415, "unreadable_file"),
            (b"%PDF-1.7\n%\xe2\xe3", "text/csv", 415, "unreadable_file"),
            (b"  <!DOCTYPE html><html><table>", "text/csv", 415, "unreadable_file"),
            (b"PK\x03\x04" + b"\0" * 100, XLSX, 400, "unreadable_spreadsheet"),
            (TEXT.encode(), XLSX, 400, "unreadable_spreadsheet"),
            (b"", XLSX, 400, "unreadable_spreadsheet"),
            (TEXT.encode(), "application/octet-stream", 415, "unsupported_media_type"),
            (TEXT.encode(), "", 415, "unsupported_media_type"),
            (sheet(["a", "b"]), XLSX, 400, "missing_columns"),
            (sheet(), XLSX, 400, "missing_columns"),
        ],
    )  # fmt: skip
    async def test_other_files_are_refused_with_what_to_do(
        self, editor: Caller, data: bytes, kind: str, status: int, code: str
    ) -> None:
        answer = await editor.send(data, kind)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text

    @pytest.mark.parametrize(
        "members",
        [
            {"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": b"<a/>"},
            {"contacts.csv": TEXT.encode()},
            {"[Content_Types].xml": b"<a/>", "xl/workbook.bin": b"x"},
            {"[Content_Types].xml": b"<a/>", "word/document.xml": b"<a/>"},
        ],
    )
    async def test_other_archives_are_refused(
        self, editor: Caller, members: dict[str, bytes]
    ) -> None:
        answer = await editor.send(zipped(members), "text/csv")
        assert (answer.status_code, answer.json()["code"]) == (415, "unreadable_file")
        assert ".xlsx" in answer.json()["detail"]

    async def test_a_formula_without_a_stored_result_is_told(self, editor: Caller) -> None:
        data = sheet(["entityType", "entityId", "email"], ["employee", "E-1", '=B2&"@n.example"'])
        answer = await editor.send(data, XLSX)
        assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_spreadsheet")
        assert "formula" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("part", "mebibytes", "claimed"),
        [
            ("xl/worksheets/sheet1.xml", 40, None),
            ("xl/sharedStrings.xml", 40, None),
            ("xl/styles.xml", 17, None),
            ("junk.bin", 17, None),
            ("xl/worksheets/sheet9.xml", 1, (1 << 30) + 1),
            ("xl/worksheets/sheet9.xml", 1, (1 << 30) - 10),
        ],
    )
    async def test_a_bomb_is_refused(
        self, editor: Caller, onlooker: asyncpg.Connection, part: str, mebibytes: int,
        claimed: int | None,
    ) -> None:  # fmt: skip
        members = parts_of(
            sheet(["entityType", "entityId", "email"], ["employee", "E-1", "a@n.test"])
        )
        data = zipped(members | {part: b"\0" * (mebibytes << 20)})
        if claimed is not None:  # the size, in the entry of the directory at the end
            at = data.rindex(b"PK\x01\x02", 0, data.rindex(part.encode()))
            data = data[: at + 24] + claimed.to_bytes(4, "little") + data[at + 28 :]
        answer = await editor.send(data, XLSX)
        assert (answer.status_code, answer.json()["code"]) == (413, "spreadsheet_too_large")
        assert await onlooker.fetchval("select count(*) from contacts") == 0

    async def test_a_row_far_below_ends_the_reading(self, editor: Caller) -> None:
        good = sheet(["entityType", "entityId", "email"], ["employee", "E-1", "a@n.example"])
        members = parts_of(good)
        name = "xl/worksheets/sheet1.xml"
        members[name] = members[name].replace(b'r="2"', b'r="99999999999"')
        answer = await editor.send(zipped(members), XLSX)
        assert answer.status_code in (400, 413), answer.text


def parts_of(workbook: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


GERMAN = (
    "Personalnummer;E-Mail-Adresse ;Vorname;Notiz;Kostenstelle\n42;z@n.example;Zoë;geheim;4711\n"
)
GERMAN_MAP = ["personalnummer:entityId", " E-MAIL-ADRESSE:email,Vorname:first name", "Notiz:"]


class TestColumns:
    async def test_foreign_headers_become_fields(self, editor: Caller) -> None:
        answer = await editor.took(
            GERMAN,
            map=[*GERMAN_MAP, "Kostenstelle:attributes.costCentre"],
            set="entityType:employee,attributes.origin:SAP",
        )
        assert counts(answer) == (1, 1, 0, 0, 0)
        found = await editor.contact("42")
        assert (found["email"], found["firstName"]) == ("z@n.example", "Zoë")
        assert found["attributes"] == {"costCentre": "4711", "origin": "SAP"}

    async def test_a_blank_row_is_no_row_even_with_a_constant(self, editor: Caller) -> None:
        answer = await editor.took(f"{GERMAN}\n;;;;\n", map=GERMAN_MAP, set="entityType:employee")
        assert counts(answer) == (1, 1, 0, 0, 0)

    async def test_a_name_may_hold_a_comma_and_a_colon(self, editor: Caller) -> None:
        await editor.took(
            'entityType;entityId;email;"Name: first, given"\nemployee;E-1;a@n.example;Bo\n',
            map='"Name: first, given:firstName"',
        )
        assert await names(editor, "E-1") == ["Bo"]

    async def test_keys_of_json_are_mapped(self, editor: Caller) -> None:
        answer = await editor.took(
            '{"Personalnummer":42,"E-Mail":"z@n.example","Vorname":"Zoë","Notiz":"geheim","x":1}\n'
            '{"personalnummer":43,"e-mail":"y@n.example","Vorname":"Y","firstName":"Z"}\n',
            NDJSON,
            map="Personalnummer:entityId,E-Mail:email,Vorname:firstName,Notiz:",
            set="entityType:employee",
        )
        assert codes(answer) == [(2, "firstName", "duplicate_field")]
        found = await editor.contact("42")
        assert (found["firstName"], found["attributes"]) == ("Zoë", {"x": 1})

    async def test_a_workbook_is_mapped_too(self, editor: Caller) -> None:
        data = sheet(["Nr", "Mail"], [1, "a@n.example"])
        await editor.took(data, XLSX, map=["Nr:entityId", "Mail:email"], set="entityType:vendor")
        assert (await editor.contact("1", "vendor"))["email"] == "a@n.example"

    async def test_a_name_that_the_file_lacks_is_told_with_those_that_it_has(
        self, editor: Caller
    ) -> None:
        answer = await editor.send(GERMAN, map="Nachname:lastName", set="entityType:employee")
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_column")
        assert "Personalnummer, E-Mail-Adresse, Vorname" in answer.json()["detail"]
        line = '{"entityType":"employee","entityId":"E-1","email":"a@n.example","Mail":"x"}'
        answer = await editor.send(line, NDJSON, map="E-Mial:email")
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_column")
        answer = await editor.send(GERMAN.split("\n")[1], map="Nachname:lastName")
        assert "z@n.example" not in answer.text

    @pytest.mark.parametrize(
        ("given", "code"),
        [
            ({"map": "E-Mail:email,Mail:email"}, "duplicate_column"),
            ({"map": "Mail:email"}, "duplicate_column"),
            ({"set": "entityType:employee"}, "duplicate_column"),
            ({"map": "E-Mail:emial"}, "invalid_mapping"),
            ({"map": "E-Mail"}, "invalid_mapping"),
            ({"map": " , "}, "invalid_mapping"),
            ({"columns": ""}, "invalid_mapping"),
            ({"map": ":email"}, "invalid_mapping"),
            ({"map": "Mail:lastName,mail :firstName"}, "invalid_mapping"),
            ({"map": "Mail:attributes."}, "invalid_mapping"),
            ({"set": "entityType:robot"}, "invalid_mapping"),
            ({"set": "entityId:1"}, "invalid_mapping"),
            ({"set": "email:a@n.example"}, "invalid_mapping"),
            ({"set": "department:"}, "invalid_mapping"),
            ({"set": "optStatus:perhaps"}, "invalid_mapping"),
            ({"columns": "Mial"}, "unknown_column"),
        ],
    )
    async def test_what_cannot_be_meant_is_refused(
        self, editor: Caller, given: dict[str, str], code: str
    ) -> None:
        text = "entityType,entityId,email,E-Mail,Mail\nemployee,E-1,a@n.example,b@n.example,c\n"
        if "E-Mail" not in given.get("map", ""):
            text = text.replace(",E-Mail", ",Other")
        answer = await editor.send(text, **given)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text

    async def test_of_many_columns_some_are_chosen(self, editor: Caller) -> None:
        names = [f"a{n}" for n in range(150)]
        text = f"{HEAD};{';'.join(names)}\nemployee;E-1;a@n.example;Bo;{';'.join(names)}\n"
        answer = await editor.send(text)
        assert (answer.status_code, answer.json()["code"]) == (400, "too_many_columns")
        assert "columns" in answer.json()["detail"]
        await editor.took(text, columns="A7,email, a149")
        found = await editor.contact("E-1")
        assert found["attributes"] == {"a7": "a7", "a149": "a149"}
        line = '{"entityType":"employee","entityId":"E-1","email":"a@n.example","q":1,"r":2}'
        await editor.took(line, NDJSON, columns="r")
        assert (await editor.contact("E-1"))["attributes"] == {"a7": "a7", "a149": "a149", "r": 2}

    async def test_statements_are_mapped_and_other_columns_left_out_on_request(
        self, editor: Caller
    ) -> None:
        await editor.took(TEXT)
        text = "Nr;Status;Quelle;Notiz\nE-1;opted_out;Brief;x\n"
        given: dict[str, Any] = {
            "map": "Nr:entityId,Status:optStatus,Quelle:consentSource",
            "set": "entityType:employee",
        }
        answer = await editor.stated(text, **given)
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_columns")
        assert "number 4." in answer.json()["detail"]
        for more in ({"map": given["map"] + ",Notiz:"}, {"columns": "optStatus"}):
            answer = await editor.stated(text, **(given | more))
            assert answer.status_code == 200, answer.text
        assert (await editor.preference("E-1"))["status"] == "opted_out"
        line = '{"Nr":"E-2","Status":"opted_out","Notiz":"x"}'
        answer = await editor.stated(
            line, NDJSON, map="Nr:entityId,Status:optStatus,Notiz:", set="entityType:employee"
        )
        assert answer.json()["optedOut"] == 1
