"""A small typed client: syncs a segment and prints how it goes. Exits 1 unless the run succeeds.

    TOKEN=mcs_... python examples/client.py http://127.0.0.1:8000 "Staff newsletter"

For a client of every procedure, generate one from openapi.json.
"""

import os
import sys
import time
from typing import Any
from uuid import uuid4

import httpx

OVER = {"succeeded", "succeeded_with_errors", "failed", "cancelled", "awaiting_approval"}


class ProblemError(Exception):
    """A refusal. Decide by ``code``, never by the text."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(f"{body['code']}: {body['detail']} (request {body.get('requestId')})")
        self.code: str = body["code"]


class Mcsync:
    """The procedures of one organisation, the one that the token belongs to."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=f"{url}/mailchimp/", headers=headers, timeout=60)

    def query(self, procedure: str, **given: str | int) -> dict[str, Any]:
        """A GET."""
        return self._read(self._http.get(procedure, params=given))

    def mutate(self, procedure: str, body: dict[str, Any], *, key: str) -> dict[str, Any]:
        """A POST. Sent again with the same ``key``, it still happens once."""
        headers = {"Idempotency-Key": key}
        try:
            return self._read(self._http.post(procedure, json=body, headers=headers))
        except httpx.TransportError:  # nobody knows whether it arrived
            return self._read(self._http.post(procedure, json=body, headers=headers))

    @staticmethod
    def _read(answer: httpx.Response) -> dict[str, Any]:
        body: dict[str, Any] = answer.json()
        if answer.is_error:
            raise ProblemError(body)
        return body


def main(url: str, name: str) -> int:
    """Finds the segment by its name, syncs it and waits."""
    mcsync = Mcsync(url, os.environ["TOKEN"])
    found = mcsync.query("segments/list", limit=200)["items"]
    segment = next((one for one in found if one["name"] == name), None)
    if segment is None:
        print("There is no such segment; there are:", *(one["name"] for one in found), sep="\n  ")
        return 1
    run = mcsync.mutate("segments/sync", {"id": segment["id"]}, key=str(uuid4()))
    while run["status"] not in OVER:
        time.sleep(0.5)
        run = mcsync.query("segments/getRun", id=run["id"])
        print(run["status"], f"{run['counts']['done']} done, {run['held']} held")
    return 0 if run["status"] == "succeeded" else 1


if __name__ == "__main__":
    if len(sys.argv) != 3 or "TOKEN" not in os.environ:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
