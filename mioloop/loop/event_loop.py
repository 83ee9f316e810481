"""EventLoop: the native half, with asyncio's own loop as the second base class.

All cold parts (connecting, servers' arguments, DNS, executors, TLS, subprocesses, debug mode) are
the code of the running Python's stdlib, which calls hooks of the loop. Each hook that is overridden
here or in schedule.pyx is in the table of `mioloop.stdlib`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import socket
import sys
import threading
import warnings
from asyncio import constants
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    from mioloop.loop.schedule import NativeLoop, install_fast_methods
except ModuleNotFoundError as exc:
    if exc.name != "mioloop.loop.schedule":
        raise
    raise ImportError(
        f"{__file__} is source that has not been compiled: start Python in another directory,"
        " or run `make build` and use the Python that it makes"
    ) from None

from mioloop import stdlib
from mioloop.loop import children, signals
from mioloop.loop.connecting import ConnectingLoop
from mioloop.loop.file_pieces import send_pieces, send_through
from mioloop.loop.mio_loop import MioLoop
from mioloop.loop.own_methods import defines
from mioloop.loop.selector import ReactorSelector
from mioloop.loop.wakeup import signal_wakeup
from mioloop.options import LoopOptions

if TYPE_CHECKING:
    import ssl

    from mioloop.console.server import Console

# From 3.15 on a server has a context, and each connection gets a copy of it. mioloop does so on
# every version. Rule R58: a connection has one context for all its callbacks.
ACCEPTS_IN_CONTEXT = sys.version_info >= (3, 15)


def _with_context(server: asyncio.AbstractServer) -> asyncio.AbstractServer:
    """Give *server* the current context, as a Server of 3.15 has it.

    start_serving() may be called later, in another context.
    """
    server._context = contextvars.copy_context()  # type: ignore[attr-defined]
    return server


# asyncio's public name may be mioloop's own, see mioloop.takeover.
_SelectorEventLoop = stdlib.UnixSelectorEventLoop


class _FactoryFailure:
    """Stands for a protocol if the factory has raised."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc


