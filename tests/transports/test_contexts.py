"""The context in which the callbacks of a protocol run. R58."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket

import pytest

from tests.support.connections import receive, send, small_buffers, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

BEFORE_3_15 = "runs some of them in the context of the caller"
variable = contextvars.ContextVar("variable", default="unset")

CALLBACKS = (
    "connection_made", "data_received", "buffer_updated", "get_buffer", "eof_received",
    "pause_writing", "resume_writing", "connection_lost", "datagram_received",
)


class Seen(dict):
    """callback -> the values of `variable` that its calls have seen."""

    def hooks(self, **others):
        def hook(name):
            def note(protocol, *args):
                self.setdefault(name, []).append(variable.get())
                return others[name](protocol, *args) if name in others else answer(protocol, name)

            return note

        return {name: hook(name) for name in CALLBACKS}

    def all_but(self, name):
        return {value for key, values in self.items() if key != name for value in values}


def answer(protocol, name):
    return protocol.buffer if name == "get_buffer" else None


async def in_task(function, value):
    """Call *function* in a task that has set `variable` to *value*."""

    async def call():
        variable.set(value)
        function()

    await asyncio.ensure_future(call())


async def talk(protocol, far):
    """Let a task pause, resume, fill, and then close the connection; *far* is a blocking socket."""
    transport = protocol.transport
    await send(far, b"a")
    await protocol.received(1)
    await in_task(transport.pause_reading, "leaked by pause")
    await send(far, b"b")
    await turns()
    await in_task(transport.resume_reading, "leaked by resume")
    await protocol.received(2)
    await in_task(lambda: transport.write(bytes(4_000_000)), "writing")
    assert "pause_writing" in protocol.calls
    await receive(far, 4_000_000)
    await protocol.until(lambda: "resume_writing" in protocol.calls)


@pytest.fixture(params=[Recorder, BufferedRecorder])
def protocol_type(request):
    return request.param


@pytest.mark.known_difference("asyncio", BEFORE_3_15, until=(3, 14))
@pytest.mark.known_difference("uvloop", BEFORE_3_15)
@pytest.mark.parametrize("end", ["close", "abort", "eof"])
def test_callbacks_of_a_client_run_in_the_context_of_create_connection(
    loop, run, protocol_type, end
):
    """R58: whichever task resumes, writes or closes; only pause_writing sees the writer's."""
    seen = Seen()

    async def main():
        near, far = socket_pair("tcp")
        small_buffers(near, far)
        protocol = protocol_type(loop, **seen.hooks())
        variable.set("connecting")
        with far:
            await loop.create_connection(lambda: protocol, sock=near)
            variable.set("connected")
            await talk(protocol, far)
            if end == "eof":
                far.shutdown(socket.SHUT_WR)
            else:
                await in_task(getattr(protocol.transport, end), "leaked by the end")
            await protocol.closed()

    run(loop, main())
    assert seen["pause_writing"] == ["writing"]
    assert seen.all_but("pause_writing") == {"connecting"}
    assert ("eof_received" in seen) == (end == "eof")


@pytest.mark.known_difference("asyncio", BEFORE_3_15, until=(3, 14))
@pytest.mark.known_difference("uvloop", BEFORE_3_15)
@pytest.mark.parametrize("started", ["at once", "later", "by serve_forever"])
def test_connections_of_a_server_run_in_copies_of_the_context_of_create_server(
    loop, run, protocol_type, started
):
    """R58: also if it begins to serve later and elsewhere."""
    seen, protocols = Seen(), []

    def factory():
        seen.setdefault("factory", []).append(variable.get())
        protocols.append(protocol_type(loop, **seen.hooks()))
        return protocols[-1]

    async def main():
        variable.set("serving")
        server = await loop.create_server(
            factory, "127.0.0.1", 0, start_serving=started == "at once"
        )
        variable.set("later")
        serving = None
        if started == "later":
            await server.start_serving()
        elif started == "by serve_forever":
            serving = asyncio.ensure_future(server.serve_forever())
            await turns()
        address = server.sockets[0].getsockname()
        far = await loop.run_in_executor(None, socket.create_connection, address)
        with far:
            far.settimeout(5)
            while not protocols or not protocols[0].made.done():
                await asyncio.sleep(0.001)
            await talk(protocols[0], far)
            await in_task(protocols[0].transport.close, "leaked by close")
            await protocols[0].closed()
        if serving is not None:
            serving.cancel()
        server.close()
        await server.wait_closed()
        await turns()

    run(loop, main())
    assert seen["pause_writing"] == ["writing"]
    assert seen.all_but("pause_writing") == {"serving"}


@pytest.mark.known_difference(
    "asyncio", "has a context for each callback", until=(3, 14), only=("tcp", "unix"))
