"""Errors by kind: the exceptions to catch, and their meanings.

mio names the kinds of its errors; in Python each is an exception class, or an OSError with an
errno of its own. This program makes every one happen that the system lets it make.

Two of them are no failures. BlockingIOError says "nothing more now, wait for the next event";
InterruptedError, which only poll_interruptible raises, says that a signal came. Most of the other
kinds concern one connection: close that one and go on. AddrInUse at the start, or a token that
cannot be registered, is a mistake of the program itself.

You should see one line a kind: its name, the exception, the errno, how it was made.
"""

from __future__ import annotations

import errno
import signal
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Registration, Token
from mioloop.mio.net import TcpListener, TcpStream, UdpSocket

READ = Ready.READABLE
EDGE = PollOpt.EDGE

Case = tuple[str, str, Callable[[], object]]


def wait(selector: str, stream: TcpStream, interest: Ready) -> None:
    """Until *stream* is ready for *interest*."""
    limit = program.TimeLimit(5.0)
    events = Events(8)
    with Poll(selector=selector) as poll, stream.try_clone() as clone:
        poll.register(clone, Token(0), interest, EDGE)
        while events.is_empty():
            poll.poll(events, timeout=limit.left())
        poll.deregister(clone)


class Cases:
    """Each method makes one error happen, with handles of its own."""

    def __init__(self, selector: str) -> None:
        self._selector = selector

    def poll(self) -> Poll:
        return Poll(selector=self._selector)

    def __iter__(self) -> Iterator[Case]:
        yield "NotFound", "reregister a socket never registered", self.not_found
        yield "AlreadyExists", "register a socket twice", self.already_exists
        yield "PermissionDenied", "register a regular file", self.permission_denied
        yield "ConnectionRefused", "connect where nobody listens", self.connection_refused
        yield "ConnectionReset", "read after the peer's reset", self.connection_reset
        yield "NotConnected", "shut down a socket that never got connected", self.not_connected
        yield "AddrInUse", "bind an address twice", self.addr_in_use
        yield "AddrNotAvailable", "bind an address of another machine", self.addr_not_available
        yield "BrokenPipe", "write after one's own shutdown", self.broken_pipe
        yield "WouldBlock", "accept when nobody waits", self.would_block
        yield "InvalidInput", "an argument the system refuses", self.invalid_input
        yield "InvalidInput", "an argument refused before the system sees it", self.no_capacity
        yield "Interrupted", "a signal during poll_interruptible", self.interrupted
        yield "UnexpectedEof", "a message cut short, found by the program", self.unexpected_eof
        yield "InvalidData", "a message not understood, found by the program", self.invalid_data
        yield "Other", "register the reserved token", self.reserved_token
        yield "Other", "register a socket with a second Poll", self.second_poll
        yield "(closed)", "use a Poll that was closed", self.closed_poll
        yield "(EBADF)", "register a descriptor that is none", self.bad_descriptor
        yield "(EMSGSIZE)", "send a datagram too large for any packet", self.message_too_long
        yield "(EDESTADDRREQ)", "send a datagram to nobody", self.no_destination

    def not_found(self) -> None:
        with self.poll() as poll, UdpSocket.bind("127.0.0.1:0") as handle:
            poll.reregister(handle, Token(0), READ, EDGE)

    def already_exists(self) -> None:
        with self.poll() as poll, UdpSocket.bind("127.0.0.1:0") as handle:
            poll.register(handle, Token(0), READ, EDGE)
            poll.register(handle, Token(1), READ, EDGE)

    def permission_denied(self) -> None:
        with self.poll() as poll, tempfile.TemporaryFile() as file:
            poll.register(file, Token(0), READ, EDGE)

    def connection_refused(self) -> None:
        with refused_stream(self._selector) as stream:
            error = stream.take_error()
            if error is not None:
                raise error

    def connection_reset(self) -> None:
        stream, peer = connected_pair()
        with stream:
            # To linger for 0 seconds turns close into a reset.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            wait(self._selector, stream, READ)
            stream.read(64)

    def not_connected(self) -> None:
        with refused_stream(self._selector) as stream:
            stream.take_error()
            stream.shutdown(socket.SHUT_WR)

    def addr_in_use(self) -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            TcpListener.bind(listener.local_addr()).close()

    def addr_not_available(self) -> None:
        TcpListener.bind("192.0.2.1:0").close()     # set aside for documentation, RFC 5737

    def broken_pipe(self) -> None:
        stream, peer = connected_pair()
        with stream, peer:
            stream.shutdown(socket.SHUT_WR)
            stream.write(b"too late")

    def would_block(self) -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            listener.accept()

    def invalid_input(self) -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            listener.set_ttl(256)

    def no_capacity(self) -> None:
        Events(0)

    def interrupted(self) -> None:
        previous = signal.signal(signal.SIGALRM, lambda number, frame: None)
        try:
            with self.poll() as poll:
                signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
                poll.poll_interruptible(Events(8), timeout=5.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)

    def unexpected_eof(self) -> None:
        stream, peer = connected_pair()
        with stream:
            peer.sendall(b"only 12 byte")
            peer.close()
            wait(self._selector, stream, READ)
            message = bytearray()
            while len(message) < 64:
                data = stream.read(64 - len(message))
                if not data:
                    raise EOFError(f"the stream ended after {len(message)} of 64 bytes")
                message += data

    def invalid_data(self) -> None:
        int(b"\xff not a number".decode("latin-1"))

    def reserved_token(self) -> None:
        registration, _ = Registration.new2()
        with self.poll() as poll, registration:
            poll.register(registration, Token(Token.MAX), READ, EDGE)

    def second_poll(self) -> None:
        with self.poll() as first, self.poll() as second, UdpSocket.bind("127.0.0.1:0") as handle:
            first.register(handle, Token(0), READ, EDGE)
            first.deregister(handle)
            second.register(handle, Token(0), READ, EDGE)

    def closed_poll(self) -> None:
        poll = self.poll()
        poll.close()
        poll.poll(Events(8), timeout=0)

    def bad_descriptor(self) -> None:
        with UdpSocket.bind("127.0.0.1:0") as handle:
            number = handle.fileno()
        with self.poll() as poll:
            # The Poll's own descriptors may have taken the number, so go past them.
            poll.register(number + 1000, Token(0), READ, EDGE)

    def message_too_long(self) -> None:
        with UdpSocket.bind("127.0.0.1:0") as handle:
            handle.send_to(bytes(70_000), handle.local_addr())

    def no_destination(self) -> None:
        with UdpSocket.bind("127.0.0.1:0") as handle:
            handle.send(b"to whom?")


def refused_stream(selector: str) -> TcpStream:
    """A stream that was refused a connection; the error is not taken yet."""
    with TcpListener.bind("127.0.0.1:0") as listener:
        address = listener.local_addr()
    stream = TcpStream.connect(address)
    wait(selector, stream, Ready.WRITABLE)
    return stream


def main() -> None:
    options = program.arguments(__doc__).parse_args()

    print(f"{'kind':18}{'exception':24}{'errno':14}how")
    for kind, how, fail in Cases(options.selector):
        try:
            fail()
        except (OSError, ValueError, EOFError) as error:
            number = error.errno if isinstance(error, OSError) else None
            name = "-" if number is None else errno.errorcode[number]
            print(f"{kind:18}{type(error).__name__:24}{name:14}{how}")
        else:
            print(f"{kind:18}{'nothing raised here':38}{how}")
    print("not made here: ConnectionAborted (a client gone before accept; Linux hides it),")
    print("TimedOut (needs minutes without a network), WriteZero (a write that takes 0 bytes)")


if __name__ == "__main__":
    main()
