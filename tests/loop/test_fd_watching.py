"""add_reader, add_writer and their removal: R23 to R29."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import tempfile
import weakref

import pytest

from tests.support.waiting import run_turns, run_until


def drain(sock, into):
    into.append(sock.recv(65536))


@pytest.mark.parametrize("form", ["int", "object"])
def test_descriptor_may_be_a_number_or_an_object(loop, pair, form):
    """R23: int or fileno() object."""
    left, right = pair
    watched = left.fileno() if form == "int" else left
    seen = []
    loop.add_reader(watched, drain, left, seen)
    right.send(b"x")
    run_until(loop, lambda: seen)
    loop.remove_reader(watched)
    assert seen == [b"x"]


@pytest.mark.parametrize("bad", [None, "1", 1.5, object(), -1], ids=lambda bad: type(bad).__name__)
def test_object_that_is_no_descriptor_is_refused(loop, bad):
    """R23: ValueError for an object without fileno(), and for negative numbers."""
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError):
            method(bad, print)
    for method in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(ValueError):
            method(bad)


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
def test_regular_file_is_refused(loop):
    """R23: PermissionError, as epoll says."""
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        with pytest.raises(PermissionError):
            loop.add_writer(file.fileno(), print)
        assert loop.remove_reader(file) is False
        assert loop.remove_writer(file) is False


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
def test_closed_descriptor_is_refused(loop):
    """R23: OSError(EBADF), and the loop works on."""
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(fd, print)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_writer(fd, print)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(1_000_000, print)
    run_turns(loop)


@pytest.mark.known_difference("uvloop", "remove_* give None")
def test_add_returns_none_and_remove_says_whether_there_was_one(loop, pair):
    """R24: None, True, False."""
    left, _ = pair
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        assert not remove(left)
        assert add(left, print) is None
        assert remove(left)
        assert not remove(left)


def test_second_add_replaces_the_first(loop, pair):
    """R24: the new callback is called, the old one no more."""
    left, right = pair
    first, second = [], []
    loop.add_reader(left, first.append, 1)
    loop.add_reader(left, drain, left, second)
    right.send(b"x")
    run_until(loop, lambda: second)
    loop.remove_reader(left)
    assert (first, second) == ([], [b"x"])


def test_replaced_by_another_ready_descriptor_does_not_fire(loop):
    """R24, R27: the replaced handle is cancelled even if its event was seen already."""
    left1, right1 = socket.socketpair()
    left2, right2 = socket.socketpair()
    order = []

    def replacement(sock):
        order.append("new")
        sock.recv(10)
        loop.remove_reader(sock)

    def old(sock, other):
        order.append("old")
        sock.recv(10)
        loop.remove_reader(sock)
        loop.add_reader(other, replacement, other)

    with left1, right1, left2, right2:
        for left in (left1, left2):
            left.setblocking(False)
        loop.add_reader(left1, old, left1, left2)
        loop.add_reader(left2, old, left2, left1)
        right1.send(b"x")
        right2.send(b"x")
        run_until(loop, lambda: "new" in order)
    assert order == ["old", "new"]


def test_reader_and_writer_of_one_descriptor(loop, pair):
    """R24: both are watched; each is removed alone."""
    left, right = pair
    readable, writable = [], []

    def on_writable():
        writable.append(True)
        loop.remove_writer(left)

    loop.add_reader(left, drain, left, readable)
    loop.add_writer(left, on_writable)
    right.send(b"x")
    run_until(loop, lambda: readable and writable)
    right.send(b"y")
    run_until(loop, lambda: len(readable) == 2)
    assert len(writable) == 1
    loop.add_writer(left, on_writable)
    loop.remove_reader(left)
    run_until(loop, lambda: len(writable) == 2)


def test_undrained_descriptor_fires_every_turn(loop, pair):
    """R25: level-triggered, with each trigger of the loop's own streams."""
    left, right = pair
    fired = []
    loop.add_reader(left, fired.append, True)
    right.send(b"x")
    run_until(loop, lambda: len(fired) >= 20)
    loop.remove_reader(left)
    count = len(fired)
    run_turns(loop)
    assert len(fired) == count


def test_writable_descriptor_fires_every_turn(loop, pair):
    """R25: writers too."""
    left, _ = pair
    fired = []
    loop.add_writer(left, fired.append, True)
    run_until(loop, lambda: len(fired) >= 20)
    loop.remove_writer(left)


def test_partly_drained_descriptor_fires_again(loop, pair):
    """R25: reading less than there is leaves it ready."""
    left, right = pair
    seen = []
    loop.add_reader(left, lambda: seen.append(left.recv(1)))
    right.send(b"abcdef")
    run_until(loop, lambda: len(seen) == 6)
    loop.remove_reader(left)
    assert b"".join(seen) == b"abcdef"