@pytest.mark.known_difference("uvloop", "has a context for each callback")
@pytest.mark.parametrize("over", ["tcp", "unix", "tls"])
def test_connections_of_a_server_do_not_share_a_context(loop, run, tls, tmp_path, over):
    """R58: a callback sees the variables of the one before it, and none of other connections."""
    seen, protocols = [], []

    def note(protocol, *_):
        seen.append((protocols.index(protocol), variable.get()))
        variable.set(f"set by {len(seen)}")

    def factory():
        protocols.append(Recorder(loop, connection_made=note, data_received=note,
                                  connection_lost=note))
        return protocols[-1]

    async def session(i, path, server):
        client = Recorder(loop)
        if over == "unix":
            await loop.create_unix_connection(lambda: client, path)
        else:
            secure = {"ssl": tls.client, "server_hostname": "localhost"} if over == "tls" else {}
            await loop.create_connection(
                lambda: client, *server.sockets[0].getsockname(), **secure
            )
        client.transport.write(b"x")
        await client.until(lambda: len(protocols) == i + 1)
        await protocols[i].received(1)
        client.transport.close()
        await client.closed()
        await protocols[i].closed()

    async def main():
        variable.set("serving")
        path = str(tmp_path / "socket")
        keywords = {"ssl": tls.server} if over == "tls" else {}
        if over == "unix":
            server = await loop.create_unix_server(factory, path)
        else:
            server = await loop.create_server(factory, "127.0.0.1", 0, **keywords)
        variable.set("later")
        for i in range(2):
            await session(i, path, server)
        server.close()
        await server.wait_closed()
        await turns()
        assert variable.get() == "later"

    run(loop, main())
    assert seen == [(0, "serving"), (0, "set by 1"), (0, "set by 2"),
                    (1, "serving"), (1, "set by 4"), (1, "set by 5")]


@contextlib.asynccontextmanager
async def served_over_tls(loop, tls, seen):
    """A client, and a protocol of a server that was made in the context "serving"."""
    protocol = Recorder(loop, **seen.hooks())
    variable.set("serving")
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=tls.server)
    variable.set("later")
    client = Recorder(loop)
    await loop.create_connection(
        lambda: client, *server.sockets[0].getsockname(),
        ssl=tls.client, server_hostname="localhost",
    )
    await protocol.made
    yield client, protocol
    await client.closed()
    server.close()
    await server.wait_closed()
    await turns()


@pytest.mark.known_difference("asyncio", "delivers what was read before in the caller's context")
@pytest.mark.known_difference("uvloop", "delivers what was read before in the caller's context")
@pytest.mark.parametrize("end", ["close", "abort"])
def test_callbacks_over_tls_run_in_the_context_of_the_connection(loop, run, tls, end):
    """R58: including data that was read before the transport is resumed."""
    seen = Seen()

    async def main():
        async with served_over_tls(loop, tls, seen) as (client, protocol):
            await in_task(protocol.transport.pause_reading, "leaked by pause")
            client.transport.write(b"x")
            await turns(20)
            await in_task(protocol.transport.resume_reading, "leaked by resume")
            await protocol.received(1)
            await in_task(lambda: protocol.transport.write(bytes(8_000_000)), "writing")
            assert "pause_writing" in protocol.calls
            await client.received(8_000_000)
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            await in_task(getattr(protocol.transport, end), "leaked by the end")
            await protocol.closed()

    run(loop, main())
    assert seen["pause_writing"] == ["writing"]
    assert seen.all_but("pause_writing") == {"serving"}


@pytest.mark.known_difference("asyncio", "calls eof_received from inside close()")
def test_close_notify_that_close_finds_is_told_in_the_context_of_the_connection(loop, run, tls):
    """R58: the application has paused before the end, and a task closes."""
    seen = Seen()

    async def main():
        async with served_over_tls(loop, tls, seen) as (client, protocol):
            protocol.transport.pause_reading()
            client.transport.close()
            await turns(20)
            await in_task(protocol.transport.close, "leaked by close")
            await protocol.closed()

    run(loop, main())
    assert seen.all_but(None) == {"serving"}


@pytest.mark.known_difference("asyncio", BEFORE_3_15, until=(3, 14))
def test_start_tls_keeps_the_context_of_the_connection(loop, run, tls):
    """R58: the upgrade is a task's, and nothing of it is seen."""
    seen = Seen()

    async def main():
        near, far = socket_pair("tcp")
        far.setblocking(False)
        variable.set("connecting")
        protocol, peer = Recorder(loop, **seen.hooks()), Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=near)
        variable.set("connected")
        await loop.create_connection(lambda: peer, sock=far)

        async def upgrade(one, context, **keywords):
            variable.set("upgrading")
            one.transport = await loop.start_tls(one.transport, one, context, **keywords)

        await asyncio.gather(
            upgrade(protocol, tls.server, server_side=True),
            upgrade(peer, tls.client, server_hostname="localhost"),
        )
        peer.transport.write(b"x")
        await protocol.received(1)
        await in_task(protocol.transport.close, "leaked by close")
        await protocol.closed()
        await peer.closed()
        await turns()

    run(loop, main())
    assert seen.all_but(None) == {"connecting"}


