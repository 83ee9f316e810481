"""Two connected transports on one loop, driven step by step until nothing more happens.

The calls of each end are recorded in a way that does not depend on how the system cuts the bytes:
the kinds of calls in their order, and how many of the expected bytes have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
import select
import socket
import struct
import termios
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.connections import small_buffers, socket_pair

PERIOD = 65521                          # a prime: no power of two repeats the stream
HUGE = 1 << 20                          # more than the system holds of one connection
STREAM = random.Random(1).randbytes(PERIOD) * (HUGE // PERIOD + 2)
GIVE_UP_S = 5.0
WINDOW_S = 0.2  # a closed window opens within this time, or stays closed
QUIET_TURNS = 3


class Op(NamedTuple):
    """One call of a transport's method by the end *side*, 0 or 1."""

    side: int
    name: str
    argument: Any = None


class Mischief(Exception):
    """Raised by a protocol's callback."""


class End:
    """One transport, its protocols, and the calls that they received."""

    def __init__(self, pair: Pair, side: int, keep_open: bool) -> None:
        self.pair, self.side, self.keep_open = pair, side, keep_open
        self.log: list[tuple[str, ...]] = []
        self.hooks: dict[str, list[Op]] = {}
        self.written = self.received = 0
        self.writing_paused = False
        self.transport: Any = None
        self.socket: Any = None

    @property
    def peer(self) -> End:
        return self.pair.ends[1 - self.side]

    @property
    def unreceived(self) -> int:
        """Bytes that we wrote and the peer has not been given."""
        return self.written - self.peer.received

    def was_told(self, name: str) -> bool:
        return any(entry[0] == name for entry in self.log)

    @property
    def reading(self) -> bool:
        if self.was_told("eof_received") or self.transport.is_closing():
            return False
        return bool(self.transport.is_reading())

    # -- calls of the protocols ---------------------------------------------------------------

    def told(self, name: str, *details: str) -> None:
        self.log.append((name, *details))
        for op in self.hooks.pop(name, ()):
            self.pair.apply(op)

    def take(self, data: Any) -> None:
        at = self.received % PERIOD
        if data != STREAM[at : at + len(data)]:
            self.log.append((f"wrong bytes at {self.received}",))
        self.received += len(data)
        if self.was_told("eof_received") or self.was_told("connection_lost"):
            self.log.append(("data after the end",))
        for op in self.hooks.pop("data_received", ()):
            self.pair.apply(op)

    # -- calls of the transport -----------------------------------------------------------------

    def to_write(self, size: int) -> bytes:
        at = self.written % PERIOD
        return STREAM[at : at + size]

    @contextlib.contextmanager
    def counted(self, size: int) -> Iterator[None]:
        """Before it is written: pause_writing() comes inside, and may write, too."""
        self.written += size
        try:
            yield
        except BaseException:           # refused
            self.written -= size
            raise

    def write(self, size: int) -> None:
        data = self.to_write(size)
        with self.counted(size):
            self.transport.write(data)

    def write_bytearray(self, size: int) -> None:
        data = bytearray(self.to_write(size))
        with self.counted(size):
            self.transport.write(data)
        if not (self.pair.is_reference or self.pair.tls):   # asyncio may hold on to it
            data.append(0)  # the caller may change its buffer again (R50)

    def writelines(self, sizes: list[int]) -> None:
        whole = memoryview(self.to_write(sum(sizes)))
        parts = []
        for size in sizes:
            parts.append(whole[:size])
            whole = whole[size:]
        with self.counted(sum(sizes)):
            if self.pair.is_reference:  # R51; some releases of asyncio apply no marks there
                self.transport.write(b"".join(parts))
            else:
                self.transport.writelines(parts)

    def write_eof(self, _: None) -> None:
        try:
            self.transport.write_eof()
        except OSError:                 # asyncio's shutdown() after a reset (R47)
            if not self.pair.is_reference:
                raise

    def pause_reading(self, _: None) -> None:
        self.transport.pause_reading()

    def resume_reading(self, _: None) -> None:
        self.transport.resume_reading()

    def limits(self, marks: tuple[int, int]) -> None:
        high, low = marks
        self.transport.set_write_buffer_limits(high=high, low=low)

    def set_protocol(self, buffered: bool) -> None:
        self.transport.set_protocol((BufferedTeller if buffered else Teller)(self))

    def close(self, _: None) -> None:
        self.transport.close()

    def abort(self, _: None) -> None:
        self.transport.abort()

    def reset(self, _: None) -> None:
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def misbehave(self, _: None) -> None:
        raise Mischief


class Telling(asyncio.BaseProtocol):
    def __init__(self, end: End) -> None:
        self.end = end

    def connection_made(self, transport: Any) -> None:
        self.end.transport = transport
        self.end.told("connection_made")

    def pause_writing(self) -> None:
        assert not self.end.writing_paused
        self.end.writing_paused = True
        if not self.end.pair.tls:
            self.end.told("pause_writing")

    def resume_writing(self) -> None:
        assert self.end.writing_paused
        self.end.writing_paused = False
        if not self.end.pair.tls:
            self.end.told("resume_writing")

    def eof_received(self) -> bool:
        self.end.told("eof_received")
        return self.end.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.end.told("connection_lost", type(exc).__name__)


