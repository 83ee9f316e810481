"""Pipe transports: R75 and R76."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import pty
import socket
import tty

import pytest

from tests.support.protocols import Recorder
from tests.support.waiting import turns

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


@pytest.mark.known_difference("uvloop", "has transport types of its own")
async def test_pipe_transports_are_asyncio_s(loop, pipe):
    """R75: isinstance of asyncio.ReadTransport and asyncio.WriteTransport."""
    for connect, file, kind in (
        (loop.connect_read_pipe, pipe[0], asyncio.ReadTransport),
        (loop.connect_write_pipe, pipe[1], asyncio.WriteTransport),
    ):
        transport, protocol = await connect(lambda: Recorder(loop), file)
        assert isinstance(transport, kind)
        await close(protocol)


async def test_bytes_are_read_from_a_pipe(loop, pipe):
    """R76: data, eof_received, connection_lost(None)."""
    reader, writer = pipe
    transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
    assert transport.get_extra_info("pipe") is not None
    os.write(writer.fileno(), b"one")
    assert await protocol.received(3) == b"one"
    os.write(writer.fileno(), b"two")
    writer.close()
    assert await protocol.closed() is None
    assert protocol.data == b"onetwo"
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
    await turns(2)


async def test_bytes_are_written_to_a_pipe(loop, pipe):
    """R76: in order, more than the pipe holds; close() flushes."""
    reader, writer = pipe
    data = os.urandom(MIB)

    def read_all():
        chunks = []
        while chunk := os.read(reader.fileno(), 65536):
            chunks.append(chunk)
        return b"".join(chunks)

    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    reading = loop.run_in_executor(None, read_all)
    transport.write(data)
    transport.write(b"end")
    transport.write(b"")
    transport.close()
    assert await reading == data + b"end"
    assert await protocol.closed() is None
    await turns(2)


async def test_read_pipe_can_be_paused(loop, pipe):
    """R53 for pipes."""
    reader, writer = pipe
    transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
    transport.pause_reading()
    os.write(writer.fileno(), b"data")
    await turns()
    assert protocol.data == b""
    transport.resume_reading()
    assert await protocol.received(4) == b"data"
    await close(protocol)


async def test_flow_control_of_a_write_pipe(loop, pipe):
    """R52 for pipes: pause above high, resume below low, sizes counted."""
    reader, writer = pipe
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


async def test_reader_that_goes_closes_the_write_pipe(loop, pipe):
    """R76: connection_lost without a write, None if nothing was unsent."""
    reader, writer = pipe
    _, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    reader.close()
    assert await protocol.closed() is None
    await turns(2)


async def test_reader_that_goes_with_bytes_unsent_is_a_broken_pipe(loop, pipe):
    """R76: connection_lost(BrokenPipeError)."""
    reader, writer = pipe
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    transport.write(b"x" * MIB)
    await turns()
    reader.close()
    assert isinstance(await protocol.closed(), (BrokenPipeError, ConnectionResetError))
    await turns(2)


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
@pytest.mark.parametrize("way", ["connect_read_pipe", "connect_write_pipe"])
async def test_regular_file_is_refused(loop, tmp_path, way):
    """R75, section 4: 'Pipe transport is for pipes/sockets only.'"""
    with open(tmp_path / "file", "wb+") as file:
        with pytest.raises(ValueError, match="[Pp]ipe transport is"):
            await getattr(loop, way)(asyncio.Protocol, file)
        await turns()


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
async def test_dev_null_can_be_written(loop):
    """R75: a character device that no selector takes."""
    with open(os.devnull, "wb", 0) as null:
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), null)
        transport.write(b"into the void" * 1000)
        transport.close()
        assert await protocol.closed() is None
        await turns(2)


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
async def test_dev_null_that_is_read_does_not_end_the_process(loop, reports):
    """R75: connects, then EPERM is reported; no abort."""
    with open(os.devnull, "rb", 0) as null:
        try:
            transport, _ = await loop.connect_read_pipe(lambda: Recorder(loop), null)
        except OSError:
            return
        await turns()
        transport.close()
        await turns()


async def test_socket_is_a_pipe_too(loop):
    """R75: both directions over a socket pair."""
    left, right = socket.socketpair()
    _, reading = await loop.connect_read_pipe(lambda: Recorder(loop), left)
    transport, writing = await loop.connect_write_pipe(lambda: Recorder(loop), right)
    transport.write(b"x" * 300_000)
    transport.write_eof()
    assert await reading.closed() is None
    assert reading.data == b"x" * 300_000
    await writing.closed()
    await turns(2)


async def test_terminal_that_hangs_up_is_not_reported(loop):
    """R76: EIO of a pseudo-terminal."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    _, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), open(master, "rb", 0))
    os.write(slave, b"hello")
    assert await protocol.received(5) == b"hello"
    os.close(slave)
    await protocol.closed()
    await turns(2)


@pytest.mark.known_difference("asyncio", "some of them raise")
@pytest.mark.known_difference("uvloop", "some of them raise")
async def test_no_method_raises_after_the_end(loop, pipe):
    """R47 for pipes."""
    reader, writer = pipe
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