@pytest.mark.known_difference("uvloop", "has one context for a transport")
@pytest.mark.known_difference(
    "asyncio", "cannot pause a datagram transport", until=(3, 10), run=False)
def test_datagrams_are_received_in_the_context_that_resumed(loop, run):
    """R58: a datagram transport has no context of its own, also in 3.15."""
    seen = Seen()

    async def main():
        variable.set("opening")
        protocol = Datagrams(loop, **seen.hooks())
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.sendto(b"a", address)
            await protocol.until(lambda: len(seen.get("datagram_received", [])) == 1)
            # asyncio's has no pause_reading() of its own; it inherits one that works
            transport.pause_reading()
            await in_task(transport.resume_reading, "resuming")
            far.sendto(b"b", address)
            await protocol.until(lambda: len(seen["datagram_received"]) == 2)
        await in_task(transport.close, "closing")
        await protocol.closed()

    run(loop, main())
    assert seen["connection_made"] == ["opening"]
    assert seen["datagram_received"] == ["opening", "resuming"]
    assert seen["connection_lost"] == ["closing"]


class Datagrams(Recorder, asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        self._note("datagram_received", data, address)


@pytest.mark.known_difference("uvloop", "has one context for a transport")
def test_pipes_are_read_and_written_in_the_context_of_the_caller(loop, run):
    """R58: a pipe has no context of its own, also in 3.15."""
    read_seen, write_seen = Seen(), Seen()

    async def main():
        reading, writing = (open(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))
        variable.set("opening")
        reader = Recorder(loop, **read_seen.hooks())
        writer = Recorder(loop, **write_seen.hooks())
        await loop.connect_read_pipe(lambda: reader, reading)
        await loop.connect_write_pipe(lambda: writer, writing)
        variable.set("opened")
        writer.transport.write(b"a")
        await reader.received(1)
        reader.transport.pause_reading()
        await in_task(lambda: writer.transport.write(bytes(1_000_000)), "writing")
        await in_task(reader.transport.resume_reading, "resuming")
        await reader.received(1_000_001)
        await writer.until(lambda: "resume_writing" in writer.calls)
        await in_task(writer.transport.close, "closing")
        await writer.closed()
        await reader.closed()
        await turns()

    run(loop, main())
    assert read_seen["data_received"][0] == "opening"
    assert set(read_seen["data_received"][1:]) == {"resuming"}
    assert read_seen["eof_received"] == read_seen["connection_lost"] == ["resuming"]
    assert write_seen == {
        "connection_made": ["opening"], "pause_writing": ["writing"],
        "resume_writing": ["writing"], "connection_lost": ["closing"],
    }


def test_hooks_take_the_context_that_the_stdlib_passes(mioloop_loop, run):
    """R58: as it is, not a copy of it."""
    loop = mioloop_loop
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    seen = Seen()

    async def main():
        near, far = socket_pair("tcp")
        with far:
            protocol = Recorder(loop, **seen.hooks(
                connection_made=lambda *_: variable.set("set by connection_made")))
            transport = loop._make_socket_transport(near, protocol, context=context)
            await asyncio.wait_for(protocol.made, 5)
            transport.close()
            await protocol.closed()

    run(loop, main())
    assert seen == {"connection_made": ["given"], "connection_lost": ["set by connection_made"]}
    assert context[variable] == "set by connection_made"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nested_turn_in_a_callback_loses_no_event_of_its_transport(mioloop_loop, run, kind):
    """R58, R60: the context of the connection is entered already, and once is enough."""
    loop = mioloop_loop
    seen = []

    async def main():
        near, far = socket_pair(kind)

        def nest(protocol, data):
            seen.append((bytes(data), variable.get()))
            variable.set("set by the first")
            if len(seen) == 1:
                far.sendall(b"second")
                for _ in range(3):
                    loop._run_once()

        with far:
            variable.set("connecting")
            protocol = Recorder(loop, data_received=nest)
            await loop.create_connection(lambda: protocol, sock=near)
            await send(far, b"first")
            await protocol.received(11)
            protocol.transport.abort()
            await protocol.closed()

    run(loop, main())
    assert seen == [(b"first", "connecting"), (b"second", "set by the first")]
