"""create_connection() to a numeric address takes a shorter way that a program cannot notice.

Every case runs on asyncio first, and then on the loop under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
import struct
import sys
import types
import weakref

import pytest

import mioloop
from tests.support.protocols import Recorder
from tests.support.waiting import Turns, turns

HOST = "127.0.0.1"


@pytest.fixture
def port():
    """The port of a listener with a backlog for all connections of a test."""
    with socket.create_server((HOST, 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def refused_port():
    """A port without a listener, which no other process gets."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        yield sock.getsockname()[1]


def on_asyncio(case, *args):
    """The result of the coroutine function *case* on a loop of asyncio."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(asyncio.wait_for(case(loop, *args), 10))
    finally:
        loop.close()


def told(exc):
    """The visible parts of an exception: its type, its text, and the exceptions in it."""
    inner = [told(each) for each in getattr(exc, "exceptions", ())]
    return type(exc).__name__, str(exc), type(exc.__context__), type(exc.__cause__), inner


# -- turns and callbacks -----------------------------------------------------------------------


class Tells(asyncio.Protocol):
    def __init__(self, turns, log):
        self.turns, self.log = turns, log
        log.append(("made", turns.count))

    def connection_made(self, transport):
        self.log.append(("connected", self.turns.count))

    def connection_lost(self, exc):
        self.log.append(("lost", self.turns.count, exc))


async def steps_of_a_connection(loop, port, cancel_after=None):
    """The callbacks and results, with the turn of each, up to the end of the connection."""
    log = []
    turns = Turns(loop)
    task = loop.create_task(loop.create_connection(lambda: Tells(turns, log), HOST, port))
    began = turns.count
    while not task.done():
        if turns.count - began == cancel_after:
            task.cancel()
        await asyncio.sleep(0)
    log.append(("done", turns.count))
    if task.cancelled():
        log.append(("cancelled",))
    elif task.exception() is not None:
        log.append(told(task.exception()))
    else:
        task.result()[0].close()
    for _ in range(5):
        await asyncio.sleep(0)
    turns.chain.cancel()
    return log


async def test_takes_as_many_turns_as_asyncio(mioloop_loop, port):
    """R45, R92: also each callback of the protocol runs in the same turn."""
    expected = await asyncio.to_thread(on_asyncio, steps_of_a_connection, port)
    assert [step[0] for step in expected] == ["made", "connected", "done", "lost"]
    assert await steps_of_a_connection(mioloop_loop, port) == expected


async def test_refusal_takes_as_many_turns_as_asyncio(mioloop_loop, refused_port):
    """R31, R32: no protocol is made, and the exception is asyncio's."""
    expected = await asyncio.to_thread(on_asyncio, steps_of_a_connection, refused_port)
    assert [step[0] for step in expected] == ["done", "ConnectionRefusedError"]
    assert await steps_of_a_connection(mioloop_loop, refused_port) == expected


@pytest.mark.parametrize("cancel_after", range(5))
async def test_cancellation_in_any_turn_does_as_on_asyncio(mioloop_loop, port, cancel_after):
    """R45: before the connect, during it, and while connection_made() waits."""
    expected = await asyncio.to_thread(on_asyncio, steps_of_a_connection, port, cancel_after)
    assert await steps_of_a_connection(mioloop_loop, port, cancel_after) == expected


# -- results ---------------------------------------------------------------------------------------


async def outcome(loop, host, port, options, factory=asyncio.Protocol):
    try:
        transport, protocol = await loop.create_connection(factory, host, port, **options)
    except Exception as exc:
        return told(exc)
    sock = transport.get_extra_info("socket")
    found = (
        repr(sock.family), repr(sock.type), sock.proto, sock.gettimeout(), sock.get_inheritable(),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        transport.get_extra_info("peername"), transport.get_extra_info("sockname")[0],
        transport.get_protocol() is protocol, type(protocol).__name__,
    )
    transport.abort()
    await turns(2)
    return found


