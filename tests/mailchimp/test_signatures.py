"""Who signed a webhook's post."""

from datetime import UTC, datetime, timedelta

import pytest

from mcsync.mailchimp import SignatureReason, WebhookSignatureError, verify_webhook_signature

SECRET = "secret"
BODY = b"type=subscribe&fired_at=2009-03-26+21%3A35%3A57&data%5Bid%5D=8a25ff1d98"
SENT = datetime.fromtimestamp(1718000000, UTC)
V1 = "4f518f51c7a2633616fa4972bc4aa26ea854182234616fc754b17614d3211f59"
HEADER = f"t=1718000000,v1={V1}"


def reason(
    header: str | None,
    *,
    body: bytes = BODY,
    secret: str = SECRET,
    after: float = 0,
) -> SignatureReason:
    with pytest.raises(WebhookSignatureError) as raised:
        verify_webhook_signature(secret, header, body, SENT + timedelta(seconds=after))
    assert V1 not in str(raised.value)
    return raised.value.reason


@pytest.mark.parametrize("after", [-300, 0, 300])
def test_the_vector_of_the_fact_sheet(after: float) -> None:
    verify_webhook_signature(SECRET, HEADER, BODY, SENT + timedelta(seconds=after))


@pytest.mark.parametrize(
    "header",
    [
        f"t=1718000000, v1={V1}",
        f"v1={V1},t=1718000000",
        f"t=1718000000,v0=00,v1={V1}",
        f"t=1718000000,v1={'0' * 64},v1={V1}",
        f"t=1718000000,v1={V1.upper()}",
    ],
)
def test_parts_in_any_order_and_unknown_ones_are_fine(header: str) -> None:
    verify_webhook_signature(SECRET, header, BODY, SENT)


@pytest.mark.parametrize("header", [None, ""])
def test_missing(header: str | None) -> None:
    assert reason(header) is SignatureReason.MISSING


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        V1,
        f"v1={V1}",
        "t=1718000000",
        f"t=,v1={V1}",
        f"t=-5,v1={V1}",
        f"t=17180e5,v1={V1}",
        f"t=١٧١٨٠٠٠٠٠٠,v1={V1}",
        f"t={'9' * 400},v1={V1}",
        f"t=1718000000,t=1718000001,v1={V1}",
        "t=1718000000," + ",".join(["v1=00"] * 1000),
    ],
)
def test_malformed(header: str) -> None:
    assert reason(header) is SignatureReason.MALFORMED


@pytest.mark.parametrize("after", [-301, 301, 86_400])
def test_too_old_or_from_the_future(after: float) -> None:
    assert reason(HEADER, after=after) is SignatureReason.EXPIRED


def test_a_body_changed_by_one_byte() -> None:
    assert reason(HEADER, body=BODY + b" ") is SignatureReason.MISMATCH


def test_another_secret() -> None:
    assert reason(HEADER, secret="Secret") is SignatureReason.MISMATCH


def test_another_time_under_the_same_signature() -> None:
    assert reason(f"t=1718000001,v1={V1}") is SignatureReason.MISMATCH


@pytest.mark.parametrize("v1", ["", V1[:-1], "ünïcode"])
def test_a_signature_of_another_shape(v1: str) -> None:
    assert reason(f"t=1718000000,v1={v1}") is SignatureReason.MISMATCH
