"""The settings of the environment, and all that is wrong with them at once.

pydantic ends at the values that it cannot read. Here these are put aside, so that what is missing and
what is misspelt can be said in the same breath.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcsync.core.settings import Settings, SettingsError, ValuesError

_PREFIX: Final = "MCSYNC_"
_COMMANDS: Final = frozenset({"SERVICE_PASSWORD", "SOURCE_URL", "ORG"})
"""Variables that commands read by themselves, without their prefix."""
_KUBERNETES: Final = re.compile(
    r"MCSYNC_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)
"""What Kubernetes gives each pod of a namespace that has a Service whose name begins with ``mcsync``."""
_VARIABLE: Final = re.compile(r"MCSYNC_[A-Z_]*[A-Z]")


def unknown_names(environment: Iterable[str]) -> list[str]:
    """What to say of each variable ``MCSYNC_*`` that no setting has, with the name that may be meant."""
    known = {name.upper() for name in Settings.model_fields} | _COMMANDS
    problems = []
    for name in sorted(environment):
        bare = name.upper().removeprefix(_PREFIX)  # pydantic does not mind the case either
        if bare == name.upper() or bare in known or _KUBERNETES.fullmatch(name):
            continue
        near = difflib.get_close_matches(bare, known, n=1, cutoff=0.7)
        meant = f" Is {_PREFIX}{near[0]} meant?" if near else " Remove it."
        problems.append(f"{name} is no setting of this version.{meant}")
    return problems


@dataclass(frozen=True, slots=True)
class Reading:
    """Settings as far as they can be read. Those in ``wrong`` have their default in ``settings``."""

    settings: Settings
    wrong: Mapping[str, list[str]] = field(default_factory=dict)
    """By field, sentences about a value that cannot be read; none repeats the value."""

    @property
    def problems(self) -> list[str]:
        """What is wrong with values that cannot be read."""
        return [sentence for sentences in self.wrong.values() for sentence in sentences]

    def service_problems(self, *, without: Collection[str] = ()) -> list[str]:
        """What an API or a worker lacks: unreadable values, missing ones, and those that make no sense.

        Nothing is said of the fields in ``without``.
        """
        put_aside = {_PREFIX + name.upper() for name in (*self.wrong, *without)}
        return self.problems + [
            problem
            for problem in self.settings.service_problems()
            if put_aside.isdisjoint(_VARIABLE.findall(problem))
        ]

    def sound(self) -> Settings:
        """The settings. Raises ``SettingsError`` where one of them cannot be read."""
        if self.wrong:
            raise SettingsError(self.problems)
        return self.settings

    def complete(self) -> Settings:
        """The settings of a service. Raises ``SettingsError`` naming all that is wrong and missing."""
        problems = self.service_problems()
        if problems:
            raise SettingsError(problems)
        return self.settings


def read_settings(*, without: Collection[str] = ()) -> Reading:
    """Reads the environment. The fields in ``without`` keep their defaults, whatever it says of them."""
    aside = {name: _default(name) for name in without}
    wrong: dict[str, list[str]] = {}
    while True:
        try:
            return Reading(Settings(**aside), wrong)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        for one in details:
            name = str(one["loc"][0])
            wrong.setdefault(name, _sentences(name, one))
            aside[name] = _default(name)


def _default(name: str) -> Any:
    return Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})


def _sentences(name: str, detail: ErrorDetails) -> list[str]:
    """What is wrong with a value and what it should be, without the value."""
    variable = _PREFIX + name.upper()
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, ValuesError):
        return [variable + problem for problem in error.problems]
    return [f"{variable} must be {_wanted(name)}."]


def _wanted(name: str) -> str:
    """The values that a setting takes, in words."""
    described = Settings.model_fields[name]
    kind = described.annotation
    if get_origin(kind) in {Union, types.UnionType}:
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    what = {int: "a whole number", float: "a number"}.get(kind, "another value")  # type: ignore[arg-type]
    least = _bound(described.metadata, "ge")
    most = _bound(described.metadata, "le")
    if least is not None and most is not None:
        return f"{what} from {least:g} to {most:g}"
    return f"{what} of at least {least:g}" if least is not None else what


def _bound(metadata: list[Any], name: str) -> float | None:
    return next((getattr(one, name) for one in metadata if hasattr(one, name)), None)
