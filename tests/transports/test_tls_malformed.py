"""For any bytes that a peer sends in place of TLS, the connection ends with an error, no more.

Inputs are made from recorded handshakes, from records of a connection that works, and from
nothing at all; each is made of its number alone, so that a failure can be had again. R66, R69.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct

import pytest

from tests.support.accounting import account, at_rest, lasting_growth, resident_bytes
from tests.support.connections import nonblocking_pair
from tests.support.protocols import Recorder

WAIT_S = 20.0
MIB = 1 << 20
PARTS = 4
RECORD_TYPES = (20, 21, 22, 23, 24, 0, 255)


class Peer:
    """One side of TLS, by hand: a test takes its output, and can spoil it."""

    def __init__(self, tls, server_side):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = tls.server if server_side else tls.client
        self.object = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=None if server_side else "localhost")
        self.done = False

    def step(self, received=b""):
        """Take in *received*; return the output of the session."""
        self.incoming.write(received)
        if not self.done:
            try:
                self.object.do_handshake()
                self.done = True
            except ssl.SSLWantReadError:
                pass
        return self.outgoing.read()

    def record(self, data):
        self.object.write(data)
        return self.outgoing.read()


def handshake(tls):
    """The messages of a client and a server, as lists of flights."""
    client, server = Peer(tls, False), Peer(tls, True)
    flights = {"client": [], "server": []}
    data = client.step()
    while data:
        flights["client"].append(data)
        data = server.step(data)
        if data:
            flights["server"].append(data)
            data = client.step(data)
    assert client.done and server.done
    flights["server"].append(server.record(b"hello"))
    flights["client"].append(client.record(b"hello"))
    return {side: b"".join(sent) for side, sent in flights.items()}


def spoil(rng, data):
    """*data*, which is TLS, as a broken or a hostile peer might send it."""
    data = bytearray(data)
    kind = rng.randrange(7)
    if kind == 0:                               # some bits flipped
        for _ in range(rng.choice([1, 1, 2, 10])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:                             # cut off
        del data[rng.randrange(len(data)):]
    elif kind == 2:                             # a length that is wrong
        struct.pack_into("!H", data, 3, rng.choice([0, 1, 5, 16384, 16641, 65535]))
    elif kind == 3:                             # a part left out, or twice
        at, size = rng.randrange(len(data)), rng.randrange(200)
        data[at : at + size] = data[at : at + size] * rng.choice([0, 2])
    elif kind == 4:                             # records of no sense
        data = bytearray()
        for _ in range(rng.randrange(1, 5)):
            body = rng.randbytes(rng.choice([0, 1, 2, 40, 300]))
            data += struct.pack("!BHH", rng.choice(RECORD_TYPES),
                                rng.choice([0x0300, 0x0301, 0x0303, 0x0304, 0xFFFF]), len(body))
            data += body
    elif kind == 5:                             # no TLS
        data = bytearray(rng.randbytes(rng.choice([0, 1, 4, 5, 6, 100, 5000])))
    else:                                       # something before it
        data[:0] = rng.randbytes(rng.randrange(1, 10))
    return bytes(data)


def sides(tls, side):
    return ({"ssl": tls.server} if side == "server"
            else {"ssl": tls.client, "server_hostname": "localhost"})


async def opened(loop, tls, side, protocol, sock):
    """Our end, once its handshake is done."""
    if side == "server":
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, **sides(tls, side))
    else:
        transport, _ = await loop.create_unix_connection(
            lambda: protocol, sock=sock, **sides(tls, side))
    return transport


async def refuse(loop, tls, side, data, pieces=1):
    """Our *side* is sent *data*, and then the end: its handshake fails."""
    near, far = nonblocking_pair()
    protocol = Recorder(loop)
    with far:
        size = -(-len(data) // pieces) or 1
        opening = asyncio.ensure_future(opened(loop, tls, side, protocol, near))
        for at in range(0, len(data), size):
            try:
                far.send(data[at : at + size])
            except OSError:                     # it has seen enough
                break
            await asyncio.sleep(0)
        far.shutdown(socket.SHUT_WR)
        with pytest.raises((OSError, ssl.SSLError)):
            await asyncio.wait_for(opening, WAIT_S)
    assert protocol.calls == []                 # R69
    assert near.fileno() == -1


async def break_off(loop, tls, side, rng):
    """A connection that works, and then a peer that does not: connection_lost() is called."""
    near, far = nonblocking_pair()
    protocol = Recorder(loop)
    with far:
        peer = Peer(tls, side == "client")
        opening = asyncio.ensure_future(opened(loop, tls, side, protocol, near))
        await loop.sock_sendall(far, peer.step())
        while not peer.done:
            await loop.sock_sendall(far, peer.step(await loop.sock_recv(far, 65536)))
        transport = await asyncio.wait_for(opening, WAIT_S)
        sent = peer.record(b"x" * rng.randrange(1, 2000)) + peer.record(b"y")
        if rng.randrange(2):
            transport.write(b"z" * rng.randrange(1, 20_000))
        await loop.sock_sendall(far, spoil(rng, sent))
        if rng.randrange(4):
            far.shutdown(socket.SHUT_WR)
        else:
            transport.close() if rng.randrange(2) else transport.abort()
            far.close()
        await asyncio.wait_for(protocol.lost, WAIT_S)
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls[-1] == "connection_lost"
    assert near.fileno() == -1


async def one_input(loop, tls, recorded, number):
    rng = random.Random(number)
    side, other = rng.choice([("client", "server"), ("server", "client")])
    if rng.randrange(4) == 0:
        await break_off(loop, tls, side, rng)
    else:
        await refuse(loop, tls, side, spoil(rng, recorded[other]), rng.choice([1, 1, 3]))


def inputs(loop, tls, numbers):
    """Each session ends, and none is remembered."""
    loop.set_exception_handler(lambda *_: None)  # do not keep the reports
    recorded = handshake(tls)

    async def main(numbers):
        for number in numbers:
            try:
                await one_input(loop, tls, recorded, number)
            except BaseException as exc:
                raise AssertionError(f"input {number}") from exc
        await at_rest(loop)
        return account(loop), resident_bytes()

    part = len(numbers) // PARTS
    taken = [loop.run_until_complete(main(numbers[i * part : (i + 1) * part]))
             for i in range(PARTS)]
    assert lasting_growth([held for held, _ in taken], part) == {}
    return taken[-1][1] - taken[PARTS // 2][1]


def test_malformed_tls_ends_the_connection(mioloop_loop, mioloop_kind, tls):
    """R69: 500 inputs on the default loop, a few on each of the other kinds."""
    count = 500 if (mioloop_kind.trigger, mioloop_kind.selector) == ("edge", "epoll") else 100
    inputs(mioloop_loop, tls, range(count))


@pytest.mark.unsanitized("freed memory is kept, to find who still uses it")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_10_000_malformed_inputs_leave_no_memory(mioloop_loop, tls):
    """R69."""
    assert inputs(mioloop_loop, tls, range(1000, 11_000)) < 4 * MIB


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_handshake_cut_off_anywhere_fails(mioloop_loop, tls, side, request):
    """R69: at each offset; an ordinary run takes the first 60 and a selection of the rest."""
    recorded = handshake(tls)["server" if side == "client" else "client"]
    offsets = [*range(60), *range(60, len(recorded), 97)]
    cut_off(mioloop_loop, tls, side, recorded, offsets)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_handshake_cut_off_at_each_offset_fails(mioloop_loop, tls, side):
    """R69."""
    recorded = handshake(tls)["server" if side == "client" else "client"]
    cut_off(mioloop_loop, tls, side, recorded, range(len(recorded)))


def cut_off(loop, tls, side, recorded, offsets):
    async def main():
        for offset in offsets:
            await refuse(loop, tls, side, recorded[:offset])

    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(main())
