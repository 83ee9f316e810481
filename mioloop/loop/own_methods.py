"""Sockets of a class that has its own recv(), send(), accept() or the like."""

from __future__ import annotations

import socket
from typing import Any

_Socket = socket.socket  # tools replace the name in the module


def defines(sock: Any, *names: str) -> bool:
    """Return whether *sock* has its own version of a method of socket.socket.

    A native transport uses only the descriptor, and would ignore that method. For such a socket the
    stdlib makes the transport, which calls it.
    """
    kind = type(sock)
    return (
        kind is not _Socket
        and issubclass(kind, _Socket)       # a mock only says that it is a socket
        and any(
            getattr(kind, name) is not getattr(_Socket, name)
            or name in getattr(sock, "__dict__", ())
            for name in names
        )
    )