def test_hang_up_wakes_reader_and_writer(loop):
    """R26: HUP or ERR wakes both."""
    read_end, write_end = os.pipe()
    woken = []

    def wake(what, remove, fd):
        woken.append(what)
        remove(fd)

    try:
        while True:  # full: writable only when the reader has gone
            os.set_blocking(write_end, False)
            try:
                os.write(write_end, b"x" * 65536)
            except BlockingIOError:
                break
        loop.add_writer(write_end, wake, "writer", loop.remove_writer, write_end)
        run_turns(loop)
        assert woken == []
        os.close(read_end)
        run_until(loop, lambda: woken)
        assert woken == ["writer"]
    finally:
        os.close(write_end)


def test_peer_that_closed_wakes_the_reader(loop, pair):
    """R26: end of file is readable, until the watch is removed."""
    left, right = pair
    seen = []
    loop.add_reader(left, drain, left, seen)
    right.close()
    run_until(loop, lambda: len(seen) >= 3)
    loop.remove_reader(left)
    assert set(seen) == {b""}


def test_watch_removed_earlier_in_the_turn_does_not_fire(loop):
    """R27: of two ready descriptors, the first callback removes the other's watch."""
    left1, right1 = socket.socketpair()
    left2, right2 = socket.socketpair()
    fired = []

    def callback(own, other):
        fired.append(own)
        loop.remove_reader(own)
        loop.remove_reader(other)

    with left1, right1, left2, right2:
        loop.add_reader(left1, callback, left1, left2)
        loop.add_reader(left2, callback, left2, left1)
        right1.send(b"x")
        right2.send(b"x")
        run_until(loop, lambda: fired)
        run_turns(loop)
    assert len(fired) == 1


def test_writer_removed_by_the_reader_of_the_same_descriptor_does_not_fire(loop, pair):
    """R27: also between the two directions of one event."""
    left, right = pair
    fired = []

    def readable():
        fired.append("reader")
        loop.remove_reader(left)
        loop.remove_writer(left)

    def writable():
        fired.append("writer")

    right.send(b"x")
    loop.add_reader(left, readable)
    loop.add_writer(left, writable)
    run_until(loop, lambda: "reader" in fired)
    run_turns(loop)
    assert fired in (["reader"], ["writer", "reader"])


@pytest.mark.parametrize("form", ["int", "object"])
def test_descriptor_of_a_live_transport_is_refused(loop, pair, form):
    """R28: RuntimeError that names the descriptor and the transport."""
    left, _ = pair

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        watched = left.fileno() if form == "int" else left
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=f"{left.fileno()}.* is used by transport"):
                method(watched, print)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                method(watched)
        transport.abort()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


@pytest.mark.known_difference("asyncio", "a new watch on the number never fires", run=False)
@pytest.mark.known_difference("uvloop", "a new watch on the number never fires", run=False)
def test_number_used_again_after_a_close_without_removal_works(loop):
    """R29: a new add_reader on the same number fires."""
    seen = []
    for _ in range(3):
        left, right = socket.socketpair()
        with right:
            fd = left.fileno()
            loop.add_reader(fd, lambda left=left: seen.append(left.recv(10)))
            right.send(b"x")
            count = len(seen)
            run_until(loop, lambda count=count: len(seen) > count)
            left.close()  # and the watch is forgotten
    assert seen == [b"x"] * 3
    run_turns(loop)
    loop.remove_reader(fd)


def test_callback_of_a_watch_may_remove_and_add_itself(loop, pair):
    """R24: from inside its own call."""
    left, right = pair
    seen = []

    def readable():
        loop.remove_reader(left)
        drain(left, seen)
        if len(seen) < 3:
            loop.add_reader(left, readable)
            right.send(b"again")

    loop.add_reader(left, readable)
    right.send(b"first")
    run_until(loop, lambda: len(seen) == 3)
    assert seen == [b"first", b"again", b"again"]
    assert not loop.remove_reader(left)


def test_failing_watch_callback_is_reported_and_kept(loop, pair, reports):
    """R13: as for every callback; the watch stays."""
    left, right = pair

    def readable():
        left.recv(100)
        raise ValueError("the callback's own")

    loop.add_reader(left, readable)
    right.send(b"x")
    run_until(loop, lambda: len(reports) == 1)
    right.send(b"x")
    run_until(loop, lambda: len(reports) == 2)
    loop.remove_reader(left)
    assert all(isinstance(report["exception"], ValueError) for report in reports)


