"""The codes with which requests about erasures are refused."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("reason_names_person", 400, "The reason names the erased person",
     "The receipt keeps the reason: say why without naming anybody."),
    ("proof_needed", 400, "A new consent needs proof",
     "Send the form, the wording or other evidence of the new consent."),
    ("erasure_not_found", 404, "No such erasure", "preferences.listErasures shows all."),
    ("suppression_not_found", 404, "Nothing is suppressed here",
     "Nobody was erased under this id or address, or it was lifted before."),
    ("address_shared", 409, "Several contacts have this address",
     "Name the one who is meant by entityType and entityId; `contacts` lists them."),
    ("target_not_open", 409, "This target is not open", "preferences.getErasure shows its state."),
    ("account_connected", 409, "The target's account is connected",
     "The work goes on by itself; only targets of an account no longer connected can be closed."),
    ("erasure_open", 409, "The erasure is still under way", "Wait until it is done."),
    ("consent_not_newer", 409, "The consent is not newer than the erasure",
     "Only consent that the person gave after the erasure lifts it."),
):  # fmt: skip
    register_problem(*_row)
