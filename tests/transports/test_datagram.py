"""Datagram transports: R62 to R65; test_datagram_flow.py has datagrams that wait to be sent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys

import pytest

from tests.support.datagrams import (
    DatagramRecorder,
    close,
    endpoint,
    far_socket,
    opened,
    recvfrom,
)
from tests.support.waiting import turns

PEER_TIMEOUT_S = 10.0
SINCE_3_13 = sys.version_info >= (3, 13)
LOCAL = {"local_addr": ("127.0.0.1", 0)}


async def test_datagrams_go_both_ways(loop):
    """R62: unconnected and connected, with addresses."""
    server = await endpoint(
        loop, datagram_received=lambda p, data, a: p.transport.sendto(data.upper(), a)
    )
    client = await endpoint(loop, remote=server.address)
    assert client.transport.get_extra_info("peername") == server.address
    client.transport.sendto(b"one")
    client.transport.sendto(b"two", server.address)
    await client.until(lambda: len(client.received) == 2)
    assert client.received == [(b"ONE", server.address), (b"TWO", server.address)]
    assert [a for _, a in server.received] == [client.address] * 2
    await close(client, server)
    assert client.calls[0] == "connection_made" and client.calls[-1] == "connection_lost"


async def test_boundaries_are_kept(loop):
    """R62: many datagrams of many sizes, each as it was sent."""
    sizes = [1, 100, 1400, 9000, 60_000, 2]
    server = await endpoint(loop)
    client = await endpoint(loop, remote=server.address)
    for i in range(30):
        count = len(server.received)
        client.transport.sendto(bytes([i]) * sizes[i % len(sizes)])
        await server.until(lambda count=count: len(server.received) > count)
    assert [len(data) for data, _ in server.received] == [
        sizes[i % len(sizes)] for i in range(30)
    ]
    await close(client, server)


async def test_empty_datagram_is_received(loop):
    """R62: from a peer that can send it."""
    server = await endpoint(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.sendto(b"", server.address)
        far.sendto(b"next", server.address)
        await server.until(lambda: len(server.received) == 2)
        assert server.received == [
            (b"", far.getsockname()),
            (b"next", far.getsockname()),
        ]
    await close(server)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="dropped before 3.13")
@pytest.mark.known_difference("uvloop", "drops it")
async def test_empty_datagram_is_sent(loop):
    """R62: from 3.13 on."""
    server = await endpoint(loop)
    client = await endpoint(loop, remote=server.address)
    client.transport.sendto(b"")
    await server.until(lambda: server.received)
    assert server.received[0][0] == b""
    await close(client, server)


async def test_refused_datagram_is_an_error_received(loop):
    """R63: ECONNREFUSED goes to error_received; the transport stays open."""
    server = await endpoint(loop)
    address = server.address
    client = await endpoint(loop, remote=address)
    await close(server)
    client.transport.sendto(b"nobody listens")
    await client.until(lambda: client.errors)
    assert isinstance(client.errors[0], ConnectionRefusedError)
    assert not client.transport.is_closing()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(address)
        far.sendto(b"back", client.address)
        await client.until(lambda: client.received)
    await close(client)


async def test_too_long_datagram_is_an_error_received(loop):
    """R63: EMSGSIZE too; nothing is raised by sendto()."""
    server = await endpoint(loop)
    client = await endpoint(loop, remote=server.address)
    client.transport.sendto(b"x" * 100_000)
    await client.until(lambda: client.errors)
    assert isinstance(client.errors[0], OSError)
    assert not client.transport.is_closing()
    client.transport.sendto(b"fits")
    await server.until(lambda: server.received)
    await close(client, server)


@pytest.mark.known_difference("asyncio", "AttributeError if unconnected", only=("unconnected",))
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_no_method_raises_after_the_end(loop, connected):
    """R63, R47: sendto after loss is ignored."""
    server = await endpoint(loop)
    client = await endpoint(loop, remote=server.address if connected else None)
    address = () if connected else (server.address,)
    client.transport.close()
    client.transport.close()
    await asyncio.wait_for(asyncio.shield(client.lost), 5)
    for _ in range(7):
        client.transport.sendto(b"late", *address)
    client.transport.abort()
    client.transport.close()
    assert client.transport.is_closing()
    assert client.transport.get_write_buffer_size() == 0
    repr(client.transport)
    await turns()
    assert server.received == []
    await close(server)


@pytest.mark.known_difference("uvloop", "ignores it")
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_answer_in_the_turn_of_the_end_still_leaves(loop, end):
    """R63: of an unconnected endpoint, until connection_lost; an error is told there, too."""
    server = await endpoint(loop)
    client = await endpoint(loop)
    getattr(client.transport, end)()
    client.transport.sendto(b"answer", server.address)
    client.transport.sendto(bytes(70000), server.address)
    assert [error.errno for error in client.errors] == [errno.EMSGSIZE]
    await asyncio.wait_for(asyncio.shield(client.lost), 5)
    await server.until(lambda: server.received)
    assert [data for data, _ in server.received] == [b"answer"]
    await close(server)


@pytest.mark.known_difference("uvloop", "another type of error")
async def test_bad_arguments_of_sendto_are_refused(loop):
    """R64, section 4: 'Invalid address: must be None or (...)'; TypeError for no bytes."""
    server = await endpoint(loop)
    client = await endpoint(loop, remote=server.address)
    with pytest.raises(ValueError, match="Invalid address"):
        client.transport.sendto(b"x", ("127.0.0.1", 1))
    for bad in (None, "text", 3):
        with pytest.raises(TypeError):
            client.transport.sendto(bad)
    await close(client, server)


@pytest.mark.known_difference("uvloop", "a type of its own")
@pytest.mark.known_difference("asyncio", "is one since 3.12", until=(3, 11))
async def test_transport_is_a_datagram_transport(loop):
    """R65: isinstance of asyncio.DatagramTransport."""
    server = await endpoint(loop)
    assert isinstance(server.transport, asyncio.DatagramTransport)
    await close(server)


@pytest.mark.known_difference("uvloop", "not implemented")
async def test_unix_datagrams(loop, tmp_path):
    """R64: AF_UNIX needs no DNS."""
    server_path, client_path = str(tmp_path / "server"), str(tmp_path / "client")
    _, server = await loop.create_datagram_endpoint(
        lambda: DatagramRecorder(loop), local_addr=server_path, family=socket.AF_UNIX
    )
    _, client = await loop.create_datagram_endpoint(
        lambda: DatagramRecorder(loop),
        local_addr=client_path,
        remote_addr=server_path,
        family=socket.AF_UNIX,
    )
    client.transport.sendto(b"question")
    await server.until(lambda: server.received)
    assert server.received == [(b"question", client_path)]
    server.transport.sendto(b"answer", client_path)
    await client.until(lambda: client.received)
    await close(client, server)


async def test_given_socket_is_used(loop):
    """create_datagram_endpoint(sock=)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: DatagramRecorder(loop), sock=sock
    )
    assert transport.get_extra_info("sockname") == sock.getsockname()
    await close(protocol)
    assert sock.fileno() == -1
    with pytest.raises(ValueError):
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol)


