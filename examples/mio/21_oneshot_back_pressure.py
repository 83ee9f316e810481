"""A server that takes its time, and a client that has to wait for it.

The client writes without pause. The server, edge + oneshot, is told once that there is
something, and leaves it at that: while it pauses there is not one event more. Meanwhile the
number of bytes that the client could write rises, then stands still: both socket buffers are
full, and the TCP window is shut. The server reads that much and re-arms; the number rises again
to the next plateau, round after round. The connection stays up, and a checksum shows that
nothing got lost.

The full buffers stop the client, not oneshot: part 2 shows a like plateau with a
level-triggered server that just does not read. Oneshot saves the events in between, one for each
poll.
"""

from __future__ import annotations

import socket
import threading
import zlib

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener, TcpStream

TOKEN = Token(0)
LISTENER = Token(1)
ROUNDS = 4
BUFFER_SIZE = 128 * 1024        # fixed, so that the system does not grow it as it sees fit
CHUNK = bytes(range(256)) * 16
SAMPLE_S = 0.02
SAMPLES_OF_PLATEAU = 8          # standing still for so long


class Client(threading.Thread):
    """Writes until told to stop; counts and sums up the bytes written."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)
        self._socket.settimeout(30.0)
        self._socket.connect(address)
        self._stop_writing = threading.Event()
        self.written = 0
        self.checksum = 0

    def run(self) -> None:
        with self._socket:
            while not self._stop_writing.is_set():
                count = self._socket.send(CHUNK)
                self.checksum = zlib.crc32(CHUNK[:count], self.checksum)
                self.written += count

    def stop_writing(self) -> None:
        self._stop_writing.set()


class Reader:
    """The server's side of the connection."""

    def __init__(self, stream: TcpStream) -> None:
        self.stream = stream
        self.received = 0
        self.checksum = 0
        self.at_end = False

    def read_up_to(self, total: int | None) -> None:
        """Until *total* bytes have come in all, or "would block", or the end."""
        while total is None or self.received < total:
            try:
                data = self.stream.read(64 * 1024)
            except BlockingIOError:
                return
            if not data:
                self.at_end = True
                return
            self.checksum = zlib.crc32(data, self.checksum)
            self.received += len(data)


def accept(poll: Poll, listener: TcpListener, limit: program.TimeLimit) -> TcpStream:
    events = Events(8)
    while True:
        try:
            stream, _ = listener.accept()
        except BlockingIOError:
            poll.poll(events, timeout=limit.left())
        else:
            stream.set_recv_buffer_size(BUFFER_SIZE)
            return stream


def watch_plateau(poll: Poll, client: Client, limit: program.TimeLimit) -> tuple[int, int, int]:
    """Poll without reading until the client's count stands still.

    Returns:
        the count at the plateau, the number of polls, the number of events they gave.
    """
    events = Events(8)
    still = polls = heard = 0
    written = -1
    while still < SAMPLES_OF_PLATEAU:
        heard += poll.poll(events, timeout=min(SAMPLE_S, limit.left()))
        polls += 1
        if not events.is_empty():
            # A level-triggered poll does not wait, so the sample needs a wait of its own.
            client.join(SAMPLE_S)
        still = still + 1 if client.written == written else 0
        written = client.written
    return written, polls, heard


def oneshot(selector: str) -> None:
    limit = program.TimeLimit(30.0)
    events = Events(8)
    opts = PollOpt.EDGE | PollOpt.ONESHOT

    with Poll(selector=selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        poll.register(listener, LISTENER, Ready.READABLE, PollOpt.EDGE)
        client = Client(listener.local_addr())
        reader = Reader(accept(poll, listener, limit))
        poll.register(reader.stream, TOKEN, Ready.READABLE, opts)
        client.start()

        for number in range(1, ROUNDS + 1):
            heard = wait_for_event(poll, events, limit)
            plateau, polls, while_disabled = watch_plateau(poll, client, limit)
            print(
                f"round {number}: {heard} event; plateau at {plateau} bytes, "
                f"{plateau - reader.received} of them unread; "
                f"{while_disabled} events in {polls} polls while disabled"
            )
            reader.read_up_to(plateau)
            poll.reregister(reader.stream, TOKEN, Ready.READABLE, opts)

        client.stop_writing()
        while not reader.at_end:
            wait_for_event(poll, events, limit)
            reader.read_up_to(None)
            poll.reregister(reader.stream, TOKEN, Ready.READABLE, opts)
        client.join()
        reader.stream.close()

    same = (client.written, client.checksum) == (reader.received, reader.checksum)
    print(f"written {client.written}, received {reader.received} bytes,", end=" ")
    print("checksums agree" if same else "CHECKSUMS DIFFER")


def wait_for_event(poll: Poll, events: Events, limit: program.TimeLimit) -> int:
    """Poll until the stream has an event; how many it had."""
    heard = 0
    while heard == 0:
        poll.poll(events, timeout=limit.left())
        heard = sum(event.token == TOKEN for event in events)
    return heard


def level_without_reading(selector: str) -> None:
    limit = program.TimeLimit(30.0)

    with Poll(selector=selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        poll.register(listener, LISTENER, Ready.READABLE, PollOpt.EDGE)
        client = Client(listener.local_addr())
        reader = Reader(accept(poll, listener, limit))
        poll.register(reader.stream, TOKEN, Ready.READABLE, PollOpt.LEVEL)
        client.start()
        plateau, polls, heard = watch_plateau(poll, client, limit)
        print(f"level, not read: plateau at {plateau} bytes; {heard} events in {polls} polls")

        client.stop_writing()
        events = Events(8)
        while not reader.at_end:
            poll.poll(events, timeout=limit.left())
            reader.read_up_to(None)
        client.join()
        reader.stream.close()


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    print("-- part 1: oneshot")
    oneshot(options.selector)
    print("-- part 2: level")
    level_without_reading(options.selector)


if __name__ == "__main__":
    main()
