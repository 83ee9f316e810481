"""The time at which written data leaves: within write(), also after a callback that does not return
(R93), message by message where there are messages (R94), and once although the process forks (R95).

With many ready connections mioloop may gather the writes of their callbacks. These tests hold for
it, too, except for the first slow callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import select
import shutil
import socket
import subprocess
import sys
import termios
import textwrap
import threading
import time

import pytest

from tests.support.connections import connection, socket_pair
from tests.support.crowds import crowd
from tests.support.datagrams import DatagramRecorder
from tests.support.protocols import Recorder
from tests.support.waiting import turns

CROWD = 8
SLOW_S = 0.005
SENDS_AT_ONCE_S = 0.9      # after a slow callback; the loop promises a second

leaves_by_fork = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def arrived(far):
    """Return the bytes that the peer can read by now."""
    try:
        return far.recv(100)
    except BlockingIOError:
        return b""


def arrives(far):
    """Return the bytes that the peer can read while the calling callback waits for it."""
    return far.recv(100) if select.select([far], [], [], 0.5)[0] else b""


async def in_callback(loop, action):
    """The result of *action*, called as a callback of its own."""
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(action()))
    return await done


# -- one connection --------------------------------------------------------------------------------


@pytest.mark.parametrize("called_by", ["task", "call_soon", "call_later", "data_received"])
async def test_written_bytes_arrive_while_the_callback_goes_on(loop, kind, called_by):
    seen = []

    def act(transport, far):
        transport.write(b"head")
        seen.append(arrives(far))
        transport.write(b"body")
        seen.append(arrives(far))

    protocol = Recorder(loop, data_received=lambda *_: act(transport, far))
    async with connection(loop, protocol, kind) as (transport, far):
        for i in range(1, 11):
            if called_by == "task":
                act(transport, far)
            elif called_by == "call_soon":
                loop.call_soon(act, transport, far)
            elif called_by == "call_later":
                loop.call_later(0, act, transport, far)
            else:
                far.send(b"x")
            await protocol.until(lambda i=i: len(seen) == 2 * i)
        assert seen == [b"head", b"body"] * 10


async def test_written_bytes_arrive_over_tls_while_the_callback_goes_on(loop, tls):
    near, far = socket_pair("tcp")
    far.settimeout(5)

    def accept():
        peer = tls.server.wrap_socket(far, server_side=True)
        peer.recv(1)
        return peer

    accepting = loop.run_in_executor(None, accept)
    transport, protocol = await loop.create_connection(
        lambda: Recorder(loop), sock=near, ssl=tls.client, server_hostname="localhost")
    transport.write(b"x")
    with await accepting as peer:
        for _ in range(3):
            assert await in_callback(loop, lambda: (
                transport.write(b"now"), select.select([peer], [], [], 0.5)[0] == [peer])[1])
            assert peer.recv(100) == b"now"
        transport.abort()
        await protocol.closed()


@pytest.mark.parametrize("how", ["write", "writelines"])
async def test_bytes_written_to_a_pipe_arrive_while_the_callback_goes_on(loop, how):
    reader, writer = os.pipe()
    transport, protocol = await loop.connect_write_pipe(
        lambda: Recorder(loop), os.fdopen(writer, "wb", 0))
    for _ in range(3):
        if how == "write":
            transport.write(b"now")
        else:
            transport.writelines([b"n", b"ow"])
        assert select.select([reader], [], [], 0.5)[0]
        assert os.read(reader, 100) == b"now"
    transport.close()
    await protocol.closed()
    await turns(2)
    os.close(reader)


@leaves_by_fork
def test_written_bytes_arrive_though_the_process_ends_within_the_callback(loop_kind):
    near, far = socket.socketpair()
    far.settimeout(5)
    with near, far:
        child = os.fork()
        if child == 0:
            try:
                asyncio._set_running_loop(None)
                loop = loop_kind.new()

                async def main():
                    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
                    transport.write(b"bye")
                    os._exit(0)

                loop.run_until_complete(main())
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert far.recv(100) == b"bye"


def test_two_transports_on_one_pipe_keep_the_order_of_their_writes(loop, run):
    async def main():
        reader, writer = os.pipe()
        file = os.fdopen(writer, "wb", 0)
        one, _ = await loop.connect_write_pipe(lambda: Recorder(loop), file)
        two, _ = await loop.connect_write_pipe(lambda: Recorder(loop), file)
        one.write(b"1")
        two.write(b"2")
        one.write(b"3")
        await turns()
        assert os.read(reader, 100) == b"123"
        one.abort()
        two.abort()
        await turns()
        os.close(reader)

    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop takes the pipe out of the file object")
    run(loop, main())


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_with_one_connection_the_system_calls_are_asyncio_s(tmp_path):
    """A read, and each write() of its callback; then the next read."""
    program = textwrap.dedent("""
        import asyncio, socket, sys, mioloop
        loop = (asyncio.SelectorEventLoop if sys.argv[1] == "asyncio" else mioloop.new_event_loop)()
        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                self.transport.write(b"head")
                self.transport.write(b"body")
        async def main():
            server = await loop.create_server(Server, "127.0.0.1", 0)
            far = socket.create_connection(server.sockets[0].getsockname())
            far.setblocking(False)
            for i in range(20):
                far.sendto(b"request", socket.MSG_DONTWAIT, far.getpeername())
                answer = b""
                while len(answer) < 8:
                    await asyncio.sleep(0)
                    try:
                        answer += far.recvfrom(100)[0]
                    except BlockingIOError:
                        pass
        loop.run_until_complete(main())
    """)

    def calls(loop_name):
        traced = tmp_path / loop_name
        subprocess.run(
            ["strace", "-qq", "-o", traced, "-e", "trace=sendto,sendmsg,recvfrom,writev",
             sys.executable, "-c", program, loop_name],
            check=True, timeout=60)
        names = []
        for line in traced.read_text().splitlines():
            for text, name in (('"head"', "head"), ('"body"', "body"), ('"headbody"', "both"),
                               ('"request"', "request")):
                if (text in line and "NULL, NULL" in line) or (text in line and "NULL, 0" in line):
                    names.append((line.split("(")[0], name))
        return names

    assert calls("mioloop") == calls("asyncio")


@pytest.mark.parametrize("waits", [1, 4])
def test_sent_datagrams_arrive_while_the_callback_goes_on(loop, run, waits):
    """Also answers to several that had come together."""
    seen = []

    def answer(protocol, data, address):
        protocol.transport.sendto(data, address)
        seen.append((data, arrives(far)))

    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))

    async def main():
        protocol = DatagramRecorder(loop, datagram_received=answer)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, local_addr=("127.0.0.1", 0))
        for i in range(waits):
            far.sendto(b"%d" % i, transport.get_extra_info("sockname"))
        await protocol.until(lambda: len(seen) == waits)
        assert seen == [(b"%d" % i, b"%d" % i) for i in range(waits)]
        transport.close()
        await protocol.closed()

    with far:
        run(loop, main())


# -- the socket itself -----------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "has a pseudo-socket without shutdown()")
async def test_written_bytes_leave_before_the_program_s_own_on_that_socket(loop, kind):
    """R93: and before it shuts the socket down."""
    async with connection(loop, Recorder(loop), kind) as (transport, far):
        def act():
            sock = transport.get_extra_info("socket")
            transport.write(b"1")
            os.write(sock.fileno(), b"2")
            transport.write(b"3")
            sock.shutdown(socket.SHUT_WR)

        await in_callback(loop, act)
        data = b""
        while part := await loop.run_in_executor(None, far.recv, 100):
            data += part
        assert data == b"123"


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "given"])
def test_under_load_written_bytes_leave_before_the_program_s_own(loop, run, kind, accepted):
    def act(protocol, data):
        sock = protocol.transport.get_extra_info("socket")
        protocol.transport.write(b"1")
        os.write(sock.fileno(), b"2")
        protocol.transport.write(b"3")
        sock.shutdown(socket.SHUT_WR)

    async def main():
        async with crowd(loop, kind, count=CROWD, accepted=accepted, data_received=act) as many:
            many.send()
            assert await many.answers(3) == [b"123"] * CROWD

    run(loop, main())


async def test_under_load_written_bytes_leave_before_the_bytes_of_the_program_s_own_socket(loop):
    """It was made by the program, which goes on to use it."""

    def act(protocol, data):
        protocol.transport.write(b"1")
        protocol.near.send(b"2")
        protocol.transport.write(b"3")

    protocols, fars = [], []
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            near, far = socket_pair("unix")
            fars.append(stack.enter_context(far))
            protocol = Recorder(loop, data_received=act)
            protocol.near = near
            await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
            protocols.append(protocol)
        for far in fars:
            far.send(b"go")
        for protocol in protocols:
            await protocol.received(2)
        await turns(2)
        assert [arrives(far) for far in fars] == [b"123"] * CROWD
        for protocol in protocols:
            protocol.transport.abort()
            await protocol.closed()
            del protocol.near


@pytest.mark.parametrize("option", ["TCP_NODELAY", "TCP_CORK"])
async def test_options_of_the_socket_can_be_set_between_writes(loop, option):
    def act(protocol, data):
        sock = protocol.transport.get_extra_info("socket")
        protocol.transport.write(b"1")
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), 0)
        protocol.transport.write(b"2")
        assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == 0
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.getpeername() == protocol.transport.get_extra_info("peername")
        assert sock.getsockname() == protocol.transport.get_extra_info("sockname")
        assert "laddr=" in repr(sock)

    if not hasattr(socket, option):
        pytest.skip("the system has no such option")
    async with crowd(loop, count=CROWD, data_received=act) as many:
        many.send()
        assert await many.answers(2) == [b"12"] * CROWD


# -- many connections ------------------------------------------------------------------------------


def has_left(number, far):
    """Whether written bytes have left the process, although the system may not have delivered them.

    A busy system delivers late. Until the peer's side has the bytes, they count as unacknowledged.
    """
    unacknowledged = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))
    if any(unacknowledged):
        return True
    try:
        return bool(far.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("written_by", ["data_received", "task"])
async def test_under_load_at_most_the_first_slow_callback_holds_its_answer_back(
    loop, kind, written_by
):
    """R93: after it, the loop sends at once for a while, which a busy machine may outlast."""
    held, answered, ends = [], [], {}

    def answer(protocol):
        began_s = time.monotonic()
        protocol.transport.write(b"answer")
        time.sleep(SLOW_S)
        if not has_left(*ends[protocol]):
            held.append((began_s, time.monotonic()))
        answered.append(protocol)

    async def answer_later(protocol):
        answer(protocol)

    def received(protocol, data):
        if written_by == "task":
            tasks.append(loop.create_task(answer_later(protocol)))
        else:
            answer(protocol)

    tasks = []
    async with crowd(loop, kind, count=CROWD, accepted=False, data_received=received) as many:
        ends.update(zip(many.protocols, zip(many.numbers, many.fars)))
        for i in range(1, 6):
            many.send()
            await many.protocols[0].until(lambda i=i: len(answered) == i * CROWD)
            assert await many.answers(6) == [b"answer"] * CROWD
        for (_, ended_s), (began_s, _) in itertools.pairwise(held):
            assert began_s - ended_s > SENDS_AT_ONCE_S
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "given"])
def test_under_load_the_loop_gathers_while_no_callback_is_slow(mioloop_loop, run, accepted):
    """R93: the callbacks of one poll's events; the writes of each leave together, after them."""
    loop = mioloop_loop
    seen, fars = [], {}

    def act(protocol, data):
        protocol.transport.write(b"head")
        protocol.transport.write(b"body")
        seen.append(arrived(fars[protocol]))

    async def main():
        async with crowd(
            loop, "unix", count=CROWD, accepted=accepted, data_received=act
        ) as many:
            fars.update(zip(many.protocols, many.fars))
            for protocol in many.protocols:
                assert protocol.transport.get_extra_info("socket").family   # as libraries ask
            for _ in range(20):             # unless the machine was slow
                seen.clear()
                many.send()
                assert await many.answers(8) == [b"headbody"] * CROWD or any(seen)
                if not any(seen):
                    return
                await asyncio.sleep(0.3)
            raise AssertionError("nothing was gathered")

    run(loop, main(), 20)


