"""The codes with which whole requests about contacts are refused. Those of rows: ``intake/problems.py``."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("line_too_long", 400, "The file has no lines of sensible length",
     "Send CSV or NDJSON in UTF-8, uncompressed."),
    ("not_utf8", 400, "The file is not in the encoding that it says",
     "Declare its charset, as in `Content-Type: text/csv; charset=windows-1252`, or save it as CSV in UTF-8."),
    ("unreadable_spreadsheet", 400, "The spreadsheet cannot be read",
     "Open and save it as .xlsx again, or save the sheet as CSV in UTF-8."),
    ("invalid_mapping", 400, "What is said about the columns cannot be meant",
     "Write `map=NAME:field`, `set=field:value` and `columns=NAME,NAME`."),
    ("unknown_column", 400, "A column that is named is not in the file",
     "Compare the name with the first line of the file."),
    ("missing_columns", 400, "The file lacks columns that must be there",
     "Name at least entityType, entityId and email in the first line, or give them with `map` and `set`."),
    ("duplicate_column", 400, "Two columns have the same name",
     "Rename or remove one of them, or leave one out with `map=NAME:`."),
    ("invalid_column_name", 400, "A column name cannot be used", "Use text of at most 100 characters."),
    ("too_many_columns", 400, "The file has too many columns", "Name at most 100 of them, those to take as attributes, in `columns`."),
    ("upload_stalled", 400, "The upload stood still", "Send it again, without pauses."),
    ("spreadsheet_too_large", 413, "The spreadsheet is larger than what is read",
     "Save the sheet as CSV in UTF-8, which may have any size."),
    ("unknown_charset", 415, "The charset is not known",
     "Declare one that is, such as windows-1252, or send UTF-8."),
    ("unreadable_file", 415, "Files of this kind are not read", "Save it as .xlsx or as CSV in UTF-8."),
    ("unknown_time_zone", 400, "There is no such time zone",
     "Send the IANA name of a zone, such as Europe/Berlin, or UTC."),
    ("contact_not_found", 404, "No such contact", "Send it with contacts.upsert first."),
    ("confirm_withdrawals", 409, "Suspiciously many contacts would be withdrawn",
     "Check the file. If it is right, repeat it with confirmWithdrawals=true."),
    ("erased_meanwhile", 409, "Somebody was erased while the contacts were read",
     "Send them again."),
):  # fmt: skip
    register_problem(*_row)
