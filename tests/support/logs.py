"""What is logged during a test, as an operator would get it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from mcsync.core.logging import configure_logging
from mcsync.core.settings import Settings


@contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    """All of it, at every level; afterwards logging is as it was."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configured = structlog.get_config()
    configure_logging(Settings(log_level="DEBUG"), stream=stream)
    try:
        yield stream
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.configure(**configured)
