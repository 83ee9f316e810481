"""create_connection(): asyncio's own, and a shorter way to a numeric IPv4 address.

For one connection asyncio's create_connection() awaits five coroutines of its own, resolves the
address twice, and makes a dozen enums. A short connection spends more time there than in the loop.
The shorter way is one coroutine. It awaits the same futures, so it takes as many turns, and it
raises the same exceptions.

A loop takes it only where a program cannot notice it. The host is a numeric IPv4 address, so there
is nothing to resolve. All options have their defaults. The loop is not in debug mode. No subclass,
tool or test has replaced a function or method that asyncio's create_connection() would call.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop import stdlib

_SelectorEventLoop = stdlib.UnixSelectorEventLoop

# A newer asyncio may do more.
ASYNCIO_IS_KNOWN = sys.version_info[:2] <= stdlib.TRIED
# From 3.15 on, variables that the factory sets are not seen by the callbacks of the connection.
COPIES_CONTEXT_FIRST = sys.version_info >= (3, 15)
DEFAULTS = _SelectorEventLoop.create_connection.__kwdefaults__ or {}


def _are_defaults(options: dict[str, Any]) -> bool:
    return all(
        name in DEFAULTS and value is DEFAULTS[name] for name, value in options.items()
    )


class ConnectingLoop(_SelectorEventLoop):
    """The second base of EventLoop: asyncio's own loop, with connections that are made faster."""

    __slots__ = ()

    if not TYPE_CHECKING:                   # checkers see the stdlib's signature

        @functools.wraps(_SelectorEventLoop.create_connection)
        async def create_connection(
            self,
            protocol_factory: Callable[[], asyncio.BaseProtocol],
            host: Any = None,
            port: Any = None,
            **options: Any,
        ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
            if not (
                ASYNCIO_IS_KNOWN
                and (not options or _are_defaults(options))
                and self._resolves_to_itself(host, port)
            ):
                return await super().create_connection(protocol_factory, host, port, **options)
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                sock.setblocking(False)
                await self._sock_connect_resolved(sock, (host, port))
                context = contextvars.copy_context() if COPIES_CONTEXT_FIRST else None
                protocol = protocol_factory()
                waiter = self.create_future()
                transport = self._make_client_transport(sock, protocol, waiter, context)
            except BaseException:
                if self._transport_of_socket(sock) is None:
                    sock.close()
                raise
            try:
                await waiter
            except BaseException:
                transport.close()
                raise
            return transport, protocol

    async def _create_connection_transport(
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> Any:
        if self._transport_of_socket(sock) is not None:
            # Refuse it here if that transport lives. asyncio of 3.15 would close its socket.
            self._ensure_fd_no_transport(sock)
        try:
            return await super()._create_connection_transport(sock, *args, **kwargs)
        except BaseException:
            # If no transport was made, close the socket, even one that the caller passed. asyncio
            # does so from 3.15 on, mioloop on every version. A transport closes its own socket.
            if self._transport_of_socket(sock) is None:
                sock.close()
            raise

    def _transport_of_socket(self, sock: socket.socket) -> Any:
        """The transport that uses the descriptor of *sock* now, native or the stdlib's, or None."""
        fd: Any = sock.fileno()  # of a mocked socket it may be no number
        if not isinstance(fd, int):
            return None
        other = self._transports.get(fd)
        if other is not None and not other.is_closing():
            return other
        return self._transport_of_fd(fd)

    if TYPE_CHECKING:

        def _transport_of_fd(self, fd: int) -> Any: ...
