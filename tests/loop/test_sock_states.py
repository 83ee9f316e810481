"""The states of a sock_*() call: a test takes every step, and the document has the table."""

from __future__ import annotations

import asyncio
import errno
import socket
from itertools import pairwise
from pathlib import Path

import pytest

import mioloop
from mioloop.loop.sock import MAY_BECOME

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"


class ObservedSocket(socket.socket):
    """A socket whose recv() tells the state of the call that uses it."""

    call = None
    seen: str | None = None
    fails = False
    resumes = False

    def recv(self, *args):
        self.seen = self.call._call_state
        if self.resumes:
            with pytest.raises(RuntimeError):
                self.call.send(None)
        if self.fails:
            raise OSError(errno.ECONNRESET, "reset")
        return super().recv(*args)


@pytest.fixture
def loop():
    loop = mioloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    observed = ObservedSocket(fileno=left.detach())
    observed.setblocking(False)
    right.setblocking(False)
    yield observed, right
    observed.close()
    right.close()


class Call:
    """One sock_recv(), continued by hand, with the states that it has had."""

    def __init__(self, loop, sock):
        self.loop = loop
        self.sock = sock
        self.call = sock.call = loop.sock_recv(sock, 100)
        self.states = [self.call._call_state]
        self.result = None

    def note(self):
        if self.sock.seen is not None:
            self.states.append(self.sock.seen)
            self.sock.seen = None
        if self.call._call_state != self.states[-1]:
            self.states.append(self.call._call_state)

    def resume(self):
        try:
            self.call.send(None)
        except StopIteration as stop:
            self.result = stop.value
        except OSError as exc:
            self.result = exc
        self.note()

    def poll(self):
        self.loop.call_later(0.01, self.loop.stop)
        self.loop.run_forever()
        self.note()

    def end(self):
        self.call.close()
        self.note()


def never_awaited(call, peer):
    call.end()


def data_is_there(call, peer):
    peer.send(b"data")
    call.resume()
    assert call.result == b"data"


def fails_at_once(call, peer):
    call.sock.fails = True
    call.resume()
    assert isinstance(call.result, OSError)


def data_comes(call, peer):
    call.resume()
    peer.send(b"data")
    call.poll()
    call.resume()
    assert call.result == b"data"


def somebody_else_reads(call, peer):
    call.resume()
    peer.send(b"data")
    call.poll()
    socket.socket.recv(call.sock, 100)
    call.resume()
    call.end()


def ended_while_waiting(call, peer):
    call.resume()
    call.end()


def ended_when_woken(call, peer):
    call.resume()
    peer.send(b"data")
    call.poll()
    call.end()
    assert socket.socket.recv(call.sock, 100) == b"data"


WALKS = {
    never_awaited: ["NEW", "FINISHED"],
    data_is_there: ["NEW", "TRYING", "FINISHED"],
    fails_at_once: ["NEW", "TRYING", "FINISHED"],
    data_comes: ["NEW", "TRYING", "WAITING", "WOKEN", "TRYING", "FINISHED"],
    somebody_else_reads: ["NEW", "TRYING", "WAITING", "WOKEN", "TRYING", "WAITING", "FINISHED"],
    ended_while_waiting: ["NEW", "TRYING", "WAITING", "FINISHED"],
    ended_when_woken: ["NEW", "TRYING", "WAITING", "WOKEN", "FINISHED"],
}
SENDFILE = ["TRYING", "WOKEN"]      # a step that only sock_sendfile() takes: its turn is spent


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.__name__)
def test_states_of_a_call(loop, pair, walk):
    sock, peer = pair
    call = Call(loop, sock)
    walk(call, peer)
    assert call.states == WALKS[walk]


def test_a_long_file_is_sent_in_several_turns(loop, pair, tmp_path):
    sock, peer = pair
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)

    async def receive():
        size = 0
        while size < 1_000_000:
            size += len(await loop.sock_recv(peer, 262_144))
        return size

    async def main(file):
        receiving = asyncio.ensure_future(receive())
        assert await loop.sock_sendfile(sock, file) == 1_000_000
        return await receiving

    with path.open("rb") as file:
        assert loop.run_until_complete(main(file)) == 1_000_000


def test_every_step_of_the_table_is_taken():
    steps = {step for states in [*WALKS.values(), SENDFILE] for step in pairwise(states)}
    assert steps == {(a, b) for a, following in MAY_BECOME.items() for b in following}


def test_a_finished_call_cannot_go_on(loop, pair):
    call = Call(loop, pair[0])
    call.end()
    with pytest.raises(RuntimeError, match="already awaited"):
        call.call.send(None)
    call.end()
    assert call.states == ["NEW", "FINISHED"]


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_call_is_not_continued_from_within_its_attempt(loop, pair, attempt):
    sock, peer = pair
    call = Call(loop, sock)
    if attempt == 2:
        call.resume()
    peer.send(b"data")
    call.poll()
    sock.resumes = True
    call.resume()
    assert call.result == b"data"


def table():
    lines = ["| state | may become |", "|---|---|"]
    for state, following in MAY_BECOME.items():
        lines.append(f"| {state} | {', '.join(following)} |")
    return "\n".join(lines).replace("|  |", "| |")


def test_the_document_has_the_table():
    assert table() in DOCUMENT.read_text(encoding="utf-8")
