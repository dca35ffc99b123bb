"""The keys of queue rows, kept on disk until their contacts are stored: memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Final

import orjson

from mcsync.features.sources import values

_IN_MEMORY: Final = 1 << 20


class KeySpool:
    """Line numbers and keys, in the order they came. The file has no name and dies with the process."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self.rows = 0

    def add(self, line: int, key: Any) -> None:
        """Raises ``TypeError`` for a key that cannot be kept."""
        self._file.write(orjson.dumps([line, values.pack(key)]) + b"\n")
        self.rows += 1

    def batches(self, size: int) -> Iterator[list[tuple[int, Any]]]:
        """All of them, some at a time."""
        self._file.seek(0)
        batch: list[tuple[int, Any]] = []
        for raw in self._file:
            line, packed = orjson.loads(raw)
            batch.append((line, values.unpack(packed)))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def close(self) -> None:
        """Forgets them."""
        self._file.close()