@pytest.mark.parametrize("how", ["few", "timers", "debug", "asked"])
async def test_nothing_is_gathered_without_a_crowd(mioloop_loop, how):
    """Few connections; timers; debug mode; a socket that the program has asked for."""
    loop = mioloop_loop
    seen, fars = [], {}
    count = 2 if how == "few" else CROWD

    def act(protocol, data=None):
        protocol.transport.write(b"x")
        seen.append(arrived(fars[protocol]))

    def received(protocol, data):
        if how != "timers":
            act(protocol)

    async with crowd(loop, "unix", count=count, data_received=received) as many:
        fars.update(zip(many.protocols, many.fars))
        if how == "asked":
            for protocol in many.protocols:
                protocol.transport.get_extra_info("socket").fileno()
        if how == "debug":
            loop.set_debug(True)
            await turns()
        many.send()
        if how == "timers":
            for protocol in many.protocols:
                loop.call_later(0.001, act, protocol)
        await many.protocols[0].until(lambda: len(seen) == count)
        assert seen == [b"x"] * count


# -- records ---------------------------------------------------------------------------------------


def record_pair(kind):
    """(file to write to, function that reads one message)."""
    if kind == "packets":
        if not hasattr(os, "O_DIRECT"):
            pytest.skip("no pipes in packet mode here")
        reader, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)

        def close():
            os.close(reader)

        return os.fdopen(writer, "wb", 0), lambda: os.read(reader, 5000), close
    near, far = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
    far.setblocking(False)
    return near, lambda: far.recv(5000), far.close


