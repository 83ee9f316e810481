import asyncio
import socket
from collections.abc import Callable
from contextvars import Context
from typing import Any

from typing_extensions import disjoint_base

from mioloop.reactor.source import Source

@disjoint_base
class Listener(Source):
    @property
    def sock(self) -> socket.socket: ...
    @property
    def protocol_factory(self) -> Callable[[], asyncio.BaseProtocol]: ...
    @property
    def server(self) -> Any: ...
    @property
    def accept_tls(self) -> Callable[[socket.socket, dict[str, Any], Context], None] | None: ...
    def _resume(self) -> None: ...
