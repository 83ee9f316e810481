"""Handles that only Unix has. mio: ``mio::unix``, and the sockets and pipes of mio 0.7."""

from mioloop.mio.evented_fd import EventedFd
from mioloop.mio.pipe import Receiver, Sender, pipe
from mioloop.mio.ready import UnixReady
from mioloop.mio.unix_socket import UnixDatagram, UnixListener, UnixStream

__all__ = [
    "EventedFd",
    "Receiver",
    "Sender",
    "UnixDatagram",
    "UnixListener",
    "UnixReady",
    "UnixStream",
    "pipe",
]
