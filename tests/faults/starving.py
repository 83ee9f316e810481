"""Run by test_descriptors.py in a child with fail.c preloaded: a machine that has no more of it.

    python -m tests.faults.starving backend trigger selector

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
from concurrent.futures import ThreadPoolExecutor

from tests.support.loops import LoopKind

CLIENTS = 5
OUT_OF_RESOURCES = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]
OF_THE_CONNECTION = ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "EINTR"]

shim = ctypes.CDLL(None)


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


async def serve_in_need(loop, error, reports):
    """The first accept fails; are all clients served, and when?"""
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    listener = server.sockets[0]
    began = loop.time()
    shim.fail_next(b"accept4", listener.fileno(), getattr(errno, error), 1)

    def ask():
        with socket.create_connection(listener.getsockname(), 5) as sock:
            return sock.recv(5) == b"hello"

    served = await asyncio.gather(*(loop.run_in_executor(None, ask) for _ in range(CLIENTS)))
    took_s = loop.time() - began
    assert not shim.left_to_fail(b"accept4", listener.fileno())
    mine = [
        [context["message"], context["exception"].errno]
        for context in reports
        if context["socket"].fileno() == listener.fileno()
    ]
    server.close()
    return {"served": sum(served), "waited": took_s >= 1, "reports": mine}


async def connect_in_need(loop, error):
    """The socket of a client cannot be made; then it can."""
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    shim.fail_next(b"socket", socket.AF_INET, getattr(errno, error), 1)
    try:
        await loop.create_connection(asyncio.Protocol, *address)
        raised = 0
    except OSError as exc:
        raised = exc.errno
    reader, writer = await asyncio.open_connection(*address)
    heard = await reader.read()
    writer.close()
    server.close()
    return {"raised": raised, "then": heard.decode()}


async def main(loop, reports):
    loop.set_default_executor(ThreadPoolExecutor(100))  # so that no client waits for another
    accepting = OUT_OF_RESOURCES + OF_THE_CONNECTION
    results = await asyncio.gather(*(serve_in_need(loop, error, reports) for error in accepting))
    connecting = {error: await connect_in_need(loop, error) for error in OUT_OF_RESOURCES}
    return {"accept": dict(zip(accepting, results)), "connect": connecting}


if __name__ == "__main__":
    backend, trigger, selector, bursts = sys.argv[1:]
    before = len(os.listdir("/proc/self/fd"))
    loop = LoopKind(backend, trigger, selector, bursts == "True").new()
    reports: list[dict] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    result = loop.run_until_complete(main(loop, reports))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    result["left open"] = len(os.listdir("/proc/self/fd")) - before
    print(json.dumps(result))
