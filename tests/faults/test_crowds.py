"""Ten thousand connections that do nothing cost nothing, and are there when they are used."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys

import pytest

SPARE_DESCRIPTORS = 200

# Opens connections until its standard input ends; a line of it is sent over each, and the answers
# are compared.
CLIENTS = """
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port, count = map(int, sys.argv[1:])
socks = []
for _ in range(count):
    socks.append(socket.create_connection(("127.0.0.1", port), 60))
print("connected", flush=True)
for line in sys.stdin.buffer:
    for sock in socks:
        sock.sendall(line)
    for sock in socks:
        assert sock.recv(100) == line, "no answer"
    print("answered", flush=True)
"""


@pytest.fixture
def many_descriptors():
    """How many there may be, after the limit was raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.time_limit(240)
async def test_ten_thousand_idle_connections(mioloop_loop, many_descriptors):
    """R73's plain twin: no turn is spent on them, their memory is bounded, all of them answer."""
    loop = mioloop_loop
    count = min(10_000, many_descriptors - SPARE_DESCRIPTORS)
    lost = 0

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, exc):
            nonlocal lost
            lost += 1

    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    sources = loop.stats()["sources"]
    rss_before = resident_bytes()
    clients = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENTS, str(port), str(count)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert await clients.stdout.readline() == b"connected\n"
    while loop.stats()["sources"] < sources + count:
        await asyncio.sleep(0.01)
    idle = loop.stats()
    await asyncio.sleep(0.5)
    after = loop.stats()
    assert after["events"] - idle["events"] == 0
    assert after["polls"] - idle["polls"] <= 3
    per_connection = (resident_bytes() - rss_before) / count
    assert per_connection < 4096, f"{per_connection:.0f} bytes each"
    for line in (b"hello\n", b"again\n"):
        clients.stdin.write(line)
        assert await clients.stdout.readline() == b"answered\n"
    clients.stdin.close()
    assert await clients.wait() == 0
    while lost < count:
        await asyncio.sleep(0.01)
    server.close()
    await server.wait_closed()


def resident_bytes():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