async def test_stream_reader_over_a_pipe(loop, pipe):
    """connect_read_pipe with StreamReaderProtocol, as for standard input."""
    reader, writer = pipe
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


# -- the descriptor --------------------------------------------------------------------------------


async def test_pipe_object_is_closed_once_and_its_number_is_free(loop):
    """R33: closed when connection_lost has been called, and not again when it is in use anew."""
    ends = os.pipe()
    reading, reader = await loop.connect_read_pipe(
        lambda: Recorder(loop), open(ends[0], "rb", 0)
    )
    writing, writer = await loop.connect_write_pipe(
        lambda: Recorder(loop), open(ends[1], "wb", 0)
    )
    for transport, protocol in ((reading, reader), (writing, writer)):
        transport.close()
        await protocol.closed()
    await turns(2)
    again = os.pipe()
    assert sorted(again) == sorted(ends)
    del reading, writing, reader, writer, transport, protocol
    gc.collect()
    await turns(2)
    for fd in again:
        os.fstat(fd)
        os.close(fd)


@pytest.mark.parametrize("way", ["connect_read_pipe", "connect_write_pipe"])
def test_unclosed_transport_warns_and_closes(mioloop_kind, no_leaked_descriptor, way):
    """R61: ResourceWarning at __del__, and the pipe is closed."""
    loop = mioloop_kind.new()
    ends = os.pipe()
    mine, other = ends if way == "connect_read_pipe" else reversed(ends)
    file = open(mine, "rb" if way == "connect_read_pipe" else "wb", 0)
    transport, protocol = loop.run_until_complete(getattr(loop, way)(lambda: Recorder(loop), file))
    loop.close()
    del protocol
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    assert file.closed
    os.close(other)


@pytest.mark.known_difference("uvloop", "another type of error, or an abort", run=False)
async def test_refused_file_is_not_closed(loop, tmp_path):
    """R75: fstat comes first; the caller that opened the file still has it."""
    with open(tmp_path / "file", "wb+") as file:
        for way in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(ValueError, match="[Pp]ipe transport is"):
                await way(asyncio.Protocol, file)
        file.write(b"still open")


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
async def test_dev_null_cannot_be_polled_and_stays_open(loop, reports):
    """R75: it connects, EPERM is reported once, and close() works."""
    with open(os.devnull, "rb", 0) as null:
        transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), null)
        await turns()
        assert [type(report["exception"]) for report in reports] == [PermissionError]
        assert not transport.is_closing()
        assert protocol.calls == ["connection_made"]
        transport.close()
        assert await protocol.closed() is None
        await turns(2)