class Teller(Telling, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.end.take(data)


class BufferedTeller(Telling, asyncio.BufferedProtocol):
    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.buffer = bytearray(8191)

    def get_buffer(self, sizehint: int) -> Any:
        # asyncio's TLS reads into slices of it, and a bytearray's are copies.
        return memoryview(self.buffer) if self.end.pair.tls else self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.end.take(self.buffer[:nbytes])


class Pair:
    """Two ends of one connection, both on *loop*, which the pair closes in the end."""

    def __init__(self, loop: Any, medium: str, tls: Any, keep_open: tuple[bool, bool],
                 is_reference: bool) -> None:
        self.loop, self.medium, self.tls, self.is_reference = loop, medium, tls, is_reference
        self.reports: list[tuple[str, str]] = []
        loop.set_exception_handler(self._report)
        self.ends = [End(self, side, keep) for side, keep in enumerate(keep_open)]
        sockets = socket_pair(medium)
        small_buffers(*sockets)
        loop.run_until_complete(asyncio.wait_for(self._connect(sockets), GIVE_UP_S))
        self.settle()

    async def _connect(self, sockets: tuple[socket.socket, socket.socket]) -> None:
        near, far = self.ends
        sockets[1].setblocking(False)
        accepting = self.loop.connect_accepted_socket(
            lambda: Teller(far), sockets[1], ssl=self.tls and self.tls.server)
        connect = (self.loop.create_unix_connection if self.medium == "unix"
                   else self.loop.create_connection)
        secure = {"ssl": self.tls.client, "server_hostname": "localhost"} if self.tls else {}
        await asyncio.gather(accepting, connect(lambda: Teller(near), sock=sockets[0], **secure))
        for end in self.ends:
            end.socket = end.transport.get_extra_info("socket")

    def _report(self, _: Any, context: dict[str, Any]) -> None:
        message = context["message"]
        if message.startswith("Exception in callback"):  # its name depends on the loop
            message = "Exception in callback"
            if self.is_reference and isinstance(context.get("exception"), OSError):
                return                  # shutdown() after a reset, as in write_eof()
        if self.is_reference and isinstance(context.get("exception"), AttributeError):
            return                      # as in apply()
        self.reports.append((message, type(context.get("exception")).__name__))

    # -- steps -------------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        end = self.ends[op.side]
        try:
            getattr(end, op.name)(op.argument)
        except Mischief:
            raise
        except Exception as exc:
            # asyncio has let go of its loop, or of its protocol, and does not look (R47, R71).
            if not (isinstance(exc, AttributeError) and (self.is_reference or self.tls)):
                end.log.append((f"{op.name} raised", type(exc).__name__))

    def run(self, ops: list[Op]) -> None:
        """Make the calls in one callback, then run the loop until nothing more happens."""
        self.loop.call_soon(lambda: [self.apply(op) for op in ops])
        self.settle()

    def settle(self) -> None:
        """Run the loop until nothing happens any more, and nothing is on its way."""
        self._come_to_rest()
        began = time.monotonic()
        # Bytes that never arrive show in the comparison of the two loops.
        while any(self._in_flight(end, time.monotonic() - began) for end in self.ends):
            self.loop.call_later(0.001, self.loop.stop)
            self.loop.run_forever()
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        quiet = 0
        for _ in range(10_000):
            before = self._state()
            self.turn()
            quiet = 0 if self.loop._ready or self._state() != before else quiet + 1
            if quiet == QUIET_TURNS:
                return
        raise AssertionError(f"no rest: {self.ends[0].log}, {self.ends[1].log}")

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def _state(self) -> Any:
        events = 0 if self.is_reference else self.loop.stats()["events"]
        return events, [(len(end.log), end.received, end.written, end.socket and
                         end.socket.fileno()) for end in self.ends]

    def _in_flight(self, receiver: End, waited_s: float) -> bool:
        """Whether the system may still deliver bytes that the other end sent.

        A Unix socket delivers at once. Over TCP both ends are on one machine, but a busy kernel may
        delay both bytes and the window update that announces new room.
        """
        sender, fd = receiver.peer, receiver.socket.fileno()
        if self.medium == "unix" or receiver.transport.is_closing() or waited_s > GIVE_UP_S:
            return False
        if sender.socket.fileno() < 0:
            end = select.poll()
            end.register(fd, select.POLLRDHUP)
            return not end.poll(0)
        if sender.transport.is_closing():
            return False
        if receiver.reading:
            return receiver.received < sender.written
        if sender.transport.get_write_buffer_size() or waited_s > WINDOW_S:
            return False                # until it reads
        return receiver.received + unread(fd) < sender.written

    def finish(self) -> None:
        for end in self.ends:
            end.hooks.clear()
            self.apply(Op(end.side, "abort"))
        self.settle()
        assert all(end.was_told("connection_lost") for end in self.ends)
        assert all(end.socket.fileno() == -1 for end in self.ends)
        self.loop.close()


def unread(fd: int) -> int:
    """Bytes that wait in the socket to be received."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
