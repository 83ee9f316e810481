"""A server whose memory is measured while its TLS connections are idle (test_tls.py, R73).

Run with a certificate with its key, and with "ssl", "bio", or options of mioloop.run() as
NAME=VALUE. It prints its port; for each number read from standard input it waits until so many
connections have had an echo in all, and prints the bytes of memory that it has to itself.
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
        return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Anonymous:"))


def answer_questions(served: Any) -> None:
    for line in sys.stdin:
        while len(served) < int(line):
            threading.Event().wait(0.001)
        print(own_bytes(), flush=True)


def shake_hands_by_bio(context: ssl.SSLContext, sock: socket.socket) -> Any:
    """The socket and the ssl module's objects around it, after an echo."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_side=True)

    def until_done(step: Any, *args: Any) -> Any:
        while True:
            try:
                return step(*args)
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
            finally:
                if outgoing.pending:
                    sock.sendall(outgoing.read())

    until_done(session.do_handshake)
    until_done(session.write, until_done(session.read, 1024))
    return sock, session, incoming, outgoing


def serve_by_ssl(context: ssl.SSLContext, by_bio: bool) -> None:
    """The objects that the ssl module needs by itself, in a list."""
    served: list[Any] = []
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while by_bio:
            served.append(shake_hands_by_bio(context, listener.accept()[0]))
        while True:
            client = context.wrap_socket(listener.accept()[0], server_side=True)
            client.sendall(client.recv(1024))
            served.append(client)

    threading.Thread(target=accept, daemon=True).start()
    answer_questions(served)


def serve_by_loop(context: ssl.SSLContext, options: dict[str, str]) -> None:
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

    mioloop.run(main(), **options)


if __name__ == "__main__":
    certificate, *way = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if way in (["ssl"], ["bio"]):
        serve_by_ssl(context, way == ["bio"])
    else:
        serve_by_loop(context, dict(option.split("=") for option in way))
