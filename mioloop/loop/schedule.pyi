"""The compiled half of EventLoop."""

import asyncio
import socket
from collections.abc import Callable
from contextvars import Context
from typing import Any

from typing_extensions import TypeVarTuple, Unpack, disjoint_base

from mioloop.loop.tracing import TracingReactor
from mioloop.options import LoopOptions

_Ts = TypeVarTuple("_Ts")

@disjoint_base
class NativeLoop(TracingReactor):
    _stopping: bool
    _closed: bool
    _debug: bool
    _thread_id: int | None
    _task_factory: Callable[..., asyncio.Future[Any]] | None

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def get_debug(self) -> bool: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def _open(self, options: LoopOptions) -> None: ...
    def _opened(self) -> None: ...
    def _close_native(self) -> None: ...
    def _renew_after_fork(self) -> None: ...
    def _renew_native(self) -> None: ...
    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle: ...
    def _add_callback(self, handle: asyncio.Handle) -> None: ...
    def _add_callback_signalsafe(self, handle: asyncio.Handle) -> None: ...
    def _write_to_self(self) -> None: ...
    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...
    def _make_stream_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None,
        extra: dict[str, Any] | None,
        server: Any,
        context: Context | None,
    ) -> asyncio.Transport: ...
    def _resolves_to_itself(self, host: Any, port: Any) -> bool: ...
    def _make_client_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None,
        context: Context | None,
    ) -> asyncio.Transport: ...
    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> asyncio.DatagramTransport: ...
    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> asyncio.ReadTransport: ...
    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> asyncio.WriteTransport: ...
    def _make_listener(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        backlog: int,
        accept_tls: Callable[[socket.socket, dict[str, Any], Context], None] | None,
        context: Context | None,
    ) -> None: ...
    def _stop_listener(self, sock: socket.socket) -> None: ...
    def _watch_process(self, pidfd: int, callback: Callable[[], None]) -> None: ...

def install_fast_methods(loop_type: type[NativeLoop]) -> None: ...
