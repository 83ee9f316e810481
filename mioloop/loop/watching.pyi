import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, final

from _typeshed import FileDescriptorLike

from mioloop.loop.sock import SockReactor
from mioloop.mio import Event, Evented
from mioloop.reactor.source import Source

@final
class WatchedEvented(Source):
    @property
    def evented(self) -> Evented: ...

class WatchingReactor(SockReactor):
    @property
    def _poll_address(self) -> int: ...
    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def _add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def _remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def _remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def _watched_fds(
        self,
    ) -> dict[int, tuple[Any, asyncio.Handle | None, asyncio.Handle | None]]: ...
    def _transport_of_fd(self, fd: int) -> Any: ...
    def _served_transports(self) -> list[asyncio.Transport]: ...
    def _watch_evented(
        self,
        evented: Evented,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        make_event: Callable[[int, int], Event],
    ) -> int: ...
    def _watched_evented(self, token: int) -> Evented: ...
    def _forget_evented(self, token: int) -> None: ...
    def check_token(self, token: int) -> None: ...
    def is_armed(self, token: int, oneshot: bool) -> bool: ...
