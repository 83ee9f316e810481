"""A callback may do anything to the loop, and the loop works afterwards: R13, R19, R20, R21, R88.

The tests combine each place where the loop calls user code with each action on the loop. Actions on
the transport are in tests/transports/test_reentrancy.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import threading

import pytest

from tests.support.connections import receive_all, send, small_buffers, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

MIB = 1 << 20

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Oops(Exception):
    """Raised by a callback."""


# -- where ---------------------------------------------------------------------------------------

PROTOCOL_CALLBACKS = [
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


async def in_protocol(loop, name, act, tls):
    """A connection of which every callback happens; the one of that name acts, once."""
    acted = []

    def hook(protocol, *args):
        if not acted:
            acted.append(name)
            act()
        return protocol.buffer if name == "get_buffer" else None

    buffered = name in ("get_buffer", "buffer_updated")
    protocol = (BufferedRecorder if buffered else Recorder)(loop, **{name: hook})
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"x")
        await protocol.until(lambda: protocol.data or protocol.lost.done())
        loop.call_soon(protocol.transport.write, b"y" * 4 * MIB)  # pauses
        await turns()
        reading = asyncio.ensure_future(receive_all(far))  # resumes
        await protocol.until(
            lambda: "resume_writing" in protocol.calls or protocol.transport.is_closing()
        )
        with contextlib.suppress(OSError):  # it may be reset
            far.shutdown(socket.SHUT_WR)
        await protocol.closed()
        await asyncio.wait([reading])
        reading.exception()
    await turns()
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1
    assert acted


def tls_peer(far, context, may_read):
    """The far end of in_tls(), in a thread."""
    with contextlib.suppress(OSError):      # ssl.SSLError is one
        with context.wrap_socket(far, server_side=True) as sock:
            sock.sendall(b"x")
            may_read.wait(10)
            left = 4 * MIB
            while left and (chunk := sock.recv(65536)):
                left -= len(chunk)
            sock.unwrap()


async def in_tls(loop, name, act, tls):
    """As in_protocol(), over TLS; the peer sends a close_notify and waits for the answer."""
    acted = []

    def hook(protocol, *args):
        if not acted:
            acted.append(name)
            act()
        return memoryview(protocol.buffer) if name == "get_buffer" else None

    buffered = name in ("get_buffer", "buffer_updated")
    protocol = (BufferedRecorder if buffered else Recorder)(loop, **{name: hook})
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    may_read = threading.Event()
    with far:
        talking = loop.run_in_executor(None, tls_peer, far, tls.server, may_read)
        opening = loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
        with contextlib.suppress(Oops):
            await asyncio.wait_for(opening, 5)
        await protocol.until(lambda: protocol.data or protocol.lost.done())
        for _ in range(0 if protocol.lost.done() else 64):
            loop.call_soon(protocol.transport.write, b"y" * (MIB // 16))  # pauses
        await turns()
        may_read.set()  # resumes
        await protocol.closed()
        await talking
    await turns()
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1
    assert acted


async def in_datagrams(loop, name, act, tls):
    """An endpoint that sends to itself, or to a port without a receiver."""
    acted, lost = [], loop.create_future()

    def callback(called):
        def call(self, *args):
            if called == "connection_lost":
                lost.set_result(None)
            if called == name and not acted:
                acted.append(name)
                act()

        return call

    names = ("connection_made", "datagram_received", "error_received", "connection_lost")
    protocol_class = type("P", (asyncio.DatagramProtocol,), {n: callback(n) for n in names})
    with socket.socket(type=socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = unused.getsockname()
    where = {"remote_addr": nobody} if name == "error_received" else {
        "local_addr": ("127.0.0.1", 0)}
    transport, _ = await loop.create_datagram_endpoint(protocol_class, **where)
    to = None if name == "error_received" else transport.get_extra_info("sockname")
    while not acted and name != "connection_lost":
        transport.sendto(b"x", to)
        await turns(1)
    transport.close()
    await lost
    assert acted


async def in_pipes(loop, name, act, tls):
    """A pipe from the loop to itself; the end that has that callback acts."""
    acted = []

    def hook(protocol, *args):
        if not acted:
            acted.append(name)
            act()

    of_reader = name in ("data_received", "eof_received")
    reader = Recorder(loop, **({name: hook} if of_reader else {}))
    writer = Recorder(loop, **({} if of_reader else {name: hook}))
    read_end, write_end = os.pipe()
    await loop.connect_read_pipe(lambda: reader, open(read_end, "rb", 0))
    await loop.connect_write_pipe(lambda: writer, open(write_end, "wb", 0))
    reader.transport.pause_reading()
    loop.call_soon(writer.transport.write, b"x" * MIB)  # pauses
    await turns()
    reader.transport.resume_reading()  # resumes
    await reader.received(MIB)
    writer.transport.close()
    for protocol in (reader, writer):
        await protocol.closed()
        assert protocol.calls[-1] == "connection_lost"
        assert protocol.calls.count("connection_lost") == 1
    assert acted


async def in_subprocess(loop, name, act, tls):
    """A child that copies its input."""
    acted, lost = [], loop.create_future()

    def callback(called):
        def call(self, *args):
            if called == "connection_lost":
                lost.set_result(None)
            if called == name and not acted:
                acted.append(name)
                act()

        return call

    names = ("connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited",
             "connection_lost")
    protocol_class = type("P", (asyncio.SubprocessProtocol,), {n: callback(n) for n in names})
    transport, _ = await loop.subprocess_exec(
        protocol_class, "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
    )
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x")
    stdin.close()
    await lost
    assert transport.get_returncode() == 0
    assert acted


async def in_signal_handler(loop, act, tls):
    handled = loop.create_future()

    def handler():
        handled.set_result(None)
        act()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    await handled
    loop.remove_signal_handler(signal.SIGUSR1)


async def in_handle(loop, act, tls):
    done = loop.create_future()
    loop.call_soon(act)
    loop.call_soon(done.set_result, None)
    await done


async def in_threadsafe_handle(loop, act, tls):
    loop.run_in_executor(None, loop.call_soon_threadsafe, act)
    await turns()


async def in_timer(loop, act, tls):
    done = loop.create_future()
    loop.call_later(0.001, act)
    loop.call_later(0.002, done.set_result, None)
    await done


async def in_watcher(loop, act, add, remove):
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        calls = []

        def ready():
            calls.append(None)
            remove(left)
            act()

        add(left, ready)
        await turns()
        assert len(calls) == 1


async def in_reader(loop, act, tls):
    await in_watcher(loop, act, loop.add_reader, loop.remove_reader)


async def in_writer(loop, act, tls):
    await in_watcher(loop, act, loop.add_writer, loop.remove_writer)


async def in_done_callback(loop, act, tls):
    future = loop.create_future()
    future.add_done_callback(lambda _: act())
    future.set_result(None)
    await turns()


async def in_factory(loop, act, tls):
    """Of a server; the connection it was for is closed if it raises."""
    protocols = []

    def factory():
        if not protocols:
            protocols.append(None)
            act()
        protocol = Recorder(loop)
        protocols.append(protocol)
        return protocol

    server = await loop.create_server(factory, "127.0.0.1", 0)
    for _ in range(2):
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(5)
            client.shutdown(socket.SHUT_WR)
            try:
                assert await loop.run_in_executor(None, client.recv, 1) == b""
            except ConnectionResetError:
                pass
    server.close()
    await protocols[-1].closed()
    await server.wait_closed()


PLACES = {
    "handle": in_handle,
    "threadsafe handle": in_threadsafe_handle,
    "timer": in_timer,
    "reader": in_reader,
    "writer": in_writer,
    "done callback": in_done_callback,
    "factory": in_factory,
    "signal handler": in_signal_handler,
}
OF_TRANSPORTS = {
    "": (in_protocol, PROTOCOL_CALLBACKS),
    "TLS ": (in_tls, PROTOCOL_CALLBACKS),
    "UDP ": (
        in_datagrams,
        ["connection_made", "datagram_received", "error_received", "connection_lost"],
    ),
    "pipe ": (
        in_pipes,
        ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing",
         "connection_lost"],
    ),
    "child ": (
        in_subprocess,
        ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited",
         "connection_lost"],
    ),
}
for kind, (make, names) in OF_TRANSPORTS.items():
    for name in names:
        PLACES[kind + name] = functools.partial(make, name=name)


OF_ASYNCIO_TO_3_10 = {
    "TLS connection_made": "the connecting task waits on if it raises",
    "TLS eof_received": "does not call it for a close_notify",
}


def marked(reasons, **keywords):
    """The places, marked where asyncio differs."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.known_difference("asyncio", reasons[name], run=False, **keywords)
            if name in reasons
            else [],
        )
        for name in PLACES
    ]


