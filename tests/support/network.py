"""No test leaves this machine: connections go to the loopback interface or to a local socket."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LeftTheMachineError(AssertionError):
    """A test tried to reach something else than this machine."""


def _local(family: int, address: Any) -> bool:
    if family == socket.AF_UNIX:
        return True
    host = address[0] if isinstance(address, tuple) and address else address
    if host in {"localhost", "", None}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def loopback_only() -> Iterator[None]:
    """Refuses every other connection and every look-up of another name while it lasts."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    look_up = socket.getaddrinfo

    def checked(at: socket.socket, address: Any) -> None:
        if not _local(at.family, address):
            message = f"a test tried to connect to {address!r}"
            raise LeftTheMachineError(message)
        connect(at, address)

    def checked_ex(at: socket.socket, address: Any) -> int:
        if not _local(at.family, address):
            message = f"a test tried to connect to {address!r}"
            raise LeftTheMachineError(message)
        return connect_ex(at, address)

    def checked_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _local(socket.AF_INET, (host,)):
            message = f"a test tried to look up {host!r}"
            raise LeftTheMachineError(message)
        return look_up(host, *arguments, **options)

    socket.socket.connect = checked  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = checked_ex  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = checked_look_up
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
        socket.getaddrinfo = look_up
