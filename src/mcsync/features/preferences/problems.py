"""The codes with which statements of consent are refused."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("subject_needed", 400, "It is not clear who is meant",
     "Send entityType and entityId, or email."),
    ("invalid_email", 400, "This cannot be an address", "Send the address as it is known."),
    ("invalid_consent_time", 400, "consentGivenAt cannot be used",
     "Send the time of an opt-in, not in the future."),
    ("unknown_columns", 400, "The file has columns that are not taken",
     "Leave them out, or give them the names that preferences.import takes."),
    ("opt_in_not_newer", 409, "A withdrawal stands that is not older than the opt-in",
     "Record a newer consent, with the time when it was given."),
    ("withdrawal_stands", 409, "Only a later opt-in lifts a withdrawal",
     "Record an opt-in with its time; `unset` does not lift a withdrawal."),
):  # fmt: skip
    register_problem(*_row)
