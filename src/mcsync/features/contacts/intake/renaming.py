"""JSON objects whose members have other names than ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcsync.features.contacts.intake.columns import Columns, Target, lacking, same
from mcsync.features.contacts.intake.rows import Problem
from mcsync.features.contacts.intake.words import opt_status_of

_MOST_NAMES: Final = 10_000


class Renaming:
    """Gives the members of an object the names that the caller says, row by row."""

    def __init__(self, columns: Columns, fields: frozenset[str]) -> None:
        self._columns = columns
        self._fields = fields
        self._targets: dict[str, Target] = {}
        self._seen: dict[str, str] = {}

    def of(self, given: Mapping[str, object]) -> tuple[dict[str, object], list[Problem]]:
        """The object in our names, and what is wrong with it: two values for one field."""
        out: dict[str, object] = {}
        attributes: dict[str, object] = {}
        problems: list[Problem] = []
        nested = given.get("attributes")
        if isinstance(nested, Mapping):
            attributes.update((k, v) for k, v in nested.items() if self._columns.takes(k, k))
        elif "attributes" in given:
            out["attributes"] = nested
        for name, value in given.items():
            target = self._target(name)
            if target.attribute:
                _put(attributes, target.name, value, problems, "attributes.")
            elif target.name:
                _put(out, target.name, value, problems)
        for target, constant in self._columns.constants.items():
            if target.attribute:
                _put(attributes, target.name, constant, problems, "attributes.")
            else:
                _put(out, target.name, constant, problems)
        if attributes or isinstance(nested, Mapping):
            out["attributes"] = attributes
        return out, problems

    def check_seen(self) -> None:
        """Every member that the caller names must be in some row. Raises BadRequestError (``unknown_column``)."""
        for number, key in enumerate(self._columns.targets, 1):
            if key not in self._seen:
                raise lacking(f"Entry {number} of map", list(self._seen.values()))

    def _target(self, name: str) -> Target:
        known = self._targets.get(name)
        if known is not None:
            return known
        key = same(name)
        if len(self._targets) >= _MOST_NAMES:  # names that are data: nothing to remember
            self._targets.clear()
        if key in self._columns.targets or len(self._seen) < _MOST_NAMES:
            self._seen.setdefault(key, name)
        self._targets[name] = target = self._meant(name, key)
        return target

    def _meant(self, name: str, key: str) -> Target:
        mapped = self._columns.targets.get(key)
        if mapped is not None:
            return mapped
        if name in self._fields:
            return Target(name)
        if name == "attributes" or not self._columns.takes(name, name):
            return Target("")
        return Target(name, attribute=True)


def _put(
    into: dict[str, object], name: str, value: object, problems: list[Problem], where: str = ""
) -> None:
    """Sets a value. Of two that differ the first is kept, but an opt-out in any case."""
    if name not in into:
        into[name] = value
    elif into[name] != value:
        problems.append((f"{where}{name}"[:255] if not where else "attributes", "duplicate_field"))
        if name == "optStatus" and isinstance(value, str) and opt_status_of(value) == "opted_out":
            into[name] = value
