"""Pipes: pipe, Sender, Receiver.

Source: mio 0.7.5, ``src/sys/unix/pipe.rs``.
"""

from __future__ import annotations

import os
from typing import TypeVar

from mioloop.mio.evented_socket import Buffer
from mioloop.mio.handle import Binding, OwnedHandle
from mioloop.mio.ready import Ready

E = TypeVar("E", bound="PipeEnd")


class PipeEnd(OwnedHandle):
    """One end of a pipe. Made by `pipe` or `from_fd`."""

    __slots__ = ("_fd",)

    _fd: int                # -1 once closed

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} is made by pipe() or from_fd()")

    @classmethod
    def from_fd(cls: type[E], fd: int) -> E:
        """An end that owns *fd*, for example a descriptor from `os.pipe` or of a child process.

        *fd* is not made non-blocking; see `set_nonblocking`.

        Raises:
            OSError: ``EBADF`` if *fd* is not open.
        """
        os.fstat(fd)
        end = cls.__new__(cls)
        end._fd = fd
        end._binding = Binding()
        return end

    def set_nonblocking(self, nonblocking: bool) -> None:
        os.set_blocking(self.fileno(), not nonblocking)

    def fileno(self) -> int:
        if self._fd == -1:
            raise ValueError(f"the {type(self).__name__} is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd == -1

    def _release(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def _close(self) -> None:
        fd = self._release()
        if fd != -1:
            os.close(fd)


class Sender(PipeEnd):
    """The end to write to."""

    __slots__ = ()

    def write(self, data: Buffer) -> int:
        """Send the beginning of *data*, perhaps all of it; returns the number of bytes sent.

        Raises:
            BlockingIOError: the pipe is full.
            BrokenPipeError: the other end is closed.
        """
        return self._try(Ready.WRITABLE, os.write, self.fileno(), data)


class Receiver(PipeEnd):
    """The end to read from.

    When the other end is closed and the pipe is empty, the event is ``Hup`` without
    ``Readable``: read on any event, or ask `Event.is_read_closed`.
    """

    __slots__ = ()

    def read(self, n: int) -> bytes:
        """At most *n* bytes; ``b""`` if the other end is closed.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        return self._try(Ready.READABLE, os.read, self.fileno(), n)


def pipe() -> tuple[Sender, Receiver]:
    """The two ends of a new pipe, non-blocking and closed on exec."""
    read_fd, write_fd = os.pipe()
    sender, receiver = Sender.from_fd(write_fd), Receiver.from_fd(read_fd)
    sender.set_nonblocking(True)
    receiver.set_nonblocking(True)
    return sender, receiver
