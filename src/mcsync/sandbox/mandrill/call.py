"""One Transactional call, as its handlers see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from . import failures

if TYPE_CHECKING:
    from ..config import MandrillRules
    from .post_office import MailAccount

_Kind = TypeVar("_Kind")


@dataclass(slots=True, frozen=True)
class MailCall:
    """The account of the key, and the JSON body."""

    account: MailAccount
    body: dict[str, Any]

    @property
    def rules(self) -> MandrillRules:
        return self.account.rules

    @property
    def now(self) -> int:
        return self.account.office.now()

    def required(self, name: str, kind: type[_Kind]) -> _Kind:
        """A parameter that must be there."""
        if name not in self.body:
            raise failures.validation(name, "Please enter a value")
        found = self.optional(name, kind)
        if found is None:
            raise failures.validation(name, "Please enter a value")
        return found

    def optional(self, name: str, kind: type[_Kind]) -> _Kind | None:
        """A parameter of this kind; None where it is absent or null."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise failures.validation(name, f"Please enter a value of type {kind.__name__}")
        return value

    def text(self, name: str) -> str:
        """An optional text, empty where it is absent."""
        return self.optional(name, str) or ""

    def texts(self, name: str) -> list[str]:
        """An optional list of texts."""
        found = self.optional(name, list) or []
        if not all(isinstance(each, str) for each in found):
            raise failures.validation(name, "Please enter a list of strings")
        return found
