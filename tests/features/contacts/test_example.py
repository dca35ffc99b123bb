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
    assert counts(answer) == (1212, 1205, 0, 0, 7)
    refused = Counter(row["code"] for row in answer["rejections"] if not row["taken"])
    assert refused == {
        "invalid_email": 3, "unknown_entity_type": 1, "duplicate_entity_id": 1, "missing_entity_id": 1,
        "wrong_column_count": 1,
    }  # fmt: skip
    taken = Counter(row["code"] for row in answer["rejections"] if row["taken"])
    assert taken == {"invalid_consent": 2, "too_long": 1}
    shared = await onlooker.fetchval(
        "select sum(n) from (select count(*) as n from contacts where email is not null"
        " group by address_hash having count(*) > 1) s"
    )
    assert shared == 28
    found = await onlooker.fetch("select status, count(*) as n from email_preferences group by 1")
    statuses = {row["status"]: row["n"] for row in found}
    assert 600 < statuses["opted_in"] < 720
    assert 40 < statuses["opted_out"] < 110
    again = await editor.took(content)
    assert counts(again) == (1212, 0, 0, 1205, 7)
