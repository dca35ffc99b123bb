"""The little of ASGI that the sandbox needs: reading a body, answering, dropping a connection."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exchange import Answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The client went away before its request was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole body; Gone if the client disconnects first."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def write_answer(send: Send, answer: Answer, headers: list[tuple[str, str]]) -> None:
    """Send the answer; harmless if the client has gone away."""
    body = answer.body or b""
    pairs = [("content-length", str(len(body))), *headers, *answer.headers]
    if answer.body is not None:
        pairs.append(("content-type", answer.content_type))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    # A 204 has no length: some clients take "0" for a framing error.
    if answer.status == 204:
        raw = raw[1:]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def drop_connection(send: Send, receive: Receive) -> None:
    """Reset the connection without an answer.

    ASGI has no message for it. Under uvicorn `send` is a method of the request cycle, which knows the transport;
    elsewhere an exception has to do.
    """
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if not hasattr(transport, "abort"):
        raise ConnectionResetError("the sandbox dropped the connection")
    if peer := transport.get_extra_info("socket"):
        # Lingering for zero seconds makes the kernel send a reset instead of an orderly end.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    # Until uvicorn has noticed, leaving the application would make it send a 500.
    while (await receive())["type"] != "http.disconnect":
        pass
