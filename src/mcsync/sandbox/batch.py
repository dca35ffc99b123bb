"""An asynchronous batch: its operations, its state and its results (MC 10)."""

from __future__ import annotations

import asyncio
import gzip
import io
import secrets
import tarfile
from dataclasses import dataclass, field
from typing import Any

import orjson

URL_SECONDS = 600


@dataclass(slots=True)
class Operation:
    """One call within a batch."""

    method: str
    path: str
    params: dict[str, str]
    body: Any
    operation_id: str


@dataclass(slots=True)
class Batch:
    """`total` stays 0 until the batch was preprocessed."""

    id: str
    operations: list[Operation]
    submitted_at: int
    status: str = "pending"
    total: int = 0
    finished: int = 0
    errored: int = 0
    completed_at: int = 0
    results: bytes = b""
    urls: dict[str, float] = field(default_factory=dict)
    """When each address of the results ends."""
    task: asyncio.Task[None] | None = None

    def fresh_token(self, now: float) -> str:
        """A new address for the results, good for ten minutes."""
        token = secrets.token_hex(8)
        self.urls[token] = now + URL_SECONDS
        return token


def archive(rows: list[dict[str, Any]]) -> bytes:
    """A gzipped tar that begins with the directory `./`; the rows over several files."""
    buffer = io.BytesIO()
    half = (len(rows) + 1) // 2
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, part in enumerate((rows[:half], rows[half:])):
            if part or not number:
                content = orjson.dumps(part)
                entry = tarfile.TarInfo(f"./{number}.json")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())
