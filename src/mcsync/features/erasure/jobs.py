"""The ARQ function: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mcsync.features.erasure import work


async def gdpr_erasure(ctx: dict[str, Any], org_id: str, erasure_id: str) -> None:
    """``gdpr-erasure``: one erasure, until it is done or has to wait."""
    if not ctx["stopping"].is_set():
        await work.work_on(
            ctx["resources"], UUID(org_id), UUID(erasure_id), owner=ctx["worker_id"],
            stopping=ctx["stopping"],
        )  # fmt: skip
