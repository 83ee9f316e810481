"""DatagramSocket: a stdlib datagram socket as a mio handle.

Source: mio 0.6.21, ``src/net/udp.rs``, what a Unix datagram socket has too.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any

from mioloop.mio.evented_socket import Buffer, EventedSocket
from mioloop.mio.ready import Ready


class DatagramSocket(EventedSocket):
    """A socket that carries datagrams; ``b""`` is one, and not the end of anything.

    A datagram that is longer than the room for it loses its rest.
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
        """As `send`: one datagram, gathered from *buffers*."""
        return self._try(Ready.WRITABLE, self._open().sendmsg, buffers)

    def recv_bufs(self, buffers: Sequence[Buffer]) -> int:
        """As `recv_into`: one datagram, filling each buffer before the next one."""
        count, *_ = self._try(Ready.READABLE, self._open().recvmsg_into, buffers)
        return count

    def _send_to(self, data: Buffer, addr: Any) -> int:
        return self._try(Ready.WRITABLE, self._open().sendto, data, addr)
