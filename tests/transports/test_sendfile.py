"""sendfile(): R74."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile

import pytest
from recording import Recorder, connection, receive, receive_all, turns

DATA = os.urandom(1_500_000)

pytestmark = pytest.mark.known_difference("uvloop", "not implemented", run=False)


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        file.seek(0)
        yield file


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (1000, 500_000), (0, 1)])
def test_file_is_sent(loop, run, file, offset, count, fallback):
    """R74: offset and count; the position is offset + sent."""
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            receiving = asyncio.ensure_future(receive_all(far))
            transport.write(b"before ")
            sent = await loop.sendfile(transport, file, offset, count, fallback=fallback)
            assert sent == len(expected)
            assert file.tell() == offset + sent
            transport.write(b" after")
            transport.close()
            assert await receiving == b"before " + expected + b" after"

    run(loop, main())


def test_buffered_bytes_leave_before_the_file(loop, run, file):
    """R74: order is kept though a megabyte is still waiting."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            receiving = asyncio.ensure_future(receive_all(far))
            transport.write(b"x" * 1_000_000)
            await loop.sendfile(transport, file)
            transport.close()
            assert await receiving == b"x" * 1_000_000 + DATA

    run(loop, main())


def test_write_during_sendfile_is_refused(loop, run, file):
    """Section 4: 'unable to write; sendfile is in progress'."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            assert not sending.done()
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"x")
            assert await receive(far, len(DATA)) == DATA
            await sending
            transport.write(b"fine again")
            assert await receive(far, 10) == b"fine again"

    run(loop, main())


def test_reading_is_paused_meanwhile_and_goes_on(loop, run, file):
    """R74: what arrives during sendfile is delivered after it."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            far.sendall(b"meanwhile")
            await turns()
            assert protocol.data == b""
            assert await receive(far, len(DATA)) == DATA
            await sending
            assert await protocol.received(9) == b"meanwhile"
            assert transport.is_reading()

    run(loop, main())


def test_file_like_object_falls_back(loop, run):
    """R74: io.BytesIO works, unless fallback=False."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            receiving = asyncio.ensure_future(receive(far, len(DATA)))
            source = io.BytesIO(DATA)
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(transport, source, fallback=False)
            assert await loop.sendfile(transport, source) == len(DATA)
            assert await receiving == DATA

    run(loop, main())


def test_peer_that_goes_ends_sendfile_with_an_error(loop, run, file):
    """R74: the caller gets it; the position says how far it came."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            far.close()
            with pytest.raises(OSError):
                await asyncio.wait_for(sending, 5)
            assert 0 < file.tell() < len(DATA)

    run(loop, main())


def test_cancelled_sendfile_leaves_the_transport_usable_for_abort(loop, run, file):
    """R74: nothing waits for a file that nobody sends."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            transport.abort()
            await protocol.closed()
            del far

    run(loop, main())


def test_closing_transport_is_refused(loop, run, file):
    """R74: RuntimeError 'Transport is closing'."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, _):
            transport.close()
            with pytest.raises(RuntimeError, match="closing"):
                await loop.sendfile(transport, file)

    run(loop, main())


def test_empty_file_and_end_of_file(loop, run, file):
    """R74: 0 bytes are sent at and past the end."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            assert await loop.sendfile(transport, file, len(DATA)) == 0
            with tempfile.TemporaryFile() as empty:
                assert await loop.sendfile(transport, empty) == 0
            transport.write(b"x")
            assert await receive(far, 1) == b"x"

    run(loop, main())


def test_sock_sendfile_over_a_full_socket(loop, run, file):
    """R74: sock_sendfile waits for room and counts."""

    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.settimeout(5)
            receiving = asyncio.ensure_future(receive(right, len(DATA)))
            assert await loop.sock_sendfile(left, file) == len(DATA)
            assert await receiving == DATA
            assert file.tell() == len(DATA)

    run(loop, main())
