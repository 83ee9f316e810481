# The compiled binding of load.h.

from typing import Any

from mioloop.mio._core import _FFI, CData

class _LoadFFI(_FFI):
    def new(self, cdecl: str, init: Any = None) -> Any: ...
    def from_buffer(self, data: bytes) -> CData: ...

ffi: _LoadFFI
lib: Any
