"""A connected pair of sockets on the loopback interface."""

from __future__ import annotations

import socket

from mioloop.mio.net import TcpStream


def connected_pair() -> tuple[TcpStream, socket.socket]:
    """A stream to be polled, and its peer.

    The peer is an ordinary blocking socket: nothing on the other end of a connection needs to
    know that this end is polled.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), timeout=5.0)
        accepted, _ = listener.accept()
    return TcpStream.from_stream(accepted), peer