@pytest.fixture(params=marked(OF_ASYNCIO_TO_3_10, until=(3, 10)))
def place(request):
    return request.param


def check_loop_works(loop):
    """Callbacks, timers, threads and sockets."""

    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
            await asyncio.sleep(0.001)
            await loop.sock_sendall(right, b"x")
            assert await receiving == b"x"
        assert await loop.run_in_executor(None, int, "7") == 7

    assert not loop.is_running()
    loop.run_until_complete(asyncio.wait_for(main(), 5))


# -- actions -------------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "differs in which ends the connection", run=False)
def test_callback_that_raises_is_reported_once(loop, run, place, reports, tls):
    """R13, R37, R55: an exception is raised; all other activity of the loop continues."""

    def act():
        raise Oops

    run(loop, PLACES[place](loop, act=act, tls=tls), 20)
    raised = [report for report in reports if isinstance(report.get("exception"), Oops)]
    assert len(raised) == (place != "factory")
    assert len(reports) == len(raised)
    check_loop_works(loop)


FORGOTTEN_BY_ASYNCIO = {
    "factory": "leaves the connection to the collector",
    "TLS connection_made": "never wakes the connecting task",
    "TLS get_buffer": "does not ask for what it holds already",
    "TLS eof_received": "does not go on to the end",
}


