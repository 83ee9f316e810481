"""Poll: registering, re-arming, waiting, and the lives of descriptors."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import threading

import pytest

from mioloop.mio import (
    Event,
    Evented,
    Events,
    Interest,
    InvalidTokenError,
    MioError,
    Poll,
    PollOpt,
    Ready,
    Registration,
    Token,
    selectors,
    unix,
)
from tests.support.modes import ALL_MODES

# -- making and closing ----------------------------------------------------------------------


def test_run_once_with_nothing(poll, events):
    assert poll.poll(events, 0.05) == 0
    assert events.is_empty()


def test_add_then_drop(poll, expect, listener):
    poll.register(listener, 1, Ready.READABLE | Ready.WRITABLE, PollOpt.EDGE)
    listener.close()
    expect.nothing()


def test_poll_closes_fd(selector):
    for _ in range(2000):
        poll = Poll(selector)
        registration, set_readiness = Registration.new2()
        poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
        del poll
        del set_readiness
        del registration


def test_default_selector_is_the_first_of_selectors():
    with Poll() as poll, Poll.new() as other:
        assert poll.selector == other.selector == selectors()[0]


def test_selector_is_the_one_asked_for(selector, poll):
    assert poll.selector == selector
    assert selector in repr(poll)


def test_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=f"{selectors()[0]!r}.*not 'select'"):
        Poll("select")


def test_poll_without_descriptors_left_is_an_os_error(selector):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with pytest.raises(OSError) as caught:
            while True:
                fillers.append(os.dup(0))
        assert caught.value.errno == errno.EMFILE
        with pytest.raises(OSError) as caught:
            Poll(selector)
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


def test_closed_poll_is_a_value_error_everywhere(poll, events, pair):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    poll.register(pair[0], 1, Ready.READABLE, PollOpt.EDGE)
    assert not poll.closed
    poll.close()
    poll.close()
    assert poll.closed
    for call in (
        lambda: poll.register(pair[1], 1, Ready.READABLE, PollOpt.EDGE),
        lambda: poll.reregister(pair[0], 1, Ready.READABLE, PollOpt.EDGE),
        lambda: poll.deregister(pair[0]),
        lambda: poll.register(registration, 1, Ready.READABLE, PollOpt.EDGE),
        lambda: poll.deregister(registration),
        lambda: poll.poll(events, 0),
        lambda: poll.poll_interruptible(events, 0),
        poll.fileno,
    ):
        with pytest.raises(ValueError, match="Poll is closed"):
            call()
    set_readiness.set_readiness(Ready.READABLE)
    poll.drained(pair[0], Ready.READABLE)


def test_poll_is_a_context_manager(selector):
    with Poll(selector) as poll:
        assert not poll.closed
    assert poll.closed


@pytest.mark.parametrize("timeout", [None, 10])
def test_closing_ends_a_poll_in_another_thread(poll, events, spawn, timeout):
    entered = threading.Event()
    ended = threading.Event()

    def wait() -> None:
        entered.set()
        with pytest.raises(ValueError, match="Poll is closed"):
            poll.poll(events, timeout)
        ended.set()

    spawn(wait)
    assert entered.wait(10)
    poll.close()
    assert ended.wait(10)


def test_fileno_is_a_descriptor_where_the_selector_has_one(poll, selector):
    if selector == "poll":
        with pytest.raises(OSError) as caught:
            poll.fileno()
        assert caught.value.errno == errno.ENOTSUP
    else:
        assert poll.fileno() > 0


def test_poll_and_handles_may_be_dropped_while_the_interpreter_ends():
    import subprocess

    program = """
import mioloop.mio as mio
poll, events = mio.Poll(), mio.Events()
registration, set_readiness = mio.Registration.new2()
poll.register(registration, 0, mio.Ready.READABLE, mio.PollOpt.LEVEL)
set_readiness.set_readiness(mio.Ready.READABLE)
left, right = mio.unix.UnixStream.pair()
sender, receiver = mio.unix.pipe()
waker = mio.Waker(poll, 3)
for token, handle in enumerate((left, right, sender, receiver), 10):
    poll.register(handle, token, mio.Ready.READABLE, mio.PollOpt.EDGE)
poll.poll(events, 0)
cycle = [poll, registration, left, sender]
cycle.append(cycle)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- sources that can be registered ----------------------------------------------------------