OPTIONS = [
    {},
    {"ssl": None, "family": 0, "proto": 0, "flags": 0, "sock": None, "local_addr": None},
    {"ssl": False},
    {"family": socket.AF_INET},
    {"family": socket.AF_INET6},
    {"proto": socket.IPPROTO_TCP},
    {"proto": socket.IPPROTO_SCTP if hasattr(socket, "IPPROTO_SCTP") else 132},
    {"local_addr": (HOST, 0)},
    {"local_addr": ("::1", 0)},
    {"local_addr": ()},
    {"server_hostname": "example"},
    {"server_hostname": ""},
    {"ssl_handshake_timeout": 1},
    {"ssl_handshake_timeout": 0},
    {"happy_eyeballs_delay": 0},
    {"happy_eyeballs_delay": 0.25, "interleave": 1},
    {"interleave": 2},
    {"unknown": None},
]
if sys.version_info >= (3, 12):
    OPTIONS += [{"all_errors": True}, {"all_errors": False}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("refused", [False, True])
async def test_options_do_as_on_asyncio(mioloop_loop, port, refused_port, options, refused):
    """R32: results, and the exceptions with their texts."""
    case = (HOST, refused_port if refused else port, options)
    expected = await asyncio.to_thread(on_asyncio, outcome, *case)
    assert await outcome(mioloop_loop, *case) == expected


@pytest.mark.parametrize(
    "address",
    [
        (HOST, None), (HOST, "0"), (HOST, -1), (HOST, 65536), (HOST, 1 << 70), (HOST, "none"),
        (HOST, 1.5), (HOST, True), ("0.0.0.0", 0), ("127.1", 1), ("127.0.0.1\0", 1),
        (HOST.encode(), 1), ("127.0.0.1%lo", 1), ("::1", 1), ("255.255.255.255", 1), (None, None),
    ],
    ids=repr,
)
async def test_odd_addresses_do_as_on_asyncio(mioloop_loop, address):
    """R32, R83: only a numeric host in a str, with a port in an int, takes the short way."""
    expected = await asyncio.to_thread(on_asyncio, outcome, *address, {})
    assert await outcome(mioloop_loop, *address, {}) == expected


async def variable_of_the_factory(loop, port):
    """The value that connection_made() sees of a variable that the factory has set."""
    variable = contextvars.ContextVar("variable", default="the task's")

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.seen = variable.get()

    def factory():
        variable.set("the factory's")
        return Protocol()

    transport, protocol = await loop.create_connection(factory, HOST, port)
    transport.close()
    await turns(2)
    return protocol.seen


async def test_context_is_copied_when_asyncio_copies_it(mioloop_loop, port):
    """R58: from 3.15 on it is copied before the factory is called."""
    expected = await asyncio.to_thread(on_asyncio, variable_of_the_factory, port)
    assert await variable_of_the_factory(mioloop_loop, port) == expected


async def test_factory_that_raises_leaves_no_socket(mioloop_loop, port):
    """R33: the socket is closed, and the exception is the factory's."""
    def fails():
        raise LookupError("no protocol")

    expected = await asyncio.to_thread(on_asyncio, outcome, HOST, port, {}, fails)
    assert await outcome(mioloop_loop, HOST, port, {}, fails) == expected


@pytest.mark.parametrize("ended", [False, True])
async def test_addresses_are_those_of_the_connection(mioloop_loop, port, ended):
    """R57: also if they are first asked for after the end."""
    transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, HOST, port)
    sock = transport.get_extra_info("socket")
    own = sock.getsockname()
    transport.get_extra_info("nothing")
    if ended:
        transport.abort()
        await turns(2)
    assert transport.get_extra_info("peername") == (HOST, port)
    assert transport.get_extra_info("sockname") == own
    transport.abort()


async def test_addresses_of_a_peer_that_has_reset_are_known(mioloop_loop):
    """R57: they are read when the transport is made."""
    with socket.create_server((HOST, 0)) as listener:
        address = listener.getsockname()
        transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, *address)
        far, own = listener.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await turns(3)
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("sockname") == own


async def test_debug_mode_logs_the_connection(mioloop_loop, port, caplog):
    """R85: debug mode takes asyncio's way."""
    mioloop_loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, HOST, port)
    transport.close()
    assert any("connected to" in record.message for record in caplog.records)


async def test_short_way_is_taken(mioloop_loop):
    """The tests above would also pass without it."""
    assert mioloop_loop._resolves_to_itself(HOST, 80)
    assert not mioloop_loop._resolves_to_itself("localhost", 80)
    mioloop_loop.set_debug(True)
    assert not mioloop_loop._resolves_to_itself(HOST, 80)


async def test_short_connections_leave_nothing_behind(mioloop_loop):
    """R33, R39: the server counts each connection out, and the clients are freed."""
    server = await mioloop_loop.create_server(lambda: Recorder(mioloop_loop), HOST, 0)
    clients = []
    for _ in range(5):
        transport, _ = await mioloop_loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        clients.append(weakref.ref(transport))
        transport.close()
        del transport
        await turns(5)
    assert [client() for client in clients] == [None] * 5
    server.close()
    await asyncio.wait_for(server.wait_closed(), 5)


# -- replaced functions and methods ---------------------------------------------------------------

STEPS = (
    "_ensure_resolved", "_connect_sock", "sock_connect", "_create_connection_transport",
    "_make_socket_transport", "_ensure_fd_no_transport", "create_future",
)


def counted(calls, name, function):
    """*function*, which also notes its calls."""
    def replaced(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    return replaced


async def calls_of_a_connection(loop, port, calls):
    calls.clear()
    transport, _ = await loop.create_connection(asyncio.Protocol, HOST, port)
    seen = set(calls)
    transport.close()
    await turns(2)
    return seen


async def with_a_step_of_the_instance(loop, port, name):
    calls = []
    setattr(loop, name, counted(calls, name, getattr(loop, name)))
    return await calls_of_a_connection(loop, port, calls)


async def with_a_step_of_the_class(loop, port, name):
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loop), name, counted(calls, name, getattr(type(loop), name)))
        found = await calls_of_a_connection(loop, port, calls)
    return found, await calls_of_a_connection(loop, port, calls)