@pytest.mark.known_difference("uvloop", "some are swallowed, some end the process", run=False)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", marked(FORGOTTEN_BY_ASYNCIO))
def test_callback_that_ends_the_program(loop, place, error, tls):
    """R13, R21: it leaves run_*; the next run goes on where this one was."""
    def act():
        raise error

    task = loop.create_task(PLACES[place](loop, act=act, tls=tls))
    with pytest.raises(error):
        loop.run_until_complete(task)
    assert asyncio._get_running_loop() is None
    assert not task.done()
    loop.run_until_complete(asyncio.wait([task], timeout=20))
    task.result()
    check_loop_works(loop)


def test_callback_that_stops_the_loop(loop, place, tls):
    """R18: the turn is ended, and the next run finds everything as it was."""
    stops = []

    def act():
        stops.append(None)
        loop.stop()

    task = loop.create_task(PLACES[place](loop, act=act, tls=tls))
    loop.run_forever()
    assert stops
    loop.run_until_complete(asyncio.wait_for(task, 20))
    check_loop_works(loop)


async def never():
    raise AssertionError("it was run")


def run_another(loop):
    other = type(loop)()
    try:
        other.run_forever()
    finally:
        other.close()


RE_ENTRIES = [
    lambda loop: loop.close(),
    lambda loop: loop.run_forever(),
    lambda loop: loop.run_until_complete(loop.create_future()),
    run_another,
    lambda loop: asyncio.run(never()),
]


@pytest.mark.filterwarnings("ignore:coroutine 'never' was never awaited:RuntimeWarning")
@pytest.mark.known_difference(
    "asyncio", "forgets that it runs", since=(3, 13, 0), until=(3, 13, 0), run=False
)
def test_callback_that_re_enters_the_loop_gets_an_error(loop, run, place, tls):
    """R19, R20: RuntimeError, and nothing else happens: the loop goes on."""
    errors = []

    def act():
        for re_enter in RE_ENTRIES:
            try:
                re_enter(loop)
            except RuntimeError as error:
                errors.append(str(error))

    run(loop, PLACES[place](loop, act=act, tls=tls), 20)
    assert len(errors) == len(RE_ENTRIES), errors
    check_loop_works(loop)


@pytest.mark.known_difference("uvloop", "its child takes the parent's part", run=False)
def test_callback_that_forks(loop, loop_kind, run, place, tls):
    """R88, R89: the child may run a new loop and clear the parent's; the parent is not affected."""
    statuses = []

    def child():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)  # ends it if it hangs
        assert asyncio._get_running_loop() is None
        new = loop_kind.new()
        assert new.run_until_complete(asyncio.sleep(0.001, "done")) == "done"
        new.close()
        for fd in getattr(loop, "_watched_fds", dict)():
            loop.remove_reader(fd)

    def act():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    run(loop, PLACES[place](loop, act=act, tls=tls), 20)
    assert statuses == [0]
    check_loop_works(loop)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.known_difference("asyncio", "tells the new one"),
                pytest.mark.known_difference("uvloop", "tells the new one"),
            ]
            if name == "get_buffer"
            else [],
        )
        for name in PROTOCOL_CALLBACKS[:-1]
    ],
)
async def test_callback_that_replaces_its_protocol(loop, name):
    """R56: by one of the other kind; from the next call on, all are the new one's."""
    replacements = []

    def hook(protocol, *args):
        if not replacements:
            other = Recorder if isinstance(protocol, BufferedRecorder) else BufferedRecorder
            replacements.append(other(loop))
            replacements[0].transport = protocol.transport
            protocol.transport.set_protocol(replacements[0])
        return protocol.buffer if name == "get_buffer" else None

    buffered = name in ("get_buffer", "buffer_updated")
    protocol = (BufferedRecorder if buffered else Recorder)(loop, **{name: hook})
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"abc")
        await turns()
        transport.write(b"y" * 4 * MIB)
        await turns()
        reading = asyncio.ensure_future(receive_all(far))
        await turns()
        await send(far, b"def")
        await turns()
        far.shutdown(socket.SHUT_WR)
        while not replacements:
            await turns(1)
        (new,) = replacements
        await new.closed()
        await asyncio.wait([reading])
    assert bytes(protocol.data) + bytes(new.data) == b"abcdef"
    assert "connection_lost" not in protocol.calls
    calls = protocol.calls + new.calls
    assert calls[0] == "connection_made" and calls[-1] == "connection_lost"
    assert calls.index("pause_writing") < calls.index("resume_writing")
    assert calls.count("eof_received") == 1
    if name == "get_buffer":  # the protocol that gave the buffer is told how much was read
        assert protocol.data == b"abc"