async def test_burst_is_received_without_starving_timers(loop):
    """R90: a thousand datagrams in the socket, and a timer."""
    server = await endpoint(loop)
    server.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        for i in range(200):
            far.sendto(b"%d" % i, server.address)
        await asyncio.sleep(0.01)
        await server.until(lambda: len(server.received) == 200)
        assert [data for data, _ in server.received] == [b"%d" % i for i in range(200)]
    await close(server)


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("callback", ["datagram_received", "error_received"])
async def test_transport_may_be_closed_in_a_callback(loop, method, callback):
    """R60: no further call but connection_lost."""
    other = await endpoint(loop)
    address = other.address
    protocol = await endpoint(
        loop, remote=address, **{callback: lambda p, *args: getattr(p.transport, method)()}
    )
    if callback == "datagram_received":
        for _ in range(5):
            other.transport.sendto(b"x", protocol.address)
    else:
        await close(other)
        protocol.transport.sendto(b"refused")
    assert await asyncio.wait_for(asyncio.shield(protocol.lost), 5) is None
    assert protocol.calls == ["connection_made", callback, "connection_lost"]
    if callback == "datagram_received":
        await close(other)


def test_failing_datagram_received_is_reported(loop, run, reports):
    """R13, R55: one report for each."""

    def fail(*_):
        raise ValueError("the protocol's own")

    async def main():
        server = await endpoint(loop, datagram_received=fail)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.sendto(b"x", server.address)
            await server.until(lambda: reports)
        server.transport.abort()
        await asyncio.wait_for(asyncio.shield(server.lost), 5)
        await turns(2)

    run(loop, main())
    assert isinstance(reports[0]["exception"], ValueError)


