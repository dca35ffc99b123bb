"""TLS in front of a PostgreSQL or a Valkey that has none: those of the wheels are built without it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import Literal, Self
from urllib.parse import urlsplit

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class TlsServer:
    """Ends TLS and hands on what is inside; a context manager. ``context`` may change meanwhile.

    ``kind``: PostgreSQL's clients ask first whether there is TLS. Without a ``context`` there is none.
    """

    def __init__(
        self, url: str, kind: Literal["postgres", "redis"], context: ssl.SSLContext | None
    ) -> None:
        self._parts = urlsplit(url)
        self._kind = kind
        self.context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, query: str) -> str:
        """The server's URL by way of this one."""
        login = self._parts.netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        place = f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"
        scheme = "rediss" if self._kind == "redis" else "postgresql"
        return self._parts._replace(scheme=scheme, netloc=place, query=query).geturl()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection, as a server that restarts does."""
        with self._lock:
            held, self._open = self._open, set()
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            secure = self._secured(client)
            if secure is None:
                return
            assert self._parts.hostname is not None
            assert self._parts.port is not None
            place = (self._parts.hostname, self._parts.port)
            with secure, socket.create_connection(place) as server:
                with self._lock:
                    self._open |= {secure, server}
                back = threading.Thread(target=_pump, args=(server, secure), daemon=True)
                back.start()
                _pump(secure, server)
                back.join()
                with self._lock:
                    self._open -= {secure, server}

    def _secured(self, client: socket.socket) -> socket.socket | None:
        context = self.context
        if self._kind == "postgres":
            asked = client.recv(8, socket.MSG_WAITALL)
            if asked != _SSL_REQUEST:
                return None  # it refuses what is not encrypted
            client.sendall(b"N" if context is None else b"S")
        return None if context is None else context.wrap_socket(client, server_side=True)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