@pytest.mark.parametrize("kind", ["SOCK_SEQPACKET", "SOCK_DGRAM", "packets"])
async def test_each_write_is_one_message(loop, kind):
    file, read, close = record_pair(kind)
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), file)
    for i in range(4):
        transport.write(b"message %d" % i)
    assert [read() for _ in range(4)] == [b"message %d" % i for i in range(4)]
    transport.abort()
    await protocol.closed()
    await turns(2)
    close()


@pytest.mark.known_difference("asyncio", "joins them")
@pytest.mark.known_difference("uvloop", "refuses sockets of records")
@pytest.mark.parametrize("kind", ["SOCK_SEQPACKET", "SOCK_DGRAM", "packets"])
async def test_messages_that_wait_stay_messages(loop, kind):
    """R94"""
    sent = [b"%05d" % i + bytes(1000) for i in range(1000)]
    file, read, close = record_pair(kind)
    transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), file)
    for message in sent:
        transport.write(message)
    assert transport.get_write_buffer_size() > 0
    got = []
    while len(got) < len(sent):
        with contextlib.suppress(BlockingIOError):
            while len(got) < len(sent):
                got.append(read())
                assert len(got[-1]) == 1005
        await asyncio.sleep(0)
    assert got == sent
    transport.abort()
    await protocol.closed()
    await turns(2)
    close()


