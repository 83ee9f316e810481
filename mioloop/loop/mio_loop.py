"""MioLoop: the part of a loop that programs of `mioloop.mio` use: loop.poll, watch(), unwatch()."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop.loop.schedule import NativeLoop

if TYPE_CHECKING:
    from mioloop import mio
    from mioloop.mio.poll import BorrowedPoll


class MioLoop(NativeLoop):

    __slots__ = ("_mio_poll",)

    _mio_poll: BorrowedPoll | None
    _check_closed: Callable[[], None]  # asyncio's

    @property
    def poll(self) -> mio.Poll:
        """The `mioloop.mio.Poll` that this loop runs on.

        A registration needs a token that `watch` has given out. The loop does the polling, so
        ``poll()`` on it raises RuntimeError. Raises RuntimeError once the loop is closed.
        """
        self._check_closed()
        if self._mio_poll is None:
            from mioloop.mio.poll import BorrowedPoll

            self._mio_poll = BorrowedPoll(self._poll_address, self)
        return self._mio_poll

    def watch(
        self,
        evented: mio.Evented,
        interest: mio.Ready,
        opts: mio.PollOpt,
        callback: Callable[..., object],
        *args: Any,
    ) -> mio.Token:
        """Call ``callback(event, *args)`` whenever *evented* is ready.

        *evented* may be any Evented: a Registration that is set from another thread, an EventedFd,
        a mio socket, a class of your own. *event* is a `mioloop.mio.Event`. Re-arm a oneshot by
        ``loop.poll.reregister(evented, token, interest, opts)``.

        Raises the errors of `mioloop.mio.Poll.register`, such as FileExistsError.

        Returns:
            the token for `unwatch`.
        """
        from mioloop.mio import Event, Token

        if not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        poll = self.poll
        token = Token(self._watch_evented(evented, callback, args, Event._from_core))
        try:
            poll.register(evented, token, interest, opts)
        except BaseException:
            self._forget_evented(token)
            raise
        return token

    def unwatch(self, token: mio.Token) -> None:
        """End a `watch`. No callback runs after this, not even one that is due.

        Raises ValueError if *token* is not being watched.
        """
        evented = self._watched_evented(token)
        try:
            self.poll.deregister(evented)
        except ValueError:  # a closed mio object has no registration any more
            pass
        except OSError as exc:
            if exc.errno not in (errno.EBADF, errno.ENOENT):  # nor has a closed descriptor
                raise
        finally:
            self._forget_evented(token)
