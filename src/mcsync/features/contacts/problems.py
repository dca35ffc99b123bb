"""The codes with which whole requests about contacts are refused. Those of rows: ``intake/problems.py``."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("line_too_long", 400, "The file has no lines of sensible length",
     "Send CSV or NDJSON in UTF-8, uncompressed."),
    ("not_utf8", 400, "The file is not in UTF-8", "Save it as CSV in UTF-8."),
    ("missing_columns", 400, "The file lacks columns that must be there",
     "Name at least entityType, entityId and email in the first line."),
    ("duplicate_column", 400, "Two columns have the same name", "Rename or remove one of them."),
    ("invalid_column_name", 400, "A column name cannot be used", "Use text of at most 100 characters."),
    ("too_many_columns", 400, "The file has too many columns", "Keep at most 100 attributes."),
    ("upload_stalled", 400, "The upload stood still", "Send it again, without pauses."),
    ("unknown_time_zone", 400, "There is no such time zone",
     "Send the IANA name of a zone, such as Europe/Berlin, or UTC."),
    ("contact_not_found", 404, "No such contact", "Send it with contacts.upsert first."),
    ("confirm_withdrawals", 409, "Suspiciously many contacts would be withdrawn",
     "Check the file. If it is right, repeat it with confirmWithdrawals=true."),
    ("erased_meanwhile", 409, "Somebody was erased while the contacts were read",
     "Send them again."),
):  # fmt: skip
    register_problem(*_row)
