"""Pipe transports: R75 and R76."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import tty

import pytest
from recording import Recorder, turns

MIB = 1 << 20


@pytest.fixture
def pipe():
    """Both ends of a pipe, as files."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reader, open(write_end, "wb", 0) as writer:
        yield reader, writer


async def close(protocol):
    if not protocol.lost.done():
        protocol.transport.close()
    await protocol.closed()
    await turns(2)


def test_bytes_are_read_from_a_pipe(loop, run, pipe):
    """R76: data, eof_received, connection_lost(None)."""
    reader, writer = pipe

    async def main():
        transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
        assert isinstance(transport, asyncio.ReadTransport) or "uvloop" in type(loop).__module__
        assert transport.get_extra_info("pipe") is not None
        os.write(writer.fileno(), b"one")
        assert await protocol.received(3) == b"one"
        os.write(writer.fileno(), b"two")
        writer.close()
        assert await protocol.closed() is None
        assert protocol.data == b"onetwo"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        await turns(2)

    run(loop, main())


def test_bytes_are_written_to_a_pipe(loop, run, pipe):
    """R76: in order, more than the pipe holds; close() flushes."""
    reader, writer = pipe
    data = os.urandom(MIB)

    def read_all():
        chunks = []
        while chunk := os.read(reader.fileno(), 65536):
            chunks.append(chunk)
        return b"".join(chunks)

    async def main():
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        reading = loop.run_in_executor(None, read_all)
        transport.write(data)
        transport.write(b"end")
        transport.write(b"")
        transport.close()
        assert await reading == data + b"end"
        assert await protocol.closed() is None
        await turns(2)

    run(loop, main())


def test_read_pipe_can_be_paused(loop, run, pipe):
    """R53 for pipes."""
    reader, writer = pipe

    async def main():
        transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
        transport.pause_reading()
        os.write(writer.fileno(), b"data")
        await turns()
        assert protocol.data == b""
        transport.resume_reading()
        assert await protocol.received(4) == b"data"
        await close(protocol)

    run(loop, main())


def test_flow_control_of_a_write_pipe(loop, run, pipe):
    """R52 for pipes: pause above high, resume below low, sizes counted."""
    reader, writer = pipe

    async def main():
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        transport.set_write_buffer_limits(high=1000, low=100)
        transport.write(b"x" * 200_000)
        await turns()
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() > 1000
        left = 200_000
        while left:
            left -= len(await loop.run_in_executor(None, os.read, reader.fileno(), left))
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() == 0
        await close(protocol)

    run(loop, main())


def test_reader_that_goes_closes_the_write_pipe(loop, run, pipe):
    """R76: connection_lost without a write, None if nothing was unsent."""
    reader, writer = pipe

    async def main():
        _, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        reader.close()
        assert await protocol.closed() is None
        await turns(2)

    run(loop, main())


def test_reader_that_goes_with_bytes_unsent_is_a_broken_pipe(loop, run, pipe):
    """R76: connection_lost(BrokenPipeError)."""
    reader, writer = pipe

    async def main():
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        transport.write(b"x" * MIB)
        await turns()
        reader.close()
        assert isinstance(await protocol.closed(), (BrokenPipeError, ConnectionResetError))
        await turns(2)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
@pytest.mark.parametrize("way", ["connect_read_pipe", "connect_write_pipe"])
def test_regular_file_is_refused(loop, run, tmp_path, way):
    """R75, section 4: 'Pipe transport is for pipes/sockets only.'"""

    async def main():
        with open(tmp_path / "file", "wb+") as file:
            with pytest.raises(ValueError, match="[Pp]ipe transport is"):
                await getattr(loop, way)(asyncio.Protocol, file)
            await turns()

    run(loop, main())


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
def test_dev_null_can_be_written(loop, run):
    """R75: a character device that no selector takes."""

    async def main():
        with open(os.devnull, "wb", 0) as null:
            transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), null)
            transport.write(b"into the void" * 1000)
            transport.close()
            assert await protocol.closed() is None
            await turns(2)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
def test_dev_null_that_is_read_does_not_end_the_process(loop, run, reports):
    """R75: connects, then EPERM is reported; no abort."""

    async def main():
        with open(os.devnull, "rb", 0) as null:
            try:
                transport, _ = await loop.connect_read_pipe(lambda: Recorder(loop), null)
            except OSError:
                return
            await turns()
            transport.close()
            await turns()

    run(loop, main())


def test_socket_is_a_pipe_too(loop, run):
    """R75: both directions over a socket pair."""

    async def main():
        left, right = socket.socketpair()
        _, reading = await loop.connect_read_pipe(lambda: Recorder(loop), left)
        transport, writing = await loop.connect_write_pipe(lambda: Recorder(loop), right)
        transport.write(b"x" * 300_000)
        transport.write_eof()
        assert await reading.closed() is None
        assert reading.data == b"x" * 300_000
        await writing.closed()
        await turns(2)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "reports it", strict=False)
def test_terminal_that_hangs_up_is_not_reported(loop, run):
    """R76: EIO of a pseudo-terminal."""

    async def main():
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        _, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), open(master, "rb", 0))
        os.write(slave, b"hello")
        assert await protocol.received(5) == b"hello"
        os.close(slave)
        await protocol.closed()
        await turns(2)

    run(loop, main())


@pytest.mark.known_difference("asyncio", "some of them raise", strict=False)
@pytest.mark.known_difference("uvloop", "some of them raise", strict=False)
def test_no_method_raises_after_the_end(loop, run, pipe):
    """R47 for pipes."""
    reader, writer = pipe

    async def main():
        reading, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
        writing, other = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        for state in ("closing", "lost"):
            for transport in (reading, writing):
                transport.close()
                assert transport.is_closing()
                transport.get_extra_info("pipe")
                repr(transport)
            reading.pause_reading()
            reading.resume_reading()
            for _ in range(6):
                writing.write(b"x")
            writing.write_eof()
            writing.get_write_buffer_size()
            writing.abort()
            if state == "closing":
                await protocol.closed()
                await other.closed()
        await turns(2)

    run(loop, main())


def test_stream_reader_over_a_pipe(loop, run, pipe):
    """connect_read_pipe with StreamReaderProtocol, as for standard input."""
    reader, writer = pipe

    async def main():
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), reader
        )
        os.write(writer.fileno(), b"one\ntwo\n")
        assert await stream.readline() == b"one\n"
        assert await stream.readline() == b"two\n"
        writer.close()
        assert await stream.read() == b""
        transport.close()
        await turns()

    run(loop, main())