def test_many_descriptors_are_all_served(loop):
    """More descriptors than one poll can report."""
    pairs = [socket.socketpair() for _ in range(300)]
    seen = set()

    def readable(i, left):
        left.recv(10)
        seen.add(i)

    try:
        for i, (left, _) in enumerate(pairs):
            left.setblocking(False)
            loop.add_reader(left, readable, i, left)
        for _, right in pairs:
            right.send(b"x")
        run_until(loop, lambda: len(seen) == len(pairs))
        for left, _ in pairs:
            loop.remove_reader(left)
    finally:
        for left, right in pairs:
            left.close()
            right.close()


def test_close_of_the_loop_leaves_watched_descriptors_open(loop, pair):
    """R33: a watched descriptor belongs to the caller."""
    left, right = pair
    loop.add_reader(left, print)
    loop.add_writer(right, print)
    loop.close()
    right.send(b"x")
    assert left.recv(10) == b"x"


def test_watch_callback_sees_its_context(loop, pair):
    """R9: add_reader captures the context of its caller."""
    import contextvars

    left, right = pair
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def readable():
        left.recv(10)
        seen.append(variable.get())

    def add():
        variable.set("adding")
        loop.add_reader(left, readable)

    contextvars.copy_context().run(add)
    right.send(b"x")
    run_until(loop, lambda: seen)
    loop.remove_reader(left)
    assert seen == ["adding"]


@pytest.mark.known_difference("uvloop", "looks for the number only")
@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_closed_object_is_found_by_its_identity(loop, pair, direction):
    """R96: remove_*() after close() gives True, as it does before."""
    left, _ = pair
    getattr(loop, f"add_{direction}")(left, print)
    left.close()
    assert getattr(loop, f"remove_{direction}")(left) is True
    run_turns(loop)


def test_closed_object_that_was_never_watched_is_refused(loop, pair):
    """R96: ValueError, as for any object without a descriptor; also if its number was watched."""
    left, right = pair
    loop.add_reader(left.fileno(), print)
    left.close()
    right.close()
    for closed in pair:
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_reader(closed)


@pytest.mark.known_difference("asyncio", "OSError, or ValueError, from the second on")
@pytest.mark.known_difference("uvloop", "looks for the number only")
def test_closed_object_gives_true_once_for_each_direction(loop, pair):
    """R96: a reader and a writer are removed one by one; after that there is none."""
    left, _ = pair
    loop.add_reader(left, print)
    loop.add_writer(left, print)
    left.close()
    assert (loop.remove_reader(left), loop.remove_reader(left)) == (True, False)
    assert (loop.remove_writer(left), loop.remove_writer(left)) == (True, False)
    run_turns(loop)


@pytest.mark.known_difference("asyncio", "takes the watch of the new owner away")
@pytest.mark.known_difference("uvloop", "looks for the number only", run=False)
def test_closed_object_does_not_take_the_watch_of_its_numbers_next_owner(loop, pair):
    """R29, R96: the old object finds nothing any more, and the new one is still watched."""
    left, right = pair
    number = left.fileno()
    loop.add_reader(left, print)
    left.close()
    received = []
    other, peer = socket.socketpair()
    with other, peer:
        if other.fileno() != number:
            os.dup2(other.fileno(), number)
        with socket.socket(fileno=number) if other.fileno() != number else other as new:
            new.setblocking(False)
            loop.add_reader(new, drain, new, received)
            assert loop.remove_reader(left) is False
            peer.send(b"x")
            run_until(loop, lambda: received)
            assert loop.remove_reader(new) is True


@pytest.mark.known_difference("uvloop", "has no selector", run=False)
def test_selector_finds_a_closed_object_by_its_identity(loop, pair):
    """R96: get_key() and get_map(), and descriptors that they do not find."""
    left, right = pair
    loop.add_reader(left, print)
    keys = loop._selector.get_map()
    number = left.fileno()
    assert keys[left] == keys[number] == loop._selector.get_key(left)
    assert keys[left].fileobj is left and right not in keys
    with pytest.raises(KeyError):
        loop._selector.get_key(right)
    left.close()
    assert left in keys and keys[left].fd == number and loop._selector.get_key(left).fd == number
    loop.add_reader(left, id)               # only the callback is another one
    assert keys[left].data[0]._callback is id
    assert loop.remove_reader(left) is True
    with pytest.raises(ValueError):
        keys[left]
    with pytest.raises(ValueError):
        loop.add_reader(left, print)


def test_watched_object_is_let_go_with_its_watch(loop, pair):
    """R96: the loop keeps it only while it is watched."""
    left, _ = pair

    class Watched:
        def fileno(self):
            return left.fileno()

    watched = Watched()
    gone = weakref.ref(watched)
    loop.add_reader(watched, print)
    loop.add_writer(watched, print)
    loop.remove_reader(watched)
    loop.remove_writer(watched)
    del watched
    gc.collect()
    assert gone() is None
