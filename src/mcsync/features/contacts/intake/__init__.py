"""From the bytes of a file to lines that PostgreSQL's COPY takes; pure, no database, no web."""

from mcsync.features.contacts.intake.base import Intake
from mcsync.features.contacts.intake.csv_file import CsvIntake
from mcsync.features.contacts.intake.json_rows import NdjsonIntake, ObjectIntake
from mcsync.features.contacts.intake.problems import message_of
from mcsync.features.contacts.intake.rows import OPTIONAL_FIELDS, STAGED_COLUMNS

__all__ = [
    "OPTIONAL_FIELDS",
    "STAGED_COLUMNS",
    "CsvIntake",
    "Intake",
    "NdjsonIntake",
    "ObjectIntake",
    "message_of",
]