async def test_broadcast_and_reuse_port(loop):
    """create_datagram_endpoint(allow_broadcast=, reuse_port=)."""
    _, protocol = await loop.create_datagram_endpoint(
        lambda: DatagramRecorder(loop),
        local_addr=("127.0.0.1", 0),
        allow_broadcast=True,
        reuse_port=True,
    )
    sock = protocol.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    await close(protocol)


# -- a far end that is a plain socket ---------------------------------------------------------


@pytest.fixture(params=["inet", "inet6"])
def ip(request):
    """(family, host)"""
    if request.param == "inet":
        return socket.AF_INET, "127.0.0.1"
    try:
        far_socket(socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    return socket.AF_INET6, "::1"


# -- life -------------------------------------------------------------------------------------


async def test_addresses_have_the_form_of_the_socket_module(loop, ip):
    """R64: an exchange with a peer that is named in each call."""
    family, host = ip
    async with opened(loop, local_addr=(host, 0)) as (transport, protocol):
        with far_socket(family) as far:
            here = transport.get_extra_info("sockname")
            far.sendto(b"question", here)
            assert await protocol.count(1) == [b"question"]
            assert protocol.received[0][1] == far.getsockname()
            transport.sendto(b"answer", protocol.received[0][1])
            assert await recvfrom(far) == (b"answer", here)
            transport.sendto(b"again", far.getsockname()[:2])
            assert await recvfrom(far) == (b"again", here)


async def test_each_datagram_comes_with_its_own_sender(loop, ip):
    """R63: many peers at once; each gets its own answers."""
    family, host = ip

    def answer(protocol, data, addr):
        protocol.transport.sendto(data.upper(), addr)

    protocol = DatagramRecorder(loop, datagram_received=answer)
    async with opened(loop, protocol, local_addr=(host, 0)) as (transport, _):
        here = transport.get_extra_info("sockname")
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(far_socket(family)) for _ in range(7)]
            for i in range(3):
                for n, peer in enumerate(peers):
                    peer.sendto(f"peer {n} says {i}".encode(), here)
            await protocol.count(21)
            expected = {p.getsockname(): n for n, p in enumerate(peers)}
            for data, addr in protocol.received:
                assert data.startswith(b"peer %d " % expected[addr])
            for n, peer in enumerate(peers):
                for i in range(3):
                    assert await recvfrom(peer) == (f"PEER {n} SAYS {i}".encode(), here)


async def test_many_waiting_datagrams_are_all_received_in_order(loop):
    """R63, R90: more than one batch, with edges too."""
    async with opened(loop, **LOCAL) as (transport, protocol):
        with far_socket() as far:
            here = transport.get_extra_info("sockname")
            sent = [b"%d" % i for i in range(150)]
            for data in sent:
                far.sendto(data, here)
            assert await protocol.count(150) == sent
            far.sendto(b"later", here)
            assert (await protocol.count(151))[-1] == b"later"


