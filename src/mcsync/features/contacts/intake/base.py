"""What every intake offers to the service."""

from __future__ import annotations

from typing import Protocol


class Intake(Protocol):
    """Turns pieces of a file into lines for COPY, in memory that does not grow with the file.

    ``kind``: what is stored as the kind of the import. ``received``: rows seen so far (blank ones not
    counted). ``fields``: the optional fields the file provides at all (known once rows came).
    ``masked``: whether rows differ in the fields they provide, as told by the ``provided`` column.
    ``consent``: whether any row may carry a statement of consent.
    """

    kind: str

    @property
    def received(self) -> int: ...

    @property
    def fields(self) -> frozenset[str]: ...

    @property
    def masked(self) -> bool: ...

    @property
    def consent(self) -> bool: ...

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; answers lines for COPY. Raises BadRequestError for a hopeless file."""
        ...

    def finish(self) -> bytes:
        """Says that the file has ended; answers the last lines."""
        ...
