"""SocketOptions: how a handle reads and sets the options of its socket."""

from __future__ import annotations

import socket


class SocketOptions:
    """The options of an open socket, as numbers, flags or bytes."""

    __slots__ = ()

    def _open(self) -> socket.socket:
        raise NotImplementedError

    def _set(self, level: int, option: int, value: int | bytes) -> None:
        self._open().setsockopt(level, option, value)

    def _get(self, level: int, option: int) -> int:
        return self._open().getsockopt(level, option)

    def _set_flag(self, level: int, option: int, value: bool) -> None:
        self._set(level, option, bool(value))

    def _flag(self, level: int, option: int) -> bool:
        return bool(self._get(level, option))
