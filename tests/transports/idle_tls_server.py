"""A server whose memory is looked at while its TLS connections are idle (test_tls.py, R73).

Run with a way to serve, "ssl" or the trigger of a mioloop loop, and a certificate with its key. It
prints its port; for each number read from standard input it waits until so many connections have
had an echo in all, and prints the bytes of memory that it has to itself.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
import threading
from typing import Any


def own_bytes() -> int:
    gc.collect()
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))


def answer_questions(served: Any) -> None:
    for line in sys.stdin:
        while len(served) < int(line):
            threading.Event().wait(0.001)
        print(own_bytes(), flush=True)


def serve_by_ssl(context: ssl.SSLContext) -> None:
    """What the ssl module needs by itself: its sockets, in a list."""
    served: list[ssl.SSLSocket] = []
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            client = context.wrap_socket(listener.accept()[0], server_side=True)
            client.sendall(client.recv(1024))
            served.append(client)

    threading.Thread(target=accept, daemon=True).start()
    answer_questions(served)


def serve_by_mioloop(context: ssl.SSLContext, trigger: str) -> None:
    import mioloop

    served: list[asyncio.Protocol] = []

    class Echo(asyncio.Protocol):
        __slots__ = ("transport",)

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            served.append(self)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, answer_questions, served)
        for protocol in served:
            protocol.transport.abort()
        server.close()

    mioloop.run(main(), trigger=trigger)


if __name__ == "__main__":
    way, certificate = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if way == "ssl":
        serve_by_ssl(context)
    else:
        serve_by_mioloop(context, way)