# -- fork ------------------------------------------------------------------------------------------


@leaves_by_fork
@pytest.mark.known_difference("uvloop", "a forked loop does not end", run=False)
@pytest.mark.parametrize("child_ends", ["SystemExit", "close", "_exit"])
def test_data_written_before_a_fork_leaves_once(loop, run, kind, child_ends):
    """R95: neither the child nor its end sends it again."""
    children, parent = [], os.getpid()

    def act(protocol, data):
        protocol.transport.write(b"once.")
        if not children and protocol is many_protocols[-1]:
            children.append(os.fork())
            if children[0] == 0:
                if child_ends == "close":
                    for each in many_protocols:
                        each.transport.close()
                if child_ends == "SystemExit":
                    raise SystemExit(0)
                os._exit(0)

    many_protocols = []

    async def main():
        async with crowd(loop, kind, count=CROWD, data_received=act) as many:
            many_protocols[:] = many.protocols
            many.send()
            await many.answers(5)
            await many.protocols[0].until(lambda: children)
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
            assert [arrived(far) for far in many.fars] == [b""] * CROWD

    try:
        run(loop, main())
    except SystemExit:
        assert os.getpid() != parent
        os._exit(0)
    finally:
        if os.getpid() != parent:
            os._exit(1)


@leaves_by_fork
@pytest.mark.known_difference("uvloop", "a forked loop does not end", run=False)
async def test_data_that_a_loop_has_gathered_while_another_thread_forks_leaves_once(loop, kind):
    """R95: the parent sends it, and the child forgets it."""
    statuses = []

    def fork_elsewhere():
        child = os.fork()
        if child == 0:
            try:
                for protocol in protocols:
                    protocol.transport.abort()
            finally:
                os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def act(protocol, data):
        protocol.transport.write(b"once.")
        answered.append(protocol)
        if len(answered) == CROWD:
            thread = threading.Thread(target=fork_elsewhere)
            thread.start()
            thread.join()

    protocols, answered = [], []
    async with crowd(loop, kind, count=CROWD, data_received=act) as many:
        protocols[:] = many.protocols
        many.send()
        await many.answers(5)
        assert statuses == [0]
        await turns()
        assert [arrived(far) for far in many.fars] == [b""] * CROWD


