"""The table of retries."""

import pytest

from mcsync.mailchimp import (
    CredentialError,
    InvalidRequestError,
    MailchimpError,
    MailchimpTimeout,
    NotFoundError,
    RefusedError,
    RetryPolicy,
    ThrottledError,
    TransientError,
    retry_delay,
)

POLICY = RetryPolicy(max_attempts=4, base_seconds=1.0, cap_seconds=3.0, total_seconds=10.0)


def throttled(retry_after: float) -> ThrottledError:
    error = ThrottledError()
    error.retry_after = retry_after
    return error


@pytest.mark.parametrize(
    ("error", "attempt", "rand", "elapsed", "expected"),
    [
        (TransientError(), 1, 1.0, 0.0, 1.0),
        (TransientError(), 1, 0.0, 0.0, 0.0),
        (TransientError(), 2, 0.5, 0.0, 1.0),
        (MailchimpTimeout(), 3, 1.0, 0.0, 3.0),
        (ThrottledError(), 3, 0.5, 0.0, 1.5),
        (TransientError(), 4, 0.5, 0.0, None),
        (TransientError(), 2, 1.0, 8.0, 2.0),
        (TransientError(), 2, 1.0, 8.1, None),
        (throttled(2.0), 1, 0.5, 0.0, 2.0),
        (throttled(2.0), 3, 1.0, 0.0, 3.0),
        (throttled(4.0), 1, 0.5, 0.0, None),
        (CredentialError(), 1, 0.5, 0.0, None),
        (NotFoundError(), 1, 0.5, 0.0, None),
        (RefusedError(), 1, 0.5, 0.0, None),
        (InvalidRequestError(), 1, 0.5, 0.0, None),
        (MailchimpError(), 1, 0.5, 0.0, None),
    ],
)
def test_delay(
    error: MailchimpError, attempt: int, rand: float, elapsed: float, expected: float | None
) -> None:
    assert retry_delay(error, attempt, lambda: rand, POLICY, elapsed=elapsed) == expected
