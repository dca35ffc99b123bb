"""How work on a run ends before its time, and what an error means for it (``sync.md`` 7)."""

from __future__ import annotations

from dataclasses import dataclass

from mcsync.core.db import is_passing
from mcsync.features.sync import tags
from mcsync.features.sync.lanes import WeatherError
from mcsync.mailchimp import MailchimpError, ThrottledError, TransientError, UnsafeConnectionError


class HandOver(Exception):
    """This process should let go of the run: it stops, or the slice is over."""


class CancelRequested(Exception):
    """Somebody asked for the run to be cancelled."""


class SegmentGone(Exception):
    """The segment was deleted, or is another audience's by now."""


class Failed(Exception):
    """The run cannot go on. ``code`` and ``message`` are shown on the run and the segment."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for a run: ``passing`` trouble is tried again later.

    ``ours``: what mcsync stands on was away. The run waits for it, however long and often: it costs no attempt.
    """

    code: str
    message: str
    passing: bool = False
    ours: bool = False


def verdict_on(error: Exception) -> Verdict:
    """Why the run stops, in words, and whether it is tried again."""
    if isinstance(error, Failed):
        return Verdict(error.code, error.message)
    if isinstance(error, tags.TagTakenError):
        return Verdict(
            "tag_taken",
            "The audience has a tag of this segment's name that mcsync did not make. Rename the"
            " segment, or the tag at Mailchimp.",
        )
    if isinstance(error, UnsafeConnectionError):
        return Verdict("mailchimp_unavailable", f"{error.title} Trying again.", passing=True)
    if isinstance(error, (WeatherError, TransientError, ThrottledError)):
        return Verdict(
            "mailchimp_unavailable", "Mailchimp could not be reached; trying again.", passing=True
        )
    if isinstance(error, MailchimpError):
        return Verdict("mailchimp_refused", f"Mailchimp refused: {error.title}")
    if is_passing(error):
        return Verdict(
            "database_unavailable", "The database was away; trying again.", passing=True, ours=True
        )
    return Verdict(
        "internal_error", "Something went wrong on our side; trying again.", passing=True
    )
