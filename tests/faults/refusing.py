"""Run by test_descriptors.py in a child with fail.c preloaded: epoll_ctl() takes no more.

    python -m tests.faults.refusing trigger

Prints the results as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import socket
import sys

from tests.support.loops import LoopKind

shim = ctypes.CDLL(None)


class Protocol(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.lost.set_result(None if exc is None else errno.errorcode[exc.errno])


def refuse(fd, times=1):
    assert shim.fail_next(b"epoll_ctl", fd, errno.ENOSPC, times) == 0


async def connection(loop):
    shim.fail_no_more()
    left, right = socket.socketpair()
    right.setblocking(False)
    _, protocol = await loop.create_connection(Protocol, sock=left)
    return protocol, left.fileno(), right


async def blocked_write(loop, writes):
    """The system is full, and the poll refuses to tell when it is not."""
    other, _, other_right = await connection(loop)
    protocol, fd, right = await connection(loop)
    refuse(fd)
    for _ in range(writes):
        other.transport.write(b"other")
        protocol.transport.write(b"x" * (4_000_000 // writes))
    lost = await asyncio.wait_for(protocol.lost, 5)
    heard = await loop.sock_recv(other_right, 100)
    protocol.transport.write(b"ignored")
    other.transport.close()
    right.close()
    other_right.close()
    return [lost, heard.decode()[:5]]


async def served(loop):
    """Oneshot: the poll refuses to be armed again after an event."""
    protocol, fd, right = await connection(loop)
    refuse(fd)
    right.send(b"data")
    if loop.trigger == "oneshot":
        result = [await asyncio.wait_for(protocol.lost, 5), protocol.data.decode()]
    else:
        while not protocol.data:
            await asyncio.sleep(0.001)
        protocol.transport.pause_reading()  # level deregisters; its error is not reported
        protocol.transport.close()
        result = [await asyncio.wait_for(protocol.lost, 5), protocol.data.decode()]
    right.close()
    return result


async def closed(loop):
    """close() does not raise."""
    protocol, fd, right = await connection(loop)
    refuse(fd, 2)
    protocol.transport.close()
    lost = await asyncio.wait_for(protocol.lost, 5)
    right.close()
    return lost


async def resumed(loop):
    """resume_reading() raises to its caller, and can be called again."""
    protocol, fd, right = await connection(loop)
    protocol.transport.pause_reading()
    right.send(b"data")
    refuse(fd)
    raised = None
    try:
        protocol.transport.resume_reading()
    except OSError as exc:
        raised = errno.errorcode[exc.errno]
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()
    while not protocol.data:
        await asyncio.sleep(0.001)
    protocol.transport.close()
    await protocol.lost
    right.close()
    return raised


async def listening(loop, reports):
    """A listener that cannot be armed again tries later, and loses no client."""
    shim.fail_no_more()
    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    listener = server.sockets[0]
    refuse(listener.fileno())
    for _ in range(2):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.close()
        await writer.wait_closed()
    server.close()
    return [report["message"] for report in reports]


async def main(loop, reports):
    return {
        "one write": await blocked_write(loop, 1),
        "many writes": await blocked_write(loop, 100),
        "served": await served(loop),
        "closed": await closed(loop),
        "resumed": await resumed(loop),
        "reports": reports.copy(),
        "listening": await listening(loop, reports),
    }


if __name__ == "__main__":
    before = len(os.listdir("/proc/self/fd"))
    loop = LoopKind("mio", sys.argv[1], "epoll").new()
    reports: list[dict] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    result = loop.run_until_complete(main(loop, reports))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    result["left open"] = len(os.listdir("/proc/self/fd")) - before
    print(json.dumps(result))
