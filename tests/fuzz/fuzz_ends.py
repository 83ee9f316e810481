"""The ends of a random program's connections: their protocols, and the ways to open them.

An end counts its bytes. Each byte of a stream is a function of its place, so an end can check
received bytes as they come. It tells the machine about each fault, and about each event that may
have an inner step. A watched socket pair has no transport and no end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile

PERIOD = 251
PATTERN = bytes(range(PERIOD)) * 2000


def pattern(offset, count):
    at = offset % PERIOD
    return PATTERN[at : at + count]


class End:
    """One end of a connection, with any protocol object that it currently has."""

    def __init__(self, machine, kind, name):
        self.machine = machine
        self.kind = kind
        self.name = name
        self.peer = None
        self.transport = None
        self.sent = 0               # bytes written, or datagrams
        self.required = 0  # the part of them that must arrive
        self.received = 0
        self.lost = 0
        self.made = 0
        self.broken = False         # aborted, or given up: bytes may be missing
        self.closed = False
        self.eof_sent = False
        self.hooks = {}
        machine.ends.append(self)

    # -- called by protocols

    def event(self, name):
        number = self.hooks.pop(name, None)
        if number is not None:
            self.machine.inside(number)

    def take(self, data):
        if self.lost:
            self.machine.fault(f"{self.name}: data after connection_lost")
        if bytes(data) != pattern(self.received, len(data)):
            self.machine.fault(f"{self.name}: wrong bytes at {self.received}: {bytes(data[:20])!r}")
        self.received += len(data)
        if self.peer is not None and self.received > self.peer.sent:
            self.machine.fault(f"{self.name}: more bytes than were sent")
        self.event("data_received")

    def end(self, exc):
        self.lost += 1
        if self.lost > 1:
            self.machine.fault(f"{self.name}: connection_lost again")
        if exc is not None:
            self.broken = True
        self.event("connection_lost")

    # -- called by steps

    def write(self, write, counted):
        """Count the written bytes. After close() they may or may not be sent."""
        transport = self.transport
        open_before = not transport.is_closing() and not self.eof_sent
        self.sent += counted
        if open_before:
            self.required = self.sent
        try:
            write(transport)
        except RuntimeError:
            if self.eof_sent:
                self.sent -= counted
            raise

    def is_complete(self):
        """Whether all that the peer wrote has arrived, or need not."""
        peer = self.peer
        if peer is None or self.kind == "datagram":
            return True
        if self.broken or peer.broken or self.closed or not self.made:
            return True
        if peer.closed and self.sent > peer.received:
            return True             # an end that closes with bytes unread resets the connection
        return self.received >= peer.required


class AnyFace:
    """The callbacks that every protocol has."""

    def __init__(self, end):
        self.end = end

    def connection_made(self, transport):
        self.end.transport = transport
        self.end.made += 1
        self.end.event("connection_made")

    def pause_writing(self):
        self.end.event("pause_writing")

    def resume_writing(self):
        pass

    def connection_lost(self, exc):
        self.end.end(exc)


class Face(AnyFace, asyncio.Protocol):
    def data_received(self, data):
        self.end.take(data)

    def eof_received(self):
        self.end.event("eof_received")
        return False


class BufferedFace(Face, asyncio.BufferedProtocol):
    data_received = None

    def __init__(self, end):
        super().__init__(end)
        self.buffer = bytearray(1000 + end.received % 70_000)

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.end.take(memoryview(self.buffer)[:count])


class DatagramFace(AnyFace, asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        end = self.end
        if end.lost:
            end.machine.fault(f"{end.name}: a datagram after connection_lost")
        if data != pattern(len(data), len(data)):
            end.machine.fault(f"{end.name}: a wrong datagram")
        end.received += 1
        end.event("data_received")

    def error_received(self, exc):
        pass


def new_face(end, buffered):
    """A protocol for *end*; buffered only where a transport takes that."""
    if end.kind == "datagram":
        return DatagramFace(end)
    return BufferedFace(end) if buffered and end.kind != "pipe" else Face(end)


# A finalizer may run at the first instruction of these. A turn there would deliver later bytes
# before earlier ones are counted, on each loop.
RECEIVING = {
    function.__code__
    for function in (
        Face.data_received,
        BufferedFace.buffer_updated,
        DatagramFace.datagram_received,
        End.take,
        pattern,
    )
}


class Watched:
    """A socket pair: one socket is watched, or used by sock_*(); the other feeds it."""

    def __init__(self):
        self.socket, self.far = socket.socketpair()
        self.socket.setblocking(False)
        self.far.setblocking(False)


@contextlib.contextmanager
def certificate():
    import trustme

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    with authority.cert_pem.tempfile() as trusted, tempfile.TemporaryDirectory() as directory:
        issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
        path = os.path.join(directory, "certificate.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        client = ssl.create_default_context(cafile=trusted)
    yield server, client


def pair(machine, kind):
    name = f"{kind} {len(machine.ends) // 2}"
    left, right = End(machine, kind, name + " left"), End(machine, kind, name + " right")
    left.peer, right.peer = right, left
    return left, right


async def open_tcp(machine, **tls):
    left, right = pair(machine, "tls" if tls else "tcp")
    server_tls = {"ssl": tls["server"]} if tls else {}
    client_tls = {"ssl": tls["client"], "server_hostname": "localhost"} if tls else {}
    server = await machine.loop.create_server(lambda: Face(right), "127.0.0.1", 0, **server_tls)
    machine.servers.append(server)
    address = server.sockets[0].getsockname()
    try:
        await machine.loop.create_connection(lambda: Face(left), *address, **client_tls)
    except BaseException:
        left.broken = right.broken = True
        raise
    server.close()


async def open_tls(machine):
    if machine.tls is None:
        with certificate() as contexts:
            machine.tls = contexts
    server, client = machine.tls
    await open_tcp(machine, server=server, client=client)


async def open_unix(machine):
    left, right = pair(machine, "unix")
    one, other = socket.socketpair()
    await machine.loop.create_connection(lambda: Face(left), sock=one)
    await machine.loop.connect_accepted_socket(lambda: BufferedFace(right), other)


async def open_pipe(machine):
    left, right = pair(machine, "pipe")
    read_end, write_end = os.pipe()
    read_file = open(read_end, "rb", buffering=0)
    write_file = open(write_end, "wb", buffering=0)
    await machine.loop.connect_read_pipe(lambda: Face(left), read_file)
    await machine.loop.connect_write_pipe(lambda: Face(right), write_file)


async def open_datagram(machine):
    left, right = pair(machine, "datagram")
    one, other = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    one.bind("")                # abstract names, that the kernel picks
    other.bind("")
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    await machine.loop.create_datagram_endpoint(lambda: DatagramFace(left), sock=one)
    await machine.loop.create_datagram_endpoint(lambda: DatagramFace(right), sock=other)


async def open_raw(machine):
    """The far end sends a few bytes and goes, with a reset or without."""
    end = End(machine, "raw", f"raw {len(machine.ends)}")
    one, other = socket.socketpair()
    other.send(pattern(0, 1000))
    other.close()
    await machine.loop.create_connection(lambda: Face(end), sock=one)


OPENERS = {
    "tcp": open_tcp,
    "tls": open_tls,
    "unix": open_unix,
    "pipe": open_pipe,
    "datagram": open_datagram,
    "raw": open_raw,
}
