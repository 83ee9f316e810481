"""The table of workloads, and the cases of a run."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from mioloop.arguments import unknown

KIB = 1024
SPLIT_HEAD = 64         # bytes that `split-writes` sends before each echo, in a separate write

# Families: workloads that a run leaves out unless they are named or their option is given.
SCALING = "scaling"     # --scaling: does the cost of one grow with their number?
SPIN = "spin"           # --spin: latency, and its cost in processor time


@dataclass(frozen=True)
class Workload:
    """One operation that programs do with a loop.

    `side` names the measured process: "server" (under the C load generator), "client" (of the C
    baseline), "in_process" (without a peer), "idle" (memory of a server), "quiet" (processor time
    of a server without requests) or "import" (a new interpreter).
    """

    name: str
    text: str
    side: str = "server"
    transport: str = "tcp"
    protocol: str = "echo"
    tls: bool = False
    head_size: int = 0
    reconnect: bool = False
    active: int = 0             # connections with a request in flight; 0: all
    interval_s: float = 0.0     # least time between two requests of a connection
    sizes: tuple[int, ...] = (0,)
    connections: tuple[int, ...] = (0,)
    timers: tuple[int, ...] = (0,)
    quick: tuple[int, int] | None = (0, 0)      # size and connections; None: not in --quick
    requires: tuple[str, ...] = ()
    judged_by: str = "rate"                     # the compared field of a sample
    unit: str = "request"
    rounds: int = 9             # 9 is the least for an interval without the two extremes
    seconds: float = 0.25                       # length of a round
    family: str = ""

    @property
    def missing(self) -> list[str]:
        return [name for name in self.requires if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Case:
    """A workload with its parameters. Each loop has one figure for it."""

    workload: Workload
    size: int = 0
    connections: int = 0
    timers: int = 0

    @property
    def name(self) -> str:
        parts = [self.workload.name]
        if self.size:
            parts.append(f"{self.size // KIB} KiB" if self.size % KIB == 0 else f"{self.size} B")
        if self.connections or self.timers:
            parts.append(f"x {self.connections or self.timers:,}")
        return " ".join(parts)


_SIZES = (KIB, 10 * KIB, 100 * KIB)
_CONNECTIONS = (1, 64, 512)
_ECHO = {"sizes": _SIZES, "connections": _CONNECTIONS, "quick": (KIB, 64)}
_TIMERS = tuple(10**power for power in range(7))


def _in_process(name: str, text: str, unit: str, **more: object) -> Workload:
    return Workload(name, text, side="in_process", unit=unit, **more)  # type: ignore[arg-type]


WORKLOADS = (
    Workload("echo-protocol", "echo by asyncio.Protocol", **_ECHO),  # type: ignore[arg-type]
    Workload("echo-buffered", "echo by asyncio.BufferedProtocol", **_ECHO),  # type: ignore[arg-type]
    Workload("echo-streams", "echo by StreamReader, StreamWriter", **_ECHO),  # type: ignore[arg-type]
    Workload("echo-sock", "echo by sock_recv, sock_sendall", **_ECHO),  # type: ignore[arg-type]
    Workload(
        "unix", "echo by asyncio.Protocol on a Unix socket",
        transport="unix", sizes=(KIB,), connections=(1, 64), quick=(KIB, 64),
    ),
    Workload(
        "udp", "echo by asyncio.DatagramProtocol",
        transport="udp", sizes=(KIB,), connections=(1, 64), quick=(KIB, 64), unit="datagram",
    ),
    Workload(
        "tls", "echo by asyncio.Protocol under TLS",
        tls=True, sizes=_SIZES, connections=(64,), quick=(KIB, 64),
    ),
    Workload(
        "split-writes", "echo with a header: two writes for each answer",
        head_size=SPLIT_HEAD, sizes=(KIB,), connections=(1, 64), quick=(KIB, 64),
    ),
    Workload(
        "connect", "connect, echo, close",
        reconnect=True, sizes=(KIB,), connections=(64,), quick=(KIB, 64),
    ),
    Workload(
        "http", "an HTTP/1.1 asyncio.Protocol",
        protocol="http", connections=(1, 64, 512), quick=(0, 64),
    ),
    Workload(
        "http-split", "an HTTP/1.1 asyncio.Protocol, header and body in two writes",
        protocol="http", connections=(64,), quick=(0, 64),
    ),
    Workload(
        "aiohttp-server", "aiohttp.web, a short text",
        protocol="http", connections=(64,), quick=(0, 64), requires=("aiohttp",),
    ),
    Workload(
        "uvicorn-server", "uvicorn, a short text",
        protocol="http", connections=(64,), quick=(0, 64), requires=("uvicorn",),
    ),
    Workload(
        "aiohttp-client", "aiohttp.ClientSession against the C baseline",
        side="client", protocol="http", connections=(1, 64), quick=(0, 64), requires=("aiohttp",),
    ),
    _in_process("call-soon-chain", "each callback schedules the next", "callback"),
    _in_process("call-soon-batch", "1000 callbacks scheduled at once", "callback"),
    _in_process("call-soon-burst", "100,000 callbacks scheduled at once", "callback"),
    _in_process("sleep-0", "await asyncio.sleep(0)", "sleep"),
    _in_process("task-create", "100 tasks made and gathered", "task"),
    _in_process("task-switch", "100 tasks that take turns by sleep(0)", "switch"),
    _in_process("timers-cancelled", "call_later(60) and cancel()", "timer"),
    _in_process("timers-fired", "1000 timers that are due at once", "timer"),
    _in_process("timers-burst", "50,000 timers within a millisecond, all fired", "timer"),
    _in_process("timer-accuracy", "deviation of a timer of 100 us", "timer", judged_by="p50_s"),
    _in_process("wait-for", "wait_for() a coroutine that yields once", "call"),
    _in_process("queue", "put() and get() on asyncio.Queue", "item"),
    _in_process("call-soon-threadsafe", "a thread wakes the loop and waits for it", "wake-up"),
    _in_process("threadsafe-burst", "20,000 callbacks scheduled by a thread", "callback"),
    _in_process("executor", "run_in_executor() of an empty function", "call"),
    _in_process("socketpair", "1 KiB there and back by sock_sendall, sock_recv", "round trip"),
    _in_process("churn-protocol", "connections that their server closes at once, both ends in "
                "one process", "connection"),
    _in_process("churn-streams", "such connections by open_connection() and start_server()",
                "connection"),
    _in_process("subprocess", "a subprocess started and waited for", "process"),
    _in_process("chain-beside-idle", "each callback schedules the next, beside 64 idle "
                "connections", "callback"),
    _in_process("sleep-0-beside-idle", "await asyncio.sleep(0) beside 64 idle connections",
                "sleep"),
    _in_process("task-create-beside-idle", "100 tasks made and gathered, beside 64 idle "
                "connections", "task"),
    _in_process("stream-one-way", "1 MiB writes to a stream that a protocol reads", "MiB"),
    _in_process("tls-one-way", "1 MiB writes under TLS to a stream that a protocol reads", "MiB"),
    _in_process("sendfile", "loop.sendfile() of 1 MiB to a protocol", "MiB"),
    _in_process("udp-one-way", "datagrams of 1,200 bytes, 32 under way", "datagram"),
    _in_process("child-pipe", "1 MiB writes to a child, all read back", "MiB"),
    _in_process("websocket-broadcast", "a line to each of 100 clients of a WebSocket server",
                "message", requires=("websockets",)),
    *(
        _in_process(
            f"tokens-{server}-{responses}", f"{responses:,} open responses of {server}, a token "
            "to each every 20 ms, read by another process", "token", judged_by="p50_s",
            quick=None, requires=(server,), rounds=6,
        )
        for server in ("aiohttp", "uvicorn")
        for responses in (1000, 4000)
    ),
    _in_process("loop-creation", "a loop made and closed", "loop"),
    Workload("import", "a new interpreter imports asyncio and the loop", side="import",
             unit="import"),
    Workload(
        "idle", "resident bytes for each idle connection", side="idle", sizes=(KIB,),
        connections=(10_000,), quick=(KIB, 2000), judged_by="bytes", unit="connection",
        rounds=6,
    ),
    Workload(
        "idle-tls", "resident bytes for each idle TLS connection", side="idle", tls=True,
        sizes=(KIB,), connections=(10_000,), quick=None, judged_by="bytes", unit="connection",
        rounds=6,
    ),
    Workload(
        "ping-pong", "latency: one connection, one echo after the other", sizes=(KIB,),
        connections=(1,), quick=None, judged_by="p50_s", family=SPIN,
    ),
    Workload(
        "trickle", "latency: an echo each millisecond", sizes=(KIB,), connections=(1,),
        interval_s=0.001, quick=None, judged_by="p50_s", family=SPIN,
    ),
    Workload(
        "quiet", "share of a processor for 100 connections that send nothing", side="quiet",
        sizes=(KIB,), connections=(100,), quick=None, judged_by="", unit="second", family=SPIN,
    ),
    Workload(
        "scale-connections", "echo on 64 of many connections at a time, in turn", active=64,
        sizes=(KIB,), connections=(1, 10, 100, 1000, 10_000), quick=None, rounds=6,
        family=SCALING,
    ),
    _in_process(
        "scale-timers", "many timers made, all due, and run", "timer", timers=_TIMERS,
        quick=None, rounds=6, family=SCALING,
    ),
    _in_process(
        "scale-pending", "call_later() and cancel() while many timers wait", "timer",
        timers=_TIMERS, quick=None, rounds=6, family=SCALING,
    ),
)

BY_NAME = {workload.name: workload for workload in WORKLOADS}


def select(patterns: Sequence[str], families: Sequence[str] = ()) -> list[Workload]:
    """The workloads that match any of the shell patterns, in the order of the table.

    Without patterns, all workloads that belong to no family or to one of *families*.

    Raises:
        ValueError: a pattern matches no workload.
    """
    if not patterns:
        return [each for each in WORKLOADS if each.family in ("", *families)]
    for pattern in patterns:
        if not fnmatch.filter(BY_NAME, pattern):
            raise ValueError(unknown("workload", pattern, list(BY_NAME)))
    return [
        workload
        for workload in WORKLOADS
        if any(fnmatch.fnmatchcase(workload.name, pattern) for pattern in patterns)
    ]


def cases_of(
    workload: Workload,
    quick: bool = False,
    sizes: Sequence[int] = (),
    connections: Sequence[int] = (),
    timers: Sequence[int] = (),
) -> list[Case]:
    """The cases of a workload. A given sequence replaces the workload's own, if it has one."""
    own_sizes, own_connections = workload.sizes, workload.connections
    if quick:
        if workload.quick is None and not sizes and not connections:
            return []
        size, count = workload.quick or (own_sizes[0], own_connections[0])
        own_sizes, own_connections = (size,), (count,)
    if sizes and own_sizes != (0,):
        own_sizes = tuple(sizes)
    if connections and own_connections != (0,):
        own_connections = tuple(connections)
    own_timers = tuple(timers) if timers and workload.timers != (0,) else workload.timers
    return [
        Case(workload, size, count, waiting)
        for size in own_sizes
        for count in own_connections
        for waiting in own_timers
    ]
