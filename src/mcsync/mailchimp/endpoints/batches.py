"""Asynchronous batches (MC 10): many single calls packed into one."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcsync.mailchimp.caller import decoder
from mcsync.mailchimp.endpoints.base import Endpoints, encode
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.batch import BatchStatus


@dataclass(frozen=True, slots=True)
class BatchOperation:
    """One call of a batch. `path` begins with a slash; `body` is JSON as text."""

    method: str
    path: str
    operation_id: str
    body: str | None = None


class BatchEndpoints(Endpoints):
    """Calls about asynchronous batches. Every call raises `MailchimpError`."""

    async def submit_batch(self, operations: Sequence[BatchOperation]) -> BatchStatus:
        """Hand in operations; they run in no particular order.

        Not repeated when the outcome is unknown. Raises `ValueError` for none at all.
        """
        if not operations:
            message = "a batch without operations"
            raise ValueError(message)
        listed = [
            {
                "method": operation.method,
                "path": operation.path,
                "operation_id": operation.operation_id,
                **({} if operation.body is None else {"body": operation.body}),
            }
            for operation in operations
        ]
        content = encode({"operations": listed})
        request = Request("batches.submit", "POST", "/batches", content=content, repeatable=False)
        return await self._call(request, decoder(BatchStatus))

    async def batch_status(self, batch_id: str) -> BatchStatus:
        """Return a batch's state, with a fresh address of its results once finished."""
        params = {"exclude_fields": "_links"}
        request = Request("batches.get", "GET", path("batches", batch_id), params)
        return await self._call(request, decoder(BatchStatus))
