"""Logs: structlog for our own events and the standard library's alike, one line each, redacted.

Events are constant strings with data in keywords. Redaction is the last step before rendering and
goes over every string, exception texts too: API keys, tokens and addresses are replaced whatever key
they come under. It is the net below the rule that nobody logs them.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import orjson
import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars
from structlog.types import EventDict, Processor, WrappedLogger

from mcsync.certificates import tls_error
from mcsync.core.log_exceptions import first_line, structure_exceptions
from mcsync.core.log_folding import Folder

if TYPE_CHECKING:
    from mcsync.core.settings import Settings

_log = structlog.get_logger(__name__)
_folders: list[Folder] = []
"""At most one: what this process counted."""

_QUIET: Final = {
    "arq": logging.WARNING,  # logs the arguments of every job at INFO
    "httpx": logging.WARNING,  # logs every URL at INFO
    "httpcore": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,  # we log requests ourselves, without their query
    "sqlalchemy.engine": logging.WARNING,
    "asyncio": logging.WARNING,
}

_PATTERNS: Final = (
    # Mailchimp Marketing keys (also cut off before the data centre), Transactional keys
    (
        re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{20,64}-us[0-9]{1,3}(?![0-9A-Za-z])"),
        "[mailchimp key]",
    ),
    (re.compile(r"(?<![0-9A-Za-z])md-[0-9A-Za-z_-]{20,}"), "[mandrill key]"),
    (re.compile(r"mc[sp]_[0-9A-Za-z]{8,}(?:_[0-9A-Za-z]*)?"), "[token]"),
    (re.compile(r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*"), "[jwt]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[0-9A-Za-z+/=._~-]{8,}"), r"\1 [credentials]"),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), "[credentials]"),
    # What PostgreSQL and pydantic add to their messages: whole rows, submitted values
    (re.compile(r"(?m)^DETAIL:.*$"), "DETAIL: [hidden]"),
    (re.compile(r"input_value=.*?(?=, input_type=|$)"), "input_value=[hidden]"),
    (re.compile(r"'input': .*"), "'input': [hidden]"),
    (re.compile(r"[^\s@<>\"'(),;:=\[\]{}]+(?:@|%40)[^\s@<>\"'(),;:=\[\]{}/]+"), "[address]"),
)
_SUSPECT: Final = re.compile(
    r"@|%40|-us[0-9]|md-|mcs_|mcp_|eyJ|earer|asic |DETAIL:|input", re.IGNORECASE
)
"""One cheap look; most lines hold nothing to hide."""
_HIDDEN_KEYS: Final = frozenset(
    {"api_key", "apikey", "authorization", "password", "secret", "token", "email", "email_address"}
)


def redact(text: str) -> str:
    """The text without keys, tokens, credentials in URLs and addresses."""
    if _SUSPECT.search(text) is None:
        return text
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def cause_of(error: BaseException) -> str:
    """The kind of the first error of a chain: drivers' errors come wrapped in ones that tell nothing.

    Of a TLS connection that failed, also why.
    """
    refused = tls_error(error)
    if refused is not None:  # redis-py hides it in the context of an error of its own
        why = getattr(refused, "verify_message", None) or refused.reason
        return f"{type(refused).__name__}: {why}"
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


def _redact_value(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): _hide(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(item) for item in value]
    return redact(str(value))


def _hide(key: str, value: object) -> object:
    return "[hidden]" if value and key.lower() in _HIDDEN_KEYS else _redact_value(value)


def _without_colours(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """structlog processor: uvicorn says each thing twice, once for terminals."""
    event.pop("color_message", None)
    return event


def redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """structlog processor: :func:`redact` on every value."""
    return {key: _hide(key, value) for key, value in event.items()}


def _dumps(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _NamedWriter(structlog.WriteLogger):
    """Writes lines for one name. Our own events skip the standard library: its records cost more."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self.name = name


class _Handler(logging.StreamHandler[TextIO]):
    """A record of the standard library that is only counted leaves no line."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(structlog.DropEvent):
            super().emit(record)


class _StandardError:
    """Standard error as it is when a line is written: whoever redirects it may take it back again."""

    def write(self, line: str) -> int:
        return sys.stderr.write(line)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Sets up both kinds of loggers for this process; may be called again.

    Standard error by default, so that a command's output stays clean.
    """
    output = stream or cast("TextIO", _StandardError())
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if settings.log_format == "json"
        else _console(colours=output.isatty())
    )
    folder = _folder(output, renderer)
    rendering: list[Processor] = [structure_exceptions, redact_event, folder, renderer]
    _capture_standard_library(settings.log_level, output, shared, rendering)
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=lambda *names: _NamedWriter(output, str(names[0]) if names else "mcsync"),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        cache_logger_on_first_use=False,
    )


def _folder(output: TextIO, renderer: Processor) -> Folder:
    """The process's folder; one of an earlier call writes what it has counted, and ends."""

    def write(line: EventDict) -> None:
        with contextlib.suppress(ValueError):  # the stream was closed meanwhile
            output.write(f"{renderer(None, '', line)!s}\n")
            output.flush()

    if _folders:
        _folders.pop().close()
    else:
        atexit.register(flush_logs)
    folder = Folder(write)
    _folders.append(folder)
    return folder


def flush_logs() -> None:
    """Writes the lines of what was only counted so far; done by itself when the process ends."""
    for folder in _folders:
        folder.flush()


def _console(*, colours: bool) -> Processor:
    """For people: an exception's fields in one line."""
    render = structlog.dev.ConsoleRenderer(colors=colours)

    def flat(logger: WrappedLogger, name: str, event: EventDict) -> str:
        found = event.pop("exception", None)
        if isinstance(found, dict):
            frames = " < ".join(reversed(found.get("frames", [])))
            event["exception_type"], event["exception_message"] = found["type"], found["message"]
            event["frames"] = frames
        elif found is not None:
            event["exception"] = found
        return str(render(logger, name, event))

    return flat


def log_line(level: str, event: str, **fields: object) -> None:
    """Writes one JSON line to standard error, whether logging is set up or could not be."""
    line: EventDict = {"event": event, **fields, "level": level, "logger": __name__}
    line = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", line)
    sys.stderr.write(_dumps(redact_event(None, "", line)) + "\n")
    sys.stderr.flush()


def log_everything() -> None:
    """For a process of the service: what Python itself would print becomes a line as well.

    Warnings, and exceptions that nobody caught, in the main thread, another one, or a destructor.
    """
    logging.captureWarnings(capture=True)

    def crashed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        _log.critical("process_crashed", exc_info=error)

    def thread_crashed(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
            _log.error("thread_crashed", exc_info=given.exc_value)

    def ignored(given: sys.UnraisableHookArgs) -> None:
        _log.error("exception_ignored", exc_info=given.exc_value)

    sys.excepthook = crashed
    threading.excepthook = thread_crashed
    sys.unraisablehook = ignored


def _template(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of a library's record: its message before the values, by which repeated ones are known."""
    record = event.get("_record")
    if record is not None:
        event["template"] = first_line(str(record.msg))
    return event


def _capture_standard_library(
    level: str, output: TextIO, shared: list[Processor], rendering: list[Processor]
) -> None:
    handler = _Handler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _template],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colours,
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, logging.getLevelNamesMapping()[level]))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "arq"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


__all__ = [
    "bind_contextvars",
    "clear_contextvars",
    "configure_logging",
    "flush_logs",
    "log_everything",
    "log_line",
    "redact",
    "redact_event",
]
