"""A file of statements of consent, as lines for the staging table of imports.

Reads as :mod:`mcsync.features.contacts.intake` does; a row's proof travels in the column ``attributes``.
"""

from __future__ import annotations

import csv
from typing import Final

import orjson

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.consent import is_network_address
from mcsync.features.contacts.intake import CsvIntake, NdjsonIntake
from mcsync.features.contacts.intake.csv_file import Header
from mcsync.features.contacts.intake.rows import (
    CONSENT_FIELDS,
    NULL,
    PROVIDED_BIT,
    STAGED_COLUMNS,
    Problem,
    Row,
    RowStager,
    escaped,
    strings_in,
    unreadable,
)

PROOF_FIELDS: Final = {"form": 500, "wordingVersion": 200, "ipAddress": 45, "evidence": 4_000}
"""What can prove consent, and how long each may be."""

FIELDS: Final = ("entityType", "entityId", *CONSENT_FIELDS, *PROOF_FIELDS)
_PROVIDED: Final = str(PROVIDED_BIT["optStatus"])
_ADDRESS_NAMES: Final = ("email", "Email", "EMAIL", "e-mail", "E-Mail", "emailAddress")
_BETWEEN: Final = "\t".join(
    [NULL] * (STAGED_COLUMNS.index("attributes") - STAGED_COLUMNS.index("entity_key") - 1)
)


class StatementStager(RowStager):
    """Checks statements and writes them as COPY lines."""

    def stage(self, row: Row) -> str:
        """The COPY lines of one statement: itself, or one for each thing that is wrong with it."""
        problems: list[Problem] = list(row.problems)
        entity_type, entity_id = self._entity(row, problems)
        if not row.text("optStatus") and not any(field == "optStatus" for field, _ in problems):
            problems.append(("optStatus", "missing_opt_status"))
        status, source, given = self._consent(row, problems)
        if row.attributes:
            problems.append(("", "unknown_field"))
        proof = _proof(row, problems)
        if problems or entity_type is None or entity_id is None:
            # An opt-out holds even where the rest of its row is refused.
            if status != "opted_out":
                return self.refuse(row.line, problems)
            row.strays = strings_in([row.attributes.get(name) for name in _ADDRESS_NAMES])
            return self.refuse(
                row.line, problems,
                self._withdrawal(row, entity_type, entity_id, None, source, given),
            )  # fmt: skip
        entity = self.addresses.entity_key(entity_type, entity_id) if self.entity_keys else NULL
        return "\t".join((
            str(row.line), NULL, NULL, _PROVIDED, entity_type, escaped(entity_id), NULL, NULL, NULL, entity,
            _BETWEEN, proof.replace("\\", "\\\\"), status or NULL, escaped(source), given or NULL,
        )) + "\n"  # fmt: skip


def _proof(row: Row, problems: list[Problem]) -> str:
    proof: dict[str, str] = {}
    for field, most in PROOF_FIELDS.items():
        value = row.text(field)
        if not value:
            continue
        code = unreadable(value)
        if code is None and len(value) > most:
            code = "too_long"
        if code is None and field == "ipAddress" and not is_network_address(value):
            code = "invalid_ip_address"
        if code is not None:
            problems.append((field, code))
            continue
        proof[field] = value
    return "{}" if problems else orjson.dumps(proof).decode()


class StatementHeader(Header):
    """The columns of a file of statements. One that is not known is refused, since it may be mistyped."""

    standard = {field.lower(): field for field in FIELDS}
    required = ("entityType", "entityId", "optStatus")

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        if self.attributes:
            places = ", ".join(str(place + 1) for place in sorted(self.attributes.values()))
            raise BadRequestError(
                f"Columns that preferences.import does not take: number {places}. It takes "
                + ", ".join(FIELDS)
                + ".",
                code="unknown_columns",
            )


class StatementCsv(CsvIntake):
    """Statements as CSV."""

    header_type = StatementHeader

    def _fast(self, lines: list[str]) -> str:
        out = []
        for line, row in enumerate(csv.reader(lines, delimiter=self._separator), self._line):
            out.append(self._row(line, row))  # its fields are few and long: no fast way is worth it
        self._line += len(lines)
        return "".join(out)


class StatementNdjson(NdjsonIntake):
    """One statement a line."""

    def __init__(self, stager: RowStager) -> None:
        super().__init__(stager, standard=frozenset(FIELDS))
