"""CPU per message of an echo server, loop against loop, measured pair by pair.

One server process a loop, all idle but the one whose round it is; one client process with N
connections, each with one message under way. Rounds are interleaved loop by loop; the ratio
to the base loop is taken within a round, then its median and spread over the rounds.

    python tests/bench/echo.py --rounds 9 --connections 64 --size 1024
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(262144))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(262144):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(kind: str) -> None:
    loop = asyncio.get_running_loop()
    if kind == "streams":
        server = await asyncio.start_server(echo_stream, "127.0.0.1", 0)
    else:
        factory = {"protocol": Echo, "buffered": BufferedEcho}[kind]
        server = await loop.create_server(factory, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Client(asyncio.Protocol):
    """Sends the next message when the last one came back whole."""

    def __init__(self, message: bytes, deadline: float, done: asyncio.Future[int]) -> None:
        self.message = message
        self.deadline = deadline
        self.done = done
        self.missing = 0
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.missing = len(self.message)
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        self.count += 1
        if time.monotonic() < self.deadline:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(self.count)


async def load(port: int, connections: int, size: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + seconds
    counts = [loop.create_future() for _ in range(connections)]
    for done in counts:
        await loop.create_connection(
            lambda done=done: Client(b"x" * size, deadline, done), "127.0.0.1", port
        )
    print(sum(await asyncio.gather(*counts)))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, in seconds: its CPUCLOCK_SCHED clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    import mioloop

    backend, _, trigger = name.partition("-")
    return mioloop.new_event_loop(
        backend="mio" if backend == "mioloop" else backend, trigger=trigger or None
    )


def run(name: str, main: object, cpu: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[cpu % os.cpu_count()]})
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="uvloop,mioloop", help="the first one is the base")
    parser.add_argument("--kind", choices=("protocol", "buffered", "streams"), default="protocol")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        run(args.serve, serve(args.kind), 0)
        return
    if args.load:
        run("mioloop", load(args.load, args.connections, args.size, args.seconds), 1)
        return

    names = args.loops.split(",")
    servers = {}
    try:
        for name in names:
            command = [sys.executable, __file__, "--serve", name, "--kind", args.kind]
            servers[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ports = {name: int(servers[name].stdout.readline()) for name in names}
        cpu_us: dict[str, list[float]] = {name: [] for name in names}
        rate: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(args.rounds + 1):
            for name in names:
                before = cpu_seconds(servers[name].pid)
                command = [sys.executable, __file__, "--load", str(ports[name])]
                for option in ("seconds", "connections", "size"):
                    command += [f"--{option}", str(getattr(args, option))]
                count = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                if turn:  # the first one warms up
                    spent = cpu_seconds(servers[name].pid) - before
                    cpu_us[name].append(spent / count * 1e6)
                    rate[name].append(count / args.seconds)
    finally:
        for server in servers.values():
            server.terminate()
            server.wait()
    base = names[0]
    print(f"{args.kind} echo, {args.size} B, {args.connections} connections, {args.rounds} rounds")
    for name in names:
        ratios = [a / b for a, b in zip(cpu_us[base], cpu_us[name])]
        rates = [a / b for a, b in zip(rate[name], rate[base])]
        print(
            f"{name:16} {statistics.median(cpu_us[name]):7.2f} us CPU/message"
            f"  {statistics.median(rate[name]):9.0f} messages/s"
            f"  CPU {statistics.median(ratios):.3f}x ({min(ratios):.3f}-{max(ratios):.3f})"
            f"  rate {statistics.median(rates):.3f}x ({min(rates):.3f}-{max(rates):.3f})"
        )


if __name__ == "__main__":
    main()
