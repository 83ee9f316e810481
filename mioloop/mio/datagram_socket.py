"""DatagramSocket: a stdlib datagram socket as a mio handle.

Source: mio 0.6.21, ``src/net/udp.rs``, the part that a Unix datagram socket shares.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any

from mioloop.mio.evented_socket import Buffer, EventedSocket
from mioloop.mio.ready import Ready


class DatagramSocket(EventedSocket):
    """A socket that carries datagrams; ``b""`` is an empty datagram, and no end of a stream.

    If a datagram is longer than the buffer, the rest of it is lost.
    """

    __slots__ = ()

    _type = socket.SOCK_DGRAM

    def recv_from(self, n: int) -> tuple[bytes, Any]:
        """The first *n* bytes of a datagram, and its sender's address."""
        return self._try(Ready.READABLE, self._open().recvfrom, n)

    def recv_from_into(self, buffer: Buffer) -> tuple[int, Any]:
        """A datagram into *buffer*: its length there, and its sender's address."""
        return self._try(Ready.READABLE, self._open().recvfrom_into, buffer)

    def send(self, data: Buffer) -> int:
        """Send a datagram to the connected peer.

        Raises:
            OSError: ``EDESTADDRREQ`` or ``ENOTCONN`` if there is none; ``ECONNREFUSED`` if
                an earlier datagram was refused.
        """
        return self._try(Ready.WRITABLE, self._open().send, data)

    def recv(self, n: int) -> bytes:
        """The first *n* bytes of a datagram."""
        return self._try(Ready.READABLE, self._open().recv, n)

    def recv_into(self, buffer: Buffer) -> int:
        """A datagram into *buffer*; returns its length there."""
        return self._try(Ready.READABLE, self._open().recv_into, buffer)

    def send_bufs(self, buffers: Iterable[Buffer]) -> int:
        """Send one datagram, gathered from *buffers*. Raises as `send`."""
        return self._try(Ready.WRITABLE, self._open().sendmsg, buffers)

    def recv_bufs(self, buffers: Sequence[Buffer]) -> int:
        """Receive one datagram, filling each buffer before the next one; returns its length."""
        count, *_ = self._try(Ready.READABLE, self._open().recvmsg_into, buffers)
        return count

    def _send_to(self, data: Buffer, addr: Any) -> int:
        return self._try(Ready.WRITABLE, self._open().sendto, data, addr)
