"""The readiness API of mio 0.6 in Python: poll many sources, and learn which are ready.

.. code-block:: python

    poll, events = Poll(), Events(1024)
    poll.register(listener, Token(0), Ready.READABLE, PollOpt.EDGE)
    while True:
        poll.poll(events)
        for event in events:
            ...             # accept until BlockingIOError

Differences from mio 0.6.21 are listed in docs/mio.md.
"""

from mioloop.mio import net, unix
from mioloop.mio.errors import InvalidTokenError, MioError, WrongPollError
from mioloop.mio.event import Event, Evented, Events
from mioloop.mio.interest import Interest
from mioloop.mio.poll import Poll, selectors
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready
from mioloop.mio.registration import Registration, SetReadiness
from mioloop.mio.token import Token
from mioloop.mio.waker import Waker

__all__ = [
    "Event",
    "Evented",
    "Events",
    "Interest",
    "InvalidTokenError",
    "MioError",
    "Poll",
    "PollOpt",
    "Ready",
    "Registration",
    "SetReadiness",
    "Token",
    "Waker",
    "WrongPollError",
    "net",
    "selectors",
    "unix",
]