def test_double_register(poll, listener):
    poll.register(listener, 0, Ready.READABLE, PollOpt.EDGE)
    for token in (0, 1):
        with pytest.raises(FileExistsError):
            poll.register(listener, token, Ready.READABLE, PollOpt.EDGE)


def test_failed_register_leaves_the_first_one_as_it_was(poll, expect, pair):
    left, right = pair
    poll.register(left, 5, Ready.READABLE, PollOpt.EDGE)
    with pytest.raises(FileExistsError):
        poll.register(left, 6, Ready.WRITABLE, PollOpt.LEVEL)
    right.write(b"x")
    assert expect.now() == [Event(Ready.READABLE, 5)]


def test_unknown_descriptor_is_not_found(poll, pair):
    with pytest.raises(FileNotFoundError):
        poll.reregister(pair[0], 0, Ready.READABLE, PollOpt.EDGE)
    with pytest.raises(FileNotFoundError):
        poll.deregister(pair[0])


def test_no_descriptor_is_ebadf(poll, pair):
    fd = pair[0].fileno()
    pair[0].close()
    for bad in (-1, fd):
        for call in (
            lambda bad=bad: poll.register(bad, 0, Ready.READABLE, PollOpt.EDGE),
            lambda bad=bad: poll.reregister(bad, 0, Ready.READABLE, PollOpt.EDGE),
            lambda bad=bad: poll.deregister(bad),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("kind", ["file", "directory", "/dev/null"])
def test_file_that_is_always_ready_is_refused(poll, tmp_path, kind):
    (tmp_path / "file").touch()
    path = {"file": tmp_path / "file", "directory": tmp_path}.get(kind, kind)
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(PermissionError):
            poll.register(fd, 0, Ready.READABLE, PollOpt.LEVEL)
    finally:
        os.close(fd)


def test_poll_cannot_watch_itself(selector, poll):
    if selector == "poll":
        pytest.skip("poll(2) has no descriptor to nest")
    with pytest.raises(OSError) as caught:
        poll.register(poll, 0, Ready.READABLE, PollOpt.LEVEL)
    assert caught.value.errno == errno.EINVAL


def test_polls_cannot_watch_each_other_in_a_ring(selector, poll, other_poll):
    if selector == "poll":
        pytest.skip("poll(2) has no descriptor to nest")
    poll.register(other_poll, 0, Ready.READABLE, PollOpt.LEVEL)
    with pytest.raises(OSError) as caught:
        other_poll.register(poll, 0, Ready.READABLE, PollOpt.LEVEL)
    assert caught.value.errno == errno.ELOOP


def test_descriptors_and_stdlib_sockets_are_handles(poll, expect):
    left, right = socket.socketpair()
    with left, right:
        poll.register(left, 1, Ready.WRITABLE, PollOpt.EDGE)
        poll.register(right.fileno(), 2, Ready.WRITABLE, PollOpt.EDGE)
        expect((1, Ready.WRITABLE), (2, Ready.WRITABLE))
        poll.reregister(left, 3, Ready.WRITABLE, PollOpt.EDGE)
        expect((3, Ready.WRITABLE))
        poll.deregister(left)
        poll.deregister(right.fileno())
        with pytest.raises(FileNotFoundError):
            poll.deregister(left)


def test_a_handle_of_another_kind_is_a_type_error_that_shows_it(poll):
    for bad in ("x", None, 1.0):
        with pytest.raises(TypeError, match=repr(bad)):
            poll.register(bad, 0, Ready.READABLE, PollOpt.EDGE)


def test_arguments_of_another_kind_are_type_errors_that_show_them(poll, pair):
    left, _ = pair
    with pytest.raises(TypeError, match="interest must be a Ready or an Interest, not 1"):
        poll.register(left, 0, 1, PollOpt.EDGE)
    with pytest.raises(TypeError, match="opts must be a PollOpt, not Readable"):
        poll.register(left, 0, Ready.READABLE, Ready.READABLE)
    with pytest.raises(TypeError, match="a token is an int, not '0'"):
        poll.register(left, "0", Ready.READABLE, PollOpt.EDGE)
    with pytest.raises(OverflowError):
        poll.register(left, -1, Ready.READABLE, PollOpt.EDGE)
    with pytest.raises(OverflowError):
        poll.register(left, 2**64, Ready.READABLE, PollOpt.EDGE)
    with pytest.raises(TypeError, match="events must be an Events"):
        poll.poll([], 0)
    with pytest.raises(TypeError, match="must be a Ready"):
        poll.drained(left, 1)
    with pytest.raises(TypeError):
        poll.register(left, 0, Ready.READABLE)      # opts have no default, as in mio


def test_edge_and_level_together_are_refused(poll, pair):
    registration, _ = Registration.new2()
    for handle in (pair[0], registration, pair[1].fileno()):
        with pytest.raises(ValueError, match="edge or level, not both"):
            poll.register(handle, 0, Ready.READABLE, PollOpt.EDGE | PollOpt.LEVEL)


def test_token_max_is_refused_before_the_handle_is_touched(poll):
    class Untouched(Evented):
        def register(self, poll, token, interest, opts):
            raise AssertionError("touched")

        reregister = register

        def deregister(self, poll): ...

    for call in (poll.register, poll.reregister):
        with pytest.raises(InvalidTokenError) as caught:
            call(Untouched(), Token.MAX, Ready.READABLE, PollOpt.EDGE)
        assert isinstance(caught.value, MioError)
        assert isinstance(caught.value, ValueError)
        assert caught.value.kind == "Other"
        assert caught.value.errno is None


def test_largest_token_below_max_comes_back(poll, expect, pair):
    poll.register(pair[0], 2**64 - 2, Ready.WRITABLE, PollOpt.EDGE)
    assert expect.now() == [Event(Ready.WRITABLE, 2**64 - 2)]


def test_interest_of_mio_0_7_is_taken_as_well(poll, expect, pair):
    poll.register(pair[0], 0, Interest.READABLE | Interest.WRITABLE, PollOpt.EDGE)
    assert expect.now() == [Event(Ready.WRITABLE, 0)]


@pytest.mark.parametrize("delegate", ["poll", "handle"])
def test_own_evented_delegates_in_either_spelling(poll, expect, pair, delegate):
    class Own(Evented):
        def __init__(self):
            self.inner = pair[0]

        def register(self, poll, token, interest, opts):
            if delegate == "poll":
                poll.register(self.inner, token, interest, opts)
            else:
                self.inner.register(poll, token, interest, opts)

        def reregister(self, poll, token, interest, opts):
            if delegate == "poll":
                poll.reregister(self.inner, token, interest, opts)
            else:
                self.inner.reregister(poll, token, interest, opts)

        def deregister(self, poll):
            if delegate == "poll":
                poll.deregister(self.inner)
            else:
                self.inner.deregister(poll)

    own = Own()
    assert poll.register(own, 1, Ready.WRITABLE, PollOpt.EDGE) is None
    assert expect.now() == [Event(Ready.WRITABLE, 1)]
    assert poll.reregister(own, 2, Ready.WRITABLE, PollOpt.EDGE) is None
    assert expect.now() == [Event(Ready.WRITABLE, 2)]
    assert poll.deregister(own) is None
    assert expect.now() == []


# -- lives of descriptors --------------------------------------------------------------------


@pytest.mark.parametrize("opts", ALL_MODES, ids=str)
def test_a_closed_handle_is_silent(poll, expect, opts):
    left, right = unix.UnixStream.pair()
    poll.register(left, 0, Ready.READABLE | Ready.WRITABLE, opts)
    right.write(b"x")
    left.close()
    right.close()
    assert expect.now() == []


def test_a_dropped_handle_is_silent(poll, expect):
    left, right = unix.UnixStream.pair()
    poll.register(left, 0, Ready.WRITABLE, PollOpt.LEVEL)
    del left
    assert expect.now() == []
    assert right.read(1) == b""
    right.close()


def test_descriptor_number_used_again_is_new_to_the_poll(poll, expect):
    left, right = unix.UnixStream.pair()
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    number = left.fileno()
    left.close()
    right.close()
    left, right = unix.UnixStream.pair()
    with left, right:
        again = left if left.fileno() == number else right
        assert again.fileno() == number
        with pytest.raises(FileNotFoundError):
            poll.reregister(again, 1, Ready.WRITABLE, PollOpt.EDGE)
        poll.register(again, 1, Ready.WRITABLE, PollOpt.EDGE)
        assert expect.now() == [Event(Ready.WRITABLE, 1)]


def test_a_duplicate_keeps_a_closed_descriptor_alive_in_epoll_only(poll, selector, expect):
    """epoll watches the open file, the portable selector the number."""
    left, right = unix.UnixStream.pair()
    duplicate = os.dup(left.fileno())
    poll.register(left, 4, Ready.READABLE, PollOpt.LEVEL)
    number = left.fileno()
    left.close()
    try:
        right.write(b"x")
        if selector == "epoll":
            assert expect.now() == [Event(Ready.READABLE, 4)]
        else:
            assert expect.now() == []
        with pytest.raises(OSError) as caught:
            poll.deregister(number)
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(duplicate)
        right.close()
    assert expect.now() == []


def test_clone_is_registered_separately_and_both_fire(poll, expect, pair):
    left, right = pair
    with left.try_clone() as clone:
        poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
        poll.register(clone, 1, Ready.READABLE, PollOpt.EDGE)
        right.write(b"x")
        assert {event.token for event in expect.now()} == {0, 1}
        poll.deregister(left)
        poll.reregister(clone, 1, Ready.READABLE, PollOpt.EDGE)
        assert expect.now() == [Event(Ready.READABLE, 1)]


def test_event_of_a_handle_closed_meanwhile_is_still_in_the_batch(poll, events, pair):
    left, right = pair
    poll.register(left, 0, Ready.WRITABLE, PollOpt.EDGE)
    poll.register(right, 1, Ready.WRITABLE, PollOpt.EDGE)
    assert poll.poll(events, 0) == 2
    seen = set()
    for event in events:
        seen.add(event.token)
        left.close()
        right.close()
    assert seen == {0, 1}


def test_broken_pipe(poll, expect):
    sender, receiver = unix.pipe()
    with sender:
        poll.register(receiver, 1, Ready.READABLE, PollOpt.EDGE)
        receiver.close()
        expect.nothing()


def test_handle_stays_usable_when_its_poll_is_gone(selector, pair):
    poll = Poll(selector)
    poll.register(pair[0], 0, Ready.READABLE, PollOpt.EDGE)
    del poll
    pair[1].write(b"x")
    assert pair[0].read(5) == b"x"
    with pytest.raises(BlockingIOError):
        pair[0].read(5)


# -- bare descriptors ------------------------------------------------------------------------


def test_evented_fd_borrows_the_descriptor(poll, other_poll, expect):
    read_fd, write_fd = os.pipe()
    try:
        assert unix.EventedFd(read_fd).fileno() == read_fd
        assert repr(unix.EventedFd(3)) == "EventedFd(3)"
        poll.register(unix.EventedFd(read_fd), 0, Ready.READABLE, PollOpt.LEVEL)
        other_poll.register(unix.EventedFd(read_fd), 1, Ready.READABLE, PollOpt.LEVEL)
        os.write(write_fd, b"x")
        assert expect.now() == [Event(Ready.READABLE, 0)]
        events = Events(8)
        other_poll.poll(events, 0)
        assert list(events) == [Event(Ready.READABLE, 1)]
        poll.reregister(unix.EventedFd(read_fd), 2, Ready.READABLE, PollOpt.LEVEL)
        assert expect.now() == [Event(Ready.READABLE, 2)]
        poll.deregister(unix.EventedFd(read_fd))
        assert expect.now() == []
        assert os.get_blocking(read_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    with pytest.raises(TypeError, match="'x'"):
        unix.EventedFd("x")


def test_edge_on_a_bare_descriptor_works_when_the_program_says_drained(poll, expect):
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    try:
        poll.register(read_fd, 0, Ready.READABLE, PollOpt.EDGE)
        for _ in range(3):
            os.write(write_fd, b"x")
            assert expect.now() == [Event(Ready.READABLE, 0)]
            assert os.read(read_fd, 5) == b"x"
            with pytest.raises(BlockingIOError):
                os.read(read_fd, 5)
            poll.drained(read_fd, Ready.READABLE)
    finally:
        poll.deregister(read_fd)
        os.close(read_fd)
        os.close(write_fd)


def test_drained_on_an_unregistered_source_does_nothing(poll, pair):
    poll.drained(pair[0], Ready.READABLE)
    poll.drained(pair[0].fileno(), Ready.WRITABLE)


def test_nested_poll_is_readable_while_it_has_events(poll, selector, pair, expect):
    if selector == "poll":
        pytest.skip("poll(2) has no descriptor to nest")
    with Poll(selector) as inner:
        poll.register(inner, 0, Ready.READABLE, PollOpt.LEVEL)
        assert expect.now() == []
        inner.register(pair[0], 1, Ready.WRITABLE, PollOpt.EDGE)
        assert expect.now() == [Event(Ready.READABLE, 0)]
        assert select.select([inner], [], [], 0)[0] == [inner]
        inner_events = Events(8)
        assert inner.poll(inner_events, 0) == 1
        assert expect.now() == []
