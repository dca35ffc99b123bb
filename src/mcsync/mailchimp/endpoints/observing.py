"""Answers exactly as they are sent, for those who find out how an account behaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mcsync.mailchimp.endpoints.base import Endpoints, encode
from mcsync.mailchimp.errors import (
    CredentialError,
    FieldError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RefusedError,
)
from mcsync.mailchimp.transport import Request

_OK = 200
_ANSWERS = (
    InvalidRequestError, MethodNotAllowedError, NotFoundError, RefusedError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observation:
    """One answer. `body` is what was sent, also where no model would take it; empty for a refusal.

    `title`, `detail` and `errors` are those of a refusal. They may hold the address that was sent.
    """

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the call was no refusal."""
        return self.status < 300

    @property
    def words(self) -> str:
        """All words of a refusal, in one text."""
        return " ".join(
            part for part in (self.title, self.detail, *(e.message for e in self.errors)) if part
        )


class ObservingEndpoints(Endpoints):
    """One call of any kind whose refusal is an answer like others."""

    async def observe(
        self,
        method: str,
        target: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Observation:
        """Make a call and return what was answered, refusals of the call included.

        `target` is a path made by `transport.path`. Raises `MailchimpError` for what says nothing
        about the call: a refused key, throttling, an unreachable service.
        """
        request = Request(
            "observe",
            method,
            target,
            params or {},
            None if body is None else encode(body),
            repeatable=method != "POST",
        )
        try:
            return await self._call(request, _lenient)
        except CredentialError:
            raise
        except _ANSWERS as error:
            return Observation(
                error.status or 0,
                title=error.title,
                detail=error.detail,
                errors=error.errors,
            )


def _lenient(content: bytes) -> Observation:
    try:
        read = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError:
        read = {}
    return Observation(_OK, body=read if isinstance(read, dict) else {})
