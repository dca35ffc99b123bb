"""The bases of all request and response models, and the types that mean the same everywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

_NUL = b"\\u0000"


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _as_text(value: object) -> object:
    # pydantic would also take "-1" for a Unix time
    if isinstance(value, str) and _MOMENT.match(value) is None:
        code, message = "invalid_datetime", "Send a date and time with an offset, as RFC 3339 says"
        raise PydanticCustomError(code, message)
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        code, message = (
            "invalid_datetime",
            "This time has no place between the years 1 and 9999 UTC",
        )
        raise PydanticCustomError(code, message) from error


Timestamp = Annotated[AwareDatetime, BeforeValidator(_as_text), AfterValidator(_to_utc)]
"""A moment: RFC 3339 with an offset on the way in, UTC (``Z``) on the way out."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
"""A name that a person typed: not blank, at most 200 characters."""


class ApiModel(BaseModel):
    """camelCase on the wire, snake_case in Python; reads attributes of rows."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        from_attributes=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


class RequestModel(ApiModel):
    """A body: exact types, no unknown fields, no NUL characters (PostgreSQL cannot keep them).

    FastAPI hands over parsed JSON, but only pydantic's own JSON mode knows that a UUID or a time is a
    string there while ``"1"`` is no number. So the outermost model validates as JSON once more.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _as_json(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if info.mode == "json" or not isinstance(data, dict):
            return handler(data)
        try:
            raw = to_json(data, inf_nan_mode="constants")
        except (PydanticSerializationError, UnicodeError) as error:
            code, message = "invalid_text", "Text must be valid Unicode"
            raise PydanticCustomError(code, message) from error
        if _NUL in raw and _holds_nul(data):
            code, message = "nul_character", "Text must not contain NUL characters"
            raise PydanticCustomError(code, message)
        return cls.model_validate_json(raw, context=info.context)


class ResponseModel(ApiModel):
    """An answer. Its fields have no defaults, so that clients may rely on every one of them."""


ItemT = TypeVar("ItemT")


class Page(ResponseModel, Generic[ItemT]):
    """One page of a list. ``nextCursor`` is null on the last one."""

    # nothing to find, and looking for it in each ``Page[...]`` took a quarter of a process's start
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: list[ItemT]
    next_cursor: str | None


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(_holds_nul(item) for item in value)
    return False
