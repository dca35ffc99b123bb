"""The judge itself: without it the other tests would prove less than they seem to."""

from __future__ import annotations

import httpx
import pytest

from tests.sandbox.published import SPEC, complaints, document, judge


@pytest.mark.skipif(
    document() is None, reason=f"Mailchimp's OpenAPI document is not at {SPEC.name}"
)
class TestJudge:
    async def test_it_notices_a_wrong_type(self) -> None:
        request = httpx.Request("GET", "http://sandbox.test/3.0/lists")
        answer = httpx.Response(200, json={"lists": [{"id": 7}]}, request=request)
        with pytest.raises(AssertionError):
            await judge(answer)

    async def test_it_notices_an_endpoint_that_does_not_exist(self) -> None:
        request = httpx.Request("PUT", "http://sandbox.test/3.0/lists")
        with pytest.raises(AssertionError, match="publishes no PUT"):
            await judge(httpx.Response(200, json={}, request=request))

    def test_a_problem_needs_its_parts(self) -> None:
        assert complaints({"$ref": "#/components/schemas/ProblemDetailDocument"}, {"title": "X"})