class EventLoop(MioLoop, ConnectingLoop):
    """An asyncio event loop on a mio Poll.

    Args:
        trigger: "edge", "level" or "oneshot": how streams and listeners are polled. It does not
            change the behaviour that a program sees.
        selector: "epoll", "poll" or "kqueue", as this build has them; None for its default.
        spin: seconds, at most 1, that the loop may poll without blocking before it waits. It then
            answers sooner, but uses processor time. The loop spins for a shorter time if spinning
            rarely finds an event, and stops spinning while there are no events. 0: never.
        io_uring: True: where the system has it (io_uring(7), Linux 5.12) and permits it, the
            sends, or receives, of several connections take one system call. It does not change
            the behaviour that a program sees.
        stall: seconds, at least 0.001. If a callback has not returned after that time, the line
            that it executes is reported: a warning of the logger ``mioloop.stall``, a call of
            `on_stall`, and ``sys.audit("mioloop.stall", loop, stall)``, each with a
            `mioloop.loop.stall.Stall`, by a thread of its own. It is reported again at growing
            intervals, and when it has returned. 0: never.
        console: True: a thread answers ``python -m mioloop ps``, ``top``, ``stack`` and ``trace``
            on a Unix socket that only this user and root can use (``mioloop.console``).
        durations: True: each callback and event is timed, for `durations`. This costs two reads
            of the clock for each of them.

    Raises:
        ValueError: an unknown trigger or selector, a spin or stall out of its range, an io_uring,
            console or durations that are no bool; the message names the valid values.
        OSError: the system has no descriptor left (EMFILE, ENFILE).
    """

    # The attributes that BaseEventLoop and its derived classes assign. With slots for these the
    # instance has no dictionary until a program sets another attribute. So the interpreter finds
    # loop.call_soon without a look-up in a dictionary.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_console",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_old_agen_hooks",
        "_signal_handlers",
        "_ssock",
        "_timer_cancelled_count",
        "_transports",
        "_unix_server_sockets",
        "_watcher",
        "trigger",
    )

    def __init__(
        self,
        *,
        trigger: str = LoopOptions.trigger,
        selector: str | None = LoopOptions.selector,
        spin: float = LoopOptions.spin,
        io_uring: bool = LoopOptions.io_uring,
        stall: float = LoopOptions.stall,
        console: bool = LoopOptions.console,
        durations: bool = LoopOptions.durations,
    ) -> None:
        options = LoopOptions(trigger, selector, spin, io_uring, stall, console, durations)
        if sys.version_info[:2] > stdlib.TRIED:
            stdlib.check_hooks(EventLoop, _SelectorEventLoop)
        if not self.is_closed():  # called a second time, as in a diamond of classes
            EventLoop.close(self)
        self._ssock = self._csock = None
        self._open(options)
        self._mio_poll = None
        self._console: Console | None = None
        self.trigger = trigger
        if options.stall:
            from mioloop.loop.stall import StallWatch

            self._watch_for_stalls(StallWatch(self, options.stall))
        try:
            super().__init__(ReactorSelector(self))
            self._opened()
            if options.console:
                from mioloop.console.server import Console

                self._console = Console.of_this_process()
                self._console.add(self)
        except BaseException:
            self._close_native()
            for sock in (self._ssock, self._csock):
                if sock is not None:
                    sock.close()
            raise

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} trigger={self.trigger} selector={self.selector} "
            f"running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # -- running ------------------------------------------------------------

    def run_forever(self) -> None:
        # Before the stdlib's own checks, because 3.13.0 resets the outer loop's state if they fail.
        # Rule R19: a run inside a run raises, and the outer run continues.
        self._check_closed()
        self._check_running()
        self._renew_after_fork()
        with signal_wakeup(self):
            self._turn_until_stopped(True)
            try:
                super().run_forever()
            finally:
                self._turn_until_stopped(False)

    def _renew(self) -> None:
        """In a forked child: replace the parent's poll and self-pipe by new ones.

        All registrations are kept. If this raises (OSError), nothing has changed.
        """
        borrowed = self._mio_poll
        ssock, csock = socket.socketpair()
        try:
            with contextlib.nullcontext() if borrowed is None else borrowed._lock:
                self._renew_native()
                if borrowed is not None:
                    borrowed._renewed()
        except BaseException:
            ssock.close()
            csock.close()
            raise
        ssock.setblocking(False)
        csock.setblocking(False)
        self._remove_reader(self._ssock.fileno())
        self._ssock.close()
        self._csock.close()
        self._ssock, self._csock = ssock, csock
        self._add_reader(ssock.fileno(), self._read_from_self)
        if (
            self.is_running() or self._signal_handlers
        ) and threading.current_thread() is threading.main_thread():
            signals.take_over(csock)
        executor = self._default_executor
        if getattr(executor, "_thread_name_prefix", None) == "asyncio":
            self._default_executor = None  # made by the stdlib; its threads exist in the parent
        if self._console is not None:
            self._console.add(self)

    def close(self) -> None:
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        try:
            super().close()
        finally:
            if self._mio_poll is not None:
                self._mio_poll._forget()
            self._watch_for_stalls(None)
            if self._console is not None:
                self._console.remove(self)
            self._close_native()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self.is_closed():
            return
        text = f"unclosed event loop {self!r}"
        try:
            if not self.is_running():
                self.close()
        finally:
            # Last: a filter may turn the warning into an exception, and a hook may run any code.
            _warn(text, ResourceWarning, source=self)

    # -- transports -------------------------------------------------------------

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)
        transport = self._transport_of_fd(fd if isinstance(fd, int) else int(fd.fileno()))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # If a newer stdlib passes an unknown keyword, the stdlib's own method makes the transport. That
    # transport works too: it uses add_reader() and add_writer() of this loop.

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
        **unknown: Any,
    ) -> asyncio.Transport:
        if unknown or defines(sock, "recv", "recv_into", "send", "sendmsg", "shutdown"):
            if context is not None or ACCEPTS_IN_CONTEXT:
                unknown["context"] = context
            self._ensure_fd_no_transport(sock)
            return super()._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server, **unknown
            )
        self._ensure_fd_no_transport(sock)
        return self._make_stream_transport(sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
        **unknown: Any,
    ) -> asyncio.Transport:
        timeouts = {
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
        }
        if unknown:
            return super()._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, server_side=server_side,
                server_hostname=server_hostname, extra=extra, server=server, context=context,
                **timeouts, **unknown,
            )
        from mioloop.transports.tls import make_tls  # programs without TLS start sooner

        tls = make_tls(
            self, protocol, sslcontext, waiter, server_side, server_hostname, True, **timeouts
        )
        transport = tls._app_transport
        assert transport is not None  # it is None after connection_lost() only
        self._make_socket_transport(rawsock, tls, extra=extra, server=server, context=context)
        return transport

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        **timeouts: Any,
    ) -> Any:
        import ssl  # some Pythons are built without it

        from mioloop.transports.tls import make_tls

        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        handshake = self.create_future()
        tls = make_tls(
            self, protocol, sslcontext, handshake, server_side, server_hostname, False, **timeouts
        )
        if transport.is_closing() and transport.get_protocol() is None:
            # connection_lost() has been called, so the handshake would never end. Rule R98: the
            # result for a closed or lost transport is None, as asyncio's.
            return None
        transport.pause_reading()  # nothing may reach the session before its connection_made()
        if isinstance(protocol, asyncio.StreamReaderProtocol):
            # Unread data in a StreamReader is the peer's side of the handshake.
            unread = getattr(getattr(protocol, "_stream_reader", None), "_buffer", None)
            if unread:
                tls._read_before(unread)
                unread.clear()
        if getattr(transport, "_protocol_paused", False):
            tls._below_is_full(transport.get_protocol() is protocol)
        transport.set_protocol(tls)
        # These calls deliver data that was read before, so they run in the connection's context.
        context = getattr(transport, "_context", None)
        connected = self.call_soon(tls.connection_made, transport, context=context)
        resumed = self.call_soon(transport.resume_reading, context=context)
        try:
            await handshake
        except BaseException:
            transport.close()
            connected.cancel()
            resumed.cancel()
            del handshake  # breaks a cycle: its exception has a traceback with this frame
            raise
        return tls._app_transport  # None if the transport was closed (R98)

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any:
        def factory() -> Any:
            try:
                return protocol_factory()
            except BaseException as exc:
                return _FactoryFailure(exc)

        if kwargs.get("sock") is None:  # a socket made by the loop is closed if the factory raises
            return await super().create_datagram_endpoint(factory, *args, **kwargs)
        return await super().create_datagram_endpoint(protocol_factory, *args, **kwargs)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> Any:
        if type(protocol) is _FactoryFailure:
            sock.close()
            raise protocol.exc
        kind: Any = super()
        if defines(sock, "recvfrom", "send", "sendto"):
            self._ensure_fd_no_transport(sock)
            kind = super(NativeLoop, self)  # the stdlib's
        return kind._make_datagram_transport(sock, protocol, address, waiter, extra, **unknown)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
        **unknown: Any,
    ) -> None:
        if unknown or defines(sock, "accept"):
            if ACCEPTS_IN_CONTEXT:
                unknown["context"] = context
            if sys.version_info >= (3, 11):
                unknown["ssl_shutdown_timeout"] = ssl_shutdown_timeout
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog,
                ssl_handshake_timeout=ssl_handshake_timeout, **unknown,
            )
            return
        accept_tls = None
        if sslcontext:
            keywords = {"sslcontext": sslcontext, "server": server}
            if ssl_handshake_timeout is not None:
                keywords["ssl_handshake_timeout"] = ssl_handshake_timeout
            if ssl_shutdown_timeout is not None:
                keywords["ssl_shutdown_timeout"] = ssl_shutdown_timeout

            def accept_tls(
                conn: socket.socket, extra: dict[str, Any], context: contextvars.Context
            ) -> None:
                if not ACCEPTS_IN_CONTEXT:
                    accept = self._accept_connection2(protocol_factory, conn, extra, **keywords)
                    context.run(self.create_task, accept)
                    return
                accept = self._accept_connection2(
                    protocol_factory, conn, extra, context=context, **keywords
                )
                self.create_task(accept, context=context)  # type: ignore[call-arg]

        if context is None:  # before 3.15 the stdlib passes none, see create_server()
            context = getattr(server, "_context", None)
        self._make_listener(sock, protocol_factory, server, backlog, accept_tls, context)

    if not (ACCEPTS_IN_CONTEXT or TYPE_CHECKING):  # checkers see the stdlib's signatures

        @functools.wraps(_SelectorEventLoop.create_server)
        async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.AbstractServer:
            return _with_context(await super().create_server(*args, **kwargs))

        @functools.wraps(_SelectorEventLoop.create_unix_server)
        async def create_unix_server(self, *args: Any, **kwargs: Any) -> asyncio.AbstractServer:
            return _with_context(await super().create_unix_server(*args, **kwargs))

    def _stop_serving(self, sock: socket.socket) -> None:
        self._stop_listener(sock)
        if sock.fileno() >= 0:  # -1: the program has closed the socket
            super()._stop_serving(sock)

    async def _make_subprocess_transport(
        self, protocol: asyncio.SubprocessProtocol, *args: Any, **kwargs: Any
    ) -> asyncio.SubprocessTransport:
        if children.watcher_was_chosen():
            return await super()._make_subprocess_transport(protocol, *args, **kwargs)
        waiter = self.create_future()
        transport = children.SubprocessTransport(self, protocol, *args, waiter=waiter, **kwargs)
        await transport.until_started(waiter)
        return transport

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not hasattr(transp, "_send_file"):  # a transport of the stdlib
            return await super()._sendfile_native(transp, file, offset, count)
        self._check_sendfile_params(transp._sock, file, offset, count)
        drained = transp._make_empty_waiter()
        reading = transp.is_reading()
        transp.pause_reading()
        try:
            await drained
            sent: int = await transp._send_file(file, offset, count)
            return sent
        finally:
            transp._reset_empty_waiter()
            if reading:
                transp.resume_reading()

    async def _sendfile_fallback(
        self, transp: Any, file: Any, offset: int, count: int | None
    ) -> int:
        return await send_through(self, transp, file, offset, count)

    async def _sock_sendfile_fallback(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        most = constants.SENDFILE_FALLBACK_READBUFFER_SIZE
        return await send_pieces(
            self, file, offset, count, most, lambda data: self.sock_sendall(sock, data)
        )

    # -- signals ------------------------------------------------------------------

    def _read_from_self(self) -> None:
        signals.process_pending(self)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        self._renew_after_fork()
        super().add_signal_handler(sig, callback, *args)
        signals.install_recorder(sig, self._csock.fileno())

    def remove_signal_handler(self, sig: int) -> bool:
        if self.is_running():
            self._renew_after_fork()
        removed = super().remove_signal_handler(sig)
        if (
            self.is_running()
            and not self._signal_handlers
            and threading.current_thread() is threading.main_thread()
        ):
            # The stdlib unset the wakeup descriptor with the last handler, but Ctrl-C needs it.
            # Rule R87: it belongs to the loop while the loop runs.
            signals.set_wakeup_fd(self._csock.fileno())
        return removed


install_fast_methods(EventLoop)
