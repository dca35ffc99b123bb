"""The codes with which the procedures of a sync refuse. What single people are refused with is in their changes."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("nothing_to_preview", 400, "There is nothing to preview",
     "Give `id` of a saved segment, `definition` of an unsaved one, or both."),
    ("nothing_to_explain", 400, "Whom to explain is not clear",
     "Send `entityType` and `entityId`, or `email`; not both."),
    ("invalid_email", 400, "This is not an e-mail address", "Correct the address."),
    ("run_not_found", 404, "No such run", "segments.listRuns shows all runs."),
    ("not_awaiting_approval", 409, "The run does not await approval",
     "Look at its `status` with segments.getRun; only `awaiting_approval` can be approved."),
    ("run_ended", 409, "The run has ended", "Nothing is left to cancel; segments.sync starts another."),
):  # fmt: skip
    register_problem(*_row)
