"""A load generator for machines without wrk: one GET after another on keep-alive connections.

    python -m examples.compare_loops.http_client http://127.0.0.1:8080/json --seconds 3

Prints one JSON object: requests, errors, seconds, p50_s, p99_s. An answer counts if its status is
200 and its body is as long as its Content-Length. Any other answer is an error and ends its
connection, and a new connection takes its place. Runs on asyncio's own loop, for every loop of
the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from array import array
from urllib.parse import urlsplit

TIMEOUT_S = 2.0         # an answer that takes longer is an error, as in wrk
MAX_RECONNECTS = 100    # a server that refuses everything must not become a busy loop

_HEADER = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\ncontent-length: *(\d+)\r\n", re.DOTALL | re.I)


class Totals:
    """The counts of all connections so far."""

    def __init__(self) -> None:
        self.latencies_s = array("d")
        self.errors = 0
        self.over = False       # time is up: no lost connection and no answer counts any more


class Connection(asyncio.Protocol):
    """Sends *request*, waits for the whole answer, and repeats this."""

    def __init__(self, request: bytes, totals: Totals) -> None:
        self._request = request
        self._totals = totals
        self._unparsed = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        end_of_headers = self._unparsed.find(b"\r\n\r\n")
        if end_of_headers < 0:
            return
        header = _HEADER.match(self._unparsed, 0, end_of_headers + 2)
        if header is None or header[1] != b"200":
            self._fail()
            return
        excess = len(self._unparsed) - (end_of_headers + 4 + int(header[2]))
        if excess > 0:
            self._fail()
        elif excess == 0 and not self._totals.over:
            self._totals.latencies_s.append(time.perf_counter() - self._sent_at)
            self._unparsed = b""
            self._send()

    def _fail(self) -> None:
        assert self._transport is not None
        self._transport.abort()     # connection_lost counts it

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._totals.over:
            self._totals.errors += 1
        if not self.lost.done():        # done already if time was up and the waiter was cancelled
            self.lost.set_result(None)

    def end(self) -> None:
        """Time is up: drop the answer that has not come; it is an error if it is overdue."""
        if time.perf_counter() - self._sent_at > TIMEOUT_S:
            self._totals.errors += 1
        if self._transport is not None:
            self._transport.abort()


async def keep_connected(host: str, port: int, request: bytes, totals: Totals) -> None:
    """Keep one connection open: make a new one when it is lost."""
    loop = asyncio.get_running_loop()
    for _ in range(MAX_RECONNECTS):
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(request, totals), host, port
            )
        except OSError:
            totals.errors += 1
            continue
        try:
            await connection.lost
        except asyncio.CancelledError:
            connection.end()
            raise


async def measure(url: str, connections: int, seconds: float) -> dict[str, float]:
    """GET *url* for *seconds* seconds; returns the figures under the names of `load.Load`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    totals = Totals()
    started_at = time.perf_counter()
    tasks = [
        asyncio.ensure_future(keep_connected(host, port, request, totals))
        for _ in range(connections)
    ]
    await asyncio.wait(tasks, timeout=seconds)
    elapsed_s = time.perf_counter() - started_at
    totals.over = True
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
    ordered = sorted(totals.latencies_s) or [0.0]
    return {
        "requests": len(totals.latencies_s),
        "errors": totals.errors,
        "seconds": elapsed_s,
        "p50_s": ordered[len(ordered) // 2],
        "p99_s": ordered[len(ordered) * 99 // 100],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="GET a URL again and again on every connection.")
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.url, options.connections, options.seconds))))


if __name__ == "__main__":
    main()
