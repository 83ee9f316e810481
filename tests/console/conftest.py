"""A directory for sockets, and servers in their own processes, which block when a test says so."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mioloop.console import client, place

PROGRAM = '''
import asyncio, os, sys
import mioloop

async def serve(reader, writer):
    while line := await reader.readline():
        if line == b"block\\n":
            block(writer)
        writer.write(line)
        await writer.drain()
    writer.close()

def block(writer):
    writer.write(b"blocking\\n")
    wait_for_the_test()

def wait_for_the_test():
    os.read(0, 1)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()

mioloop.run(main())
'''


class Server:
    """A process that runs `PROGRAM`, or another program that prints a line when it is ready."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | environment,
        )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().strip()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.first_line)), timeout=10)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """The loop of the server is blocked in here."""
        with self.connect() as sock:
            sock.sendall(b"block\n")
            assert sock.recv(100) == b"blocking\n"
            try:
                yield
            finally:
                self.release()
            assert sock.recv(100) == b"block\n"

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=10)


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one directory for the sockets of this test's processes. Its path must be short."""
    base = tempfile.mkdtemp(prefix="mio")
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    directory = os.path.join(base, f"mioloop-{os.geteuid()}")
    monkeypatch.setattr(place, "directories", lambda uid: [directory])
    yield Path(directory)
    shutil.rmtree(base)


@pytest.fixture
def start(sockets: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def start(program: str = PROGRAM, *options: str, **environment: str) -> Server:
        server = Server(
            [*options, "-c", program], {"MIOLOOP_CONSOLE": "1", "MIOLOOP_STALL": ""} | environment
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


def ask(pid: int, what: str, **more: object) -> dict[str, object]:
    with client.connect(pid) as connection:
        return connection.ask(what, **more)