@pytest.fixture
def terminal():
    """A pseudo-terminal in raw mode: our descriptor, and the other side's."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    yield master, slave
    os.close(slave)


@pytest.mark.known_difference("uvloop", "two handles on one descriptor", run=False)
async def test_terminal_is_read_and_written_by_one_descriptor(loop, terminal):
    """R75: a transport for each direction; closing one leaves the other."""
    master, slave = terminal
    file = open(master, "rb+", 0)
    keep = open(os.dup(master), "rb+", 0)
    reading, reader = await loop.connect_read_pipe(lambda: Recorder(loop), file)
    writing, writer = await loop.connect_write_pipe(lambda: Recorder(loop), file)
    writing.write(b"to the slave")
    os.write(slave, b"to the master")
    assert await reader.received(13) == b"to the master"
    assert os.read(slave, 100) == b"to the slave"
    reading.close()
    await reader.closed()
    writing.close()
    await writer.closed()
    await turns(2)
    keep.close()


@pytest.mark.parametrize("order", ["transport first", "reader first"])
@pytest.mark.known_difference("uvloop", "refuses add_reader", run=False)
async def test_terminal_may_be_watched_beside_its_write_transport(loop, terminal, order):
    """R75: add_reader() on a terminal that has a write transport."""
    master, slave = terminal
    seen = []
    file = open(master, "rb+", 0)
    if order == "reader first":
        loop.add_reader(master, lambda: seen.append(os.read(master, 100)))
    writing, writer = await loop.connect_write_pipe(lambda: Recorder(loop), file)
    if order == "transport first":
        loop.add_reader(master, lambda: seen.append(os.read(master, 100)))
    os.write(slave, b"x")
    writing.write(b"y")
    await writer.until(lambda: seen)
    assert seen == [b"x"]
    assert os.read(slave, 100) == b"y"
    loop.remove_reader(master)
    writing.close()
    await writer.closed()
    await turns(2)


async def test_lines_of_a_terminal_are_all_read(loop):
    """R76: a terminal gives a line at a time, however much waits: a short read is not the end."""
    master, slave = pty.openpty()
    os.write(master, b"".join(b"line %d\n" % i for i in range(20)))
    file = open(slave, "rb", 0)
    transport, protocol = await loop.connect_read_pipe(lambda: Recorder(loop), file)
    await protocol.until(lambda: protocol.data.count(b"\n") == 20)
    transport.close()
    await protocol.closed()
    os.close(master)
    await turns(2)


# -- callbacks -------------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "closes the transport")
async def test_failing_data_received_is_reported_and_reading_goes_on(loop, pipe, reports):
    """R13, R55: for a pipe it is a callback as any other."""
    reader, writer = pipe

    def fail_once(protocol, data):
        if data == b"one":
            raise ZeroDivisionError

    transport, protocol = await loop.connect_read_pipe(
        lambda: Recorder(loop, data_received=fail_once), reader
    )
    os.write(writer.fileno(), b"one")
    await protocol.until(lambda: reports)
    os.write(writer.fileno(), b"two")
    assert await protocol.received(6) == b"onetwo"
    transport.close()
    await protocol.closed()
    await turns(2)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


async def test_pause_in_data_received_holds_for_all_that_waits(loop, pipe):
    """R53: no further call until resume_reading(), which delivers data that an edge announced."""
    reader, writer = pipe
    transport, protocol = await loop.connect_read_pipe(
        lambda: Recorder(loop, data_received=lambda p, _: p.transport.pause_reading()), reader
    )
    for i in range(5):
        os.write(writer.fileno(), b"%d" % i)
        await protocol.received(1)
        await turns(2)
        assert protocol.calls.count("data_received") == 1
    transport.resume_reading()
    assert await protocol.received(5) == b"01234"
    writer.close()
    await turns(2)
    assert not protocol.eof.done()
    transport.resume_reading()
    assert await protocol.closed() is None
    await turns(2)


async def test_read_callbacks_share_one_context(loop, pipe):
    """R58: data_received() sees the context variables that the previous call set."""
    reader, writer = pipe
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def count(*_):
        seen.append(variable.get())
        variable.set(variable.get() + 1)

    transport, protocol = await loop.connect_read_pipe(
        lambda: Recorder(loop, data_received=count), reader
    )
    for i in range(3):
        os.write(writer.fileno(), b"x")
        await protocol.received(i + 1)
    assert seen == [0, 1, 2]
    transport.close()
    await protocol.closed()
    await turns(2)


# -- writing ---------------------------------------------------------------------------------------


def test_write_while_the_loop_does_not_run_leaves_at_once(loop, pipe):
    """R59: there is no callback to wait for."""
    reader, writer = pipe
    transport, protocol = loop.run_until_complete(
        loop.connect_write_pipe(lambda: Recorder(loop), writer)
    )
    os.set_blocking(reader.fileno(), False)
    transport.write(b"now")
    assert os.read(reader.fileno(), 10) == b"now"
    transport.close()
    loop.run_until_complete(protocol.closed())
    loop.run_until_complete(turns(2))


@pytest.mark.known_difference("asyncio", "resumes when all has left")
@pytest.mark.known_difference("uvloop", "resumes when all has left")
async def test_writing_resumes_at_the_low_mark(loop, pipe):
    """R52: not only when the buffer is empty."""
    reader, writer = pipe
    at_resume = []
    transport, protocol = await loop.connect_write_pipe(
        lambda: Recorder(
            loop,
            resume_writing=lambda p: at_resume.append(p.transport.get_write_buffer_size()),
        ),
        writer,
    )
    transport.set_write_buffer_limits(high=300_000, low=200_000)
    transport.write(b"x" * 500_000)
    await turns()
    assert "pause_writing" in protocol.calls
    while not at_resume:
        await loop.run_in_executor(None, os.read, reader.fileno(), 65536)
        await turns(2)
    assert 0 < at_resume[0] <= 200_000
    transport.abort()
    await protocol.closed()
    await turns(2)


@pytest.mark.known_difference("uvloop", "another text")
async def test_write_after_close_is_ignored_and_warned_about(loop, pipe, caplog):
    """R47: from the fifth on."""
    reader, writer = pipe
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    transport.write(b"sent")
    transport.write_eof()
    assert transport.can_write_eof()
    for _ in range(7):
        transport.write(b"ignored")
    await protocol.closed()
    await turns(2)
    assert reader.read() == b"sent"
    assert "pipe closed by peer or os.write(pipe, data) raised exception." in caplog.text


@pytest.mark.known_difference("uvloop", "sends it")
async def test_write_after_close_does_not_hold_up_earlier_data(loop, pipe):
    """R47, R48: the reader is slower than close(), and still gets it all; the pipe is closed."""
    reader, writer = pipe
    read_transport, received = await loop.connect_read_pipe(lambda: Recorder(loop), reader)
    read_transport.pause_reading()
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    transport.write(bytes(MIB))
    await turns()
    transport.close()
    transport.write(b"ignored")
    await turns()
    read_transport.resume_reading()
    assert await protocol.closed() is None
    assert await received.closed() is None
    assert received.data == bytes(MIB)
    await turns(2)


@pytest.mark.known_difference("asyncio", "AssertionError")
@pytest.mark.known_difference("uvloop", "None is no data", only=("None",))
@pytest.mark.parametrize("data", [None, "text", 3], ids=repr)
async def test_data_of_another_type_than_bytes_is_a_type_error(loop, pipe, data):
    """R49: and the transport stays as it was."""
    _, writer = pipe
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
    with pytest.raises(TypeError):
        transport.write(data)
    assert not transport.is_closing()
    await close(protocol)
