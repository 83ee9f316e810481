"""EventedFd: any descriptor as a mio handle.

Source: mio 0.6.21, ``src/sys/unix/eventedfd.rs``.
"""

from __future__ import annotations

from mioloop.mio.event import Evented
from mioloop.mio.interest import Interest
from mioloop.mio.poll import Poll
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready


class EventedFd(Evented):
    """Borrows *fd* for one call: never closes it, never makes it non-blocking.

    It belongs to no Poll, so the descriptor may be registered with several. See
    `Poll.drained` for a selector that emulates edges (poll(2)).
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        if not isinstance(fd, int):
            raise TypeError(f"a descriptor is an int, not {fd!r}")
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        poll.register(self._fd, token, interest, opts)

    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        poll.reregister(self._fd, token, interest, opts)

    def deregister(self, poll: Poll) -> None:
        poll.deregister(self._fd)

    def __repr__(self) -> str:
        return f"EventedFd({self._fd})"
