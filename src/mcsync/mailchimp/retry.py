"""When a call is tried again inside a call. Pure functions: no clock, no I/O (MC 14, 19.3).

Trying again later, as a job, is somebody else's decision.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mcsync.mailchimp.errors import MailchimpError, ThrottledError, TransientError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one call is repeated.

    Attempts include the first one; times are in seconds. `total_seconds` bounds the time
    from the first attempt to the start of the last.
    """

    max_attempts: int = 4
    base_seconds: float = 1.0
    cap_seconds: float = 20.0
    total_seconds: float = 180.0


def retry_delay(
    error: MailchimpError,
    attempt: int,
    rand: Callable[[], float],
    policy: RetryPolicy,
    *,
    elapsed: float = 0.0,
) -> float | None:
    """Return the seconds to wait before the next attempt, None to give up.

    `attempt` is the number of attempts made so far (1 or more), `rand` gives numbers in
    [0, 1), `elapsed` is the time since the first attempt began. Only `TransientError` and
    `ThrottledError` are repeated. Full jitter keeps the workers of one account apart: a
    fixed step would bring them all back at the same instant.
    """
    if not isinstance(error, TransientError | ThrottledError) or attempt >= policy.max_attempts:
        return None
    ceiling = min(policy.cap_seconds, policy.base_seconds * 2.0 ** (attempt - 1))
    delay = rand() * ceiling
    if error.retry_after is not None:
        if error.retry_after > policy.cap_seconds:
            return None
        delay = max(delay, error.retry_after)
    return None if elapsed + delay > policy.total_seconds else delay