async def test_largest_datagram_is_received_whole(loop):
    """R63: 65507 bytes, and nothing of its neighbours."""
    async with opened(loop, **LOCAL) as (transport, protocol):
        with far_socket() as far:
            here = transport.get_extra_info("sockname")
            large = os.urandom(65507)
            for data in (b"before", large, b"after"):
                far.sendto(data, here)
            assert await protocol.count(3) == [b"before", large, b"after"]
            transport.sendto(large, far.getsockname())
            assert (await recvfrom(far))[0] == large


async def test_connection_lost_is_queued_and_comes_once(loop):
    """R45: datagrams, too: never inside close(), and no callback after it."""
    async with opened(loop, **LOCAL) as (transport, protocol):
        with far_socket() as far:
            far.sendto(b"never delivered", transport.get_extra_info("sockname"))
        transport.close()
        assert "connection_lost" not in protocol.calls
        assert transport.is_closing()
        transport.close()
        assert await protocol.closed() is None
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_connection_made_comes_first(loop):
    """R45: before a datagram that was there already."""
    sock, far = far_socket(), far_socket()
    with far:
        far.sendto(b"early", sock.getsockname())
        async with opened(loop, sock=sock) as (_, protocol):
            assert protocol.calls[0] == "connection_made"
            assert await protocol.count(1) == [b"early"]


@pytest.mark.skipif(SINCE_3_13, reason="sent from 3.13 on")
async def test_empty_datagram_is_dropped_before_3_13(loop):
    """R62: as this Python does."""
    async with opened(loop, **LOCAL) as (transport, _):
        with far_socket() as far:
            transport.sendto(b"", far.getsockname())
            transport.sendto(b"mark", far.getsockname())
            assert (await recvfrom(far))[0] == b"mark"


# -- errors -----------------------------------------------------------------------------------


def refused_address():
    with far_socket() as sock:
        return sock.getsockname()


@pytest.mark.parametrize(
    "name",
    [
        "datagram_received",
        pytest.param(
            "error_received",
            marks=pytest.mark.known_difference("uvloop", "reports it nowhere", run=False),
        ),
    ],
)
async def test_exception_of_the_protocol_is_reported_and_the_transport_goes_on(loop, reports, name):
    """R13, R55: datagram_received and error_received are callbacks as any other."""

    def fail(protocol, *_):
        if len(protocol.calls) < 3:
            raise ZeroDivisionError

    nobody = refused_address()
    protocol = DatagramRecorder(loop, **{name: fail})
    with far_socket() as far:
        options = {"remote_addr": nobody} if name == "error_received" else LOCAL
        async with opened(loop, protocol, **options) as (transport, _):
            if name == "error_received":
                transport.sendto(b"anyone?")
            else:
                for data in (b"1", b"2", b"3"):
                    far.sendto(data, transport.get_extra_info("sockname"))
                assert await protocol.count(3) == [b"1", b"2", b"3"]
            await protocol.until(lambda: reports)
            assert not transport.is_closing()
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


# -- addresses --------------------------------------------------------------------------------


async def test_remote_address_of_a_broadcast_endpoint_is_used_without_connecting(loop):
    """R64: allow_broadcast= leaves the socket unconnected; sendto() still has an addressee."""
    with far_socket() as far:
        there = far.getsockname()
        async with opened(loop, remote_addr=there, allow_broadcast=True) as (transport, _):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            transport.sendto(b"x")
            assert (await recvfrom(far))[0] == b"x"


ODD = [("", 9), ("localhost", 9), ("127.0.0.1\0", 9), ("127.1", 9), ("127.0.0.1", -1),
       ("127.0.0.1", 65536), ("127.0.0.1", "9"), ("127.0.0.1",), ("127.0.0.1", 9, 9),
       "127.0.0.1", 7, None]  # fmt: skip


