"""examples/contacts.csv is what its generator makes, and imports as the demonstration says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import asyncpg

from tests.features.contacts.callers import Caller, counts

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_file_is_what_the_generator_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(EXAMPLES / "make_contacts.py")], capture_output=True, check=True
    )
    assert made.stdout == (EXAMPLES / "contacts.csv").read_bytes()


async def test_it_imports_with_its_dozen_of_wrong_rows(
    editor: Caller, onlooker: asyncpg.Connection
) -> None:
    content = (EXAMPLES / "contacts.csv").read_bytes()
    answer = await editor.took(content)
    assert counts(answer) == (1212, 1200, 0, 0, 12)
    assert Counter(row["code"] for row in answer["rejections"]) == {
        "invalid_email": 3, "missing_email": 1, "unknown_entity_type": 1, "duplicate_entity_id": 1,
        "missing_entity_id": 1, "invalid_consent": 2, "too_long": 1, "wrong_column_count": 2,
    }  # fmt: skip
    shared = await onlooker.fetchval(
        "select sum(n) from (select count(*) as n from contacts group by address_hash having count(*) > 1) s"
    )
    assert shared == 20
    found = await onlooker.fetch("select status, count(*) as n from email_preferences group by 1")
    statuses = {row["status"]: row["n"] for row in found}
    assert 600 < statuses["opted_in"] < 720
    assert 40 < statuses["opted_out"] < 110
    again = await editor.took(content)
    assert counts(again) == (1212, 0, 0, 1200, 12)