# -- reading ahead ---------------------------------------------------------------------------------


def take_over(protocol):
    """A socket of the connection's, which the loop gives up."""
    protocol.transport.pause_reading()
    taken = socket.socket(fileno=os.dup(protocol.transport.get_extra_info("socket").fileno()))
    taken.setblocking(False)
    protocol.transport.abort()
    return taken


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "given"])
def test_connections_are_handed_over_with_their_unread_data(loop, run, kind, accepted):
    """R93: a callback takes the other sockets from the loop; their data is still in them."""
    taken = []

    def made(protocol, transport):
        if accepted:
            transport.get_extra_info("socket").fileno()     # the loop knows that we may

    def act(protocol, data):
        if not taken:
            taken.extend(take_over(other) for other in many_protocols if other is not protocol)

    many_protocols = []

    async def main():
        async with crowd(loop, kind, count=CROWD, accepted=accepted, data_received=act,
                         connection_made=made) as many:
            many_protocols[:] = many.protocols
            many.send()
            await many.protocols[0].until(lambda: taken)
            await turns(2)
            assert [arrived(sock) for sock in taken] == [b"request"] * (CROWD - 1)
            for sock in taken:
                sock.close()

    run(loop, main())


@pytest.mark.parametrize("how", ["asked", "given"])
def test_a_datagram_socket_is_handed_over_with_its_unread_datagrams(loop, run, how):
    taken = []

    def take(protocol, data, address):
        if not taken:
            sock = protocol.transport.get_extra_info("socket")
            taken.append(socket.socket(fileno=os.dup(sock.fileno())))
            protocol.transport.abort()

    async def main():
        protocol = DatagramRecorder(loop, datagram_received=take)
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        near.bind(("127.0.0.1", 0))
        near.setblocking(False)
        if how == "given":
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=near)
        else:
            near.close()
            transport, _ = await loop.create_datagram_endpoint(
                lambda: protocol, local_addr=("127.0.0.1", 0))
            transport.get_extra_info("socket")      # the loop knows that we may
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            for i in range(4):
                far.sendto(b"%d" % i, transport.get_extra_info("sockname"))
        await protocol.closed()
        await turns(2)
        with taken[0] as sock:
            sock.setblocking(False)
            assert [arrived(sock) for _ in range(4)] == [b"1", b"2", b"3", b""]

    run(loop, main())


async def test_a_program_that_hands_over_late_loses_no_more_than_once(mioloop_loop):
    """The loop reads ahead until a program asks for the socket of a connection that it read for."""
    loop = mioloop_loop
    taken = []

    def act(protocol, data):
        if not taken:
            taken.extend(take_over(other) for other in many_protocols if other is not protocol)

    many_protocols = []
    for round in range(3):
        async with crowd(loop, count=CROWD, data_received=act) as many:
            many_protocols[:] = many.protocols
            many.send()
            await many.protocols[0].until(lambda: taken)
            await turns(2)
            if round:
                assert [arrived(sock) for sock in taken] == [b"request"] * (CROWD - 1)
            for sock in taken:
                sock.close()
            taken.clear()


async def test_connections_that_end_with_bytes_unread_are_reset(loop):
    """Another connection's callback ends them before they get their data."""
    ended = []

    def act(protocol, data):
        if not ended:
            ended.extend(other for other in many_protocols if other is not protocol)
            for other in ended:
                other.transport.abort()

    many_protocols = []
    async with crowd(loop, count=CROWD, data_received=act) as many:
        many_protocols[:] = many.protocols
        many.send()
        await many.protocols[0].until(lambda: ended)
        for protocol in ended:
            await protocol.closed()
        await turns(2)
        for protocol, far in zip(many.protocols, many.fars):
            if protocol in ended:
                with pytest.raises(ConnectionResetError):
                    far.recv(100)