@pytest.mark.parametrize("address", ODD, ids=repr)
def test_address_that_is_not_numeric_fares_as_with_asyncio(mioloop_loop, run, reports, address):
    """R64: addresses that are not converted natively have the socket module's result."""
    loop = mioloop_loop

    async def outcome(loop, seen):
        protocol = DatagramRecorder(loop)
        try:
            async with opened(loop, protocol, **LOCAL) as (transport, _):
                transport.sendto(b"x", address)
                await turns(3)
                closed = transport.is_closing()
            return closed, [type(e) for e in protocol.errors], [str(r["exception"]) for r in seen]
        except Exception as exc:
            return type(exc)

    theirs = []
    reference = asyncio.SelectorEventLoop()
    reference.set_exception_handler(lambda _, context: theirs.append(context))
    try:
        expected = reference.run_until_complete(outcome(reference, theirs))
        reference.run_until_complete(reference.shutdown_default_executor())
    finally:
        reference.close()
    assert run(loop, outcome(loop, reports)) == expected


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_bytes_like_is_sent(loop, kind):
    """R49: bytes, bytearray and memoryview."""
    async with opened(loop, **LOCAL) as (transport, _):
        with far_socket() as far:
            transport.sendto(kind(b"data"), far.getsockname())
            assert (await recvfrom(far))[0] == b"data"


# -- Unix sockets -----------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "refuses Unix datagrams")
async def test_nameless_sender_has_no_address(loop, tmp_path):
    """R64: AF_UNIX needs no DNS; the sender's path is its address."""
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
        far.settimeout(PEER_TIMEOUT_S)
        far.bind(there)
        async with opened(loop, family=socket.AF_UNIX, local_addr=here) as (
            transport,
            protocol,
        ):
            assert transport.get_extra_info("sockname") == here
            far.sendto(b"question", here)
            await protocol.count(1)
            assert protocol.received == [(b"question", there)]
            transport.sendto(b"answer", there)
            assert await recvfrom(far) == (b"answer", here)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
                nameless.sendto(b"who?", here)
            await protocol.count(2)
            assert protocol.received[1] == (b"who?", None)


@pytest.mark.known_difference("uvloop", "refuses Unix datagrams")
@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_unix_datagrams_with_abstract_names(loop):
    """R64: a name that begins with a NUL is bytes."""
    name = b"\0mioloop-%d-%d" % (os.getpid(), id(loop))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name + b"-far")
        near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.bind(name)
        async with opened(loop, sock=near) as (_, protocol):
            sock.sendto(b"x", name)
            await protocol.count(1)
            assert protocol.received == [(b"x", name + b"-far")]


@pytest.mark.parametrize("size", [10, 65536, 150000])
async def test_unix_datagrams_may_be_large(mioloop_loop, size):
    """R64: larger than any of IP."""
    loop = mioloop_loop
    protocol = DatagramRecorder(loop)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400000)
    with far:
        async with opened(loop, protocol, sock=near):
            data = os.urandom(size)
            far.send(data)
            assert await protocol.count(1) == [data]


# -- after the end ----------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "its socket raises")
async def test_extra_info_answers_after_close(loop):
    """R57: socket, sockname and peername."""
    with far_socket() as far:
        async with opened(loop, remote_addr=far.getsockname()) as (transport, protocol):
            sockname = transport.get_extra_info("socket").getsockname()
            transport.close()
            await protocol.closed()
            assert transport.get_extra_info("sockname") == sockname
            assert transport.get_extra_info("peername") == far.getsockname()
            assert transport.get_extra_info("socket").fileno() == -1
            assert transport.get_extra_info("nothing", 7) == 7


def test_unclosed_transport_warns_and_closes(mioloop_kind, no_leaked_descriptor):
    """R61: ResourceWarning at __del__, and the descriptor is closed."""
    loop = mioloop_kind.new()

    async def main():
        transport, _ = await loop.create_datagram_endpoint(lambda: DatagramRecorder(loop), **LOCAL)
        return transport

    transport = loop.run_until_complete(main())
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


async def test_fd_of_a_transport_is_refused_by_add_reader(loop):
    """R28: as number and as object."""
    async with opened(loop, **LOCAL) as (transport, _):
        sock = transport.get_extra_info("socket")
        for fd in (sock, sock.fileno()):
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(fd, print)
