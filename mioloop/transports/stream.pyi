# isinstance() finds Transport, and so asyncio.Transport, by `__class__`.

from asyncio import transports
from collections.abc import Iterable
from typing import Any, final

from typing_extensions import disjoint_base

from mioloop.transports.socket_transport import SocketTransport

class Transport(transports._FlowControlMixin, transports.Transport): ...

@disjoint_base
class StreamFilter: ...

@final
class StreamTransport(SocketTransport):
    _start_tls_compatible: bool
    _sendfile_compatible: Any
    @property
    def _buffer(self) -> tuple[bytes, ...] | bytes: ...
    @property
    def _eof(self) -> bool: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