async def with_a_step_of_asyncio(loop, port, name):
    calls = []
    base = asyncio.base_events.BaseEventLoop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, name, counted(calls, name, getattr(base, name)))
        found = await calls_of_a_connection(loop, port, calls)
    return found, await calls_of_a_connection(loop, port, calls)


@pytest.mark.parametrize("name", STEPS)
async def test_step_that_is_replaced_on_the_loop_is_called(mioloop_loop, port, name):
    """R100: then asyncio's own way is taken."""
    expected = await asyncio.to_thread(on_asyncio, with_a_step_of_the_instance, port, name)
    assert expected == {name}
    assert await with_a_step_of_the_instance(mioloop_loop, port, name) == expected


@pytest.mark.parametrize("name", STEPS)
async def test_step_that_is_replaced_on_the_class_is_called_while_it_is(mioloop_loop, port, name):
    """R100: at any time, and no longer than it is there."""
    expected = await asyncio.to_thread(on_asyncio, with_a_step_of_the_class, port, name)
    assert expected == ({name}, set())
    assert await with_a_step_of_the_class(mioloop_loop, port, name) == expected


@pytest.mark.parametrize(
    "name", ["_ensure_resolved", "_connect_sock", "_create_connection_transport",
             "create_connection"]
)
async def test_step_that_is_replaced_on_asyncio_is_called_while_it_is(mioloop_loop, port, name):
    """R100: tools trace asyncio's own methods."""
    expected = await asyncio.to_thread(on_asyncio, with_a_step_of_asyncio, port, name)
    assert expected == ({name}, set())
    assert await with_a_step_of_asyncio(mioloop_loop, port, name) == expected


@pytest.mark.parametrize("name", STEPS)
def test_step_of_a_subclass_is_called(port, name):
    """R100: a subclass may override each."""
    calls = []
    made = type("Made", (mioloop.EventLoop,), {
        name: counted(calls, name, getattr(mioloop.EventLoop, name))
    })
    loop = made()
    try:
        assert loop.run_until_complete(calls_of_a_connection(loop, port, calls)) == {name}
    finally:
        loop.close()


def test_create_connection_of_a_class_between_mioloop_and_asyncio_is_called(port):
    """R100: super() finds it."""
    calls = []

    class Between(asyncio.SelectorEventLoop):
        async def create_connection(self, *args, **kwargs):
            calls.append("create_connection")
            return await super().create_connection(*args, **kwargs)

    class Made(mioloop.EventLoop, Between):
        pass

    loop = Made()
    try:
        found = loop.run_until_complete(calls_of_a_connection(loop, port, calls))
    finally:
        loop.close()
    assert found == {"create_connection"}


async def with_a_function_of_the_module(loop, port, replace):
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        replace(patch, calls)
        return await calls_of_a_connection(loop, port, calls)


def replace_ipaddr_info(patch, calls):
    module = asyncio.base_events
    patch.setattr(module, "_ipaddr_info", counted(calls, "x", module._ipaddr_info))


def replace_the_socket_module(patch, calls):
    replaced = types.ModuleType("socket")
    vars(replaced).update(vars(socket))
    replaced.inet_pton = counted(calls, "x", socket.inet_pton)
    patch.setattr(asyncio.base_events, "socket", replaced)


def replace_the_socket_class(patch, calls):
    class Socket(socket.socket):
        def __init__(self, *args, **kwargs):
            calls.append("x")
            super().__init__(*args, **kwargs)

    patch.setattr(socket, "socket", Socket)


def replace_inet_pton(patch, calls):
    patch.setattr(socket, "inet_pton", counted(calls, "x", socket.inet_pton))


@pytest.mark.parametrize(
    "replace",
    [replace_ipaddr_info, replace_the_socket_module, replace_the_socket_class, replace_inet_pton],
)
async def test_function_that_is_replaced_in_a_module_is_called(mioloop_loop, port, replace):
    """R100: CPython's own tests and pytest-socket do so."""
    expected = await asyncio.to_thread(on_asyncio, with_a_function_of_the_module, port, replace)
    assert expected == {"x"}
    assert await with_a_function_of_the_module(mioloop_loop, port, replace) == expected


async def test_descriptor_of_a_live_transport_of_asyncio_is_refused(mioloop_loop, port):
    """R28: also if the descriptor was closed behind the back of that transport."""
    class Transport:
        def is_closing(self):
            return False

    sock = socket.socket()
    fd = sock.fileno()
    stale = Transport()
    mioloop_loop._transports[fd] = stale
    sock.close()
    with pytest.raises(RuntimeError, match="is used by transport"):
        await mioloop_loop.create_connection(asyncio.Protocol, HOST, port)
    del mioloop_loop._transports[fd]
    with contextlib.suppress(OSError):
        transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, HOST, port)
        transport.close()
