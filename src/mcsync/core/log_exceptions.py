"""Exceptions in logs: a few bounded fields instead of kilobytes of text."""

from __future__ import annotations

import sys
import traceback
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final

from structlog.types import EventDict, WrappedLogger

MESSAGE_CHARACTERS: Final = 200
TEXT_CHARACTERS: Final = 1000
_FRAMES: Final = 6
_CAUSES: Final = 3


def structure_exceptions(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """structlog processor: ``exc_info`` becomes ``exception``; long texts of others are cut.

    ``exception`` has ``type``, ``message`` (its first line, at most 200 characters), ``frames`` (the last
    six, innermost last, as ``file:line function``) and ``causes`` (types and messages, the nearest first).
    """
    error = _error_of(event.pop("exc_info", None))
    event.pop("stack_info", None)
    if error is not None:
        event["exception"] = described(error)
    return {key: _short(key, value) for key, value in event.items()}


def described(error: BaseException) -> dict[str, Any]:
    """The fields of one exception; its message is not redacted yet."""
    found: dict[str, Any] = {"type": type(error).__name__, "message": _message(error)}
    frames = _frames(error.__traceback__)
    causes: list[dict[str, str]] = []
    seen, cause = {id(error)}, _cause(error)
    while cause is not None and len(causes) < _CAUSES and id(cause) not in seen:
        seen.add(id(cause))
        causes.append({"type": type(cause).__name__, "message": _message(cause)})
        cause = _cause(cause)
    if frames:
        found["frames"] = frames
    if causes:
        found["causes"] = causes
    return found


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot tell what it is still has a type
        return ""
    return first_line(text)[:MESSAGE_CHARACTERS]


def _frames(trace: TracebackType | None) -> list[str]:
    last = traceback.StackSummary.extract(
        traceback.walk_tb(trace), limit=-_FRAMES, lookup_lines=False
    )
    return [f"{_place(one.filename)}:{one.lineno} {one.name}" for one in last]


def _place(file: str) -> str:
    """The end of a path: a module within its package, and nothing of the machine."""
    return "/".join(PurePath(file).parts[-3:])


def _error_of(found: object) -> BaseException | None:
    match found:
        case BaseException():
            return found
        case (_, BaseException() as error, _):
            return error
        case None | False | (None, None, None):
            return None
    return sys.exc_info()[1]


def first_line(text: str) -> str:
    """What a text says in one line; of a printed traceback that is the last one."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    printed = any(line.startswith("Traceback (most recent call last)") for line in lines)
    return (lines[-1] if printed else lines[0]).strip()


def _short(key: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if key == "event" and "\n" in value:
        value = first_line(value)
    return value if len(value) <= TEXT_CHARACTERS else value[: TEXT_CHARACTERS - 1] + "…"
