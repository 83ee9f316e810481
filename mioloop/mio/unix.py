"""What only Unix has. mio: ``mio::unix``, and from 0.7 its sockets and pipes."""

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
