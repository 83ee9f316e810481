"""Load on one server for a few seconds: wrk if it is installed, else `http_client`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from dataclasses import dataclass

CLIENTS = ("wrk", "python")
GRACE_S = 10.0      # extra time for the client to start and to end


class LoadError(Exception):
    """The load generator itself failed, or its output could not be parsed."""


@dataclass(frozen=True)
class Load:
    """The figures of one run of the load generator."""

    requests: int
    errors: int
    seconds: float
    p50_s: float
    p99_s: float


def default_client() -> str:
    return "wrk" if shutil.which("wrk") else "python"


async def generate(client: str, url: str, connections: int, seconds: int) -> Load:
    """GET *url* over *connections* keep-alive connections for *seconds* seconds.

    Raises:
        LoadError: the client could not be run.
    """
    if client == "wrk":
        output = await _output_of(
            *("wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", url), seconds=seconds
        )
        return parse_wrk(output)
    output = await _output_of(
        *(sys.executable, "-m", "examples.compare_loops.http_client", url),
        *("--connections", str(connections), "--seconds", str(seconds)),
        seconds=seconds,
    )
    return Load(**json.loads(output))


async def _output_of(*command: str, seconds: int) -> str:
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    except FileNotFoundError:
        raise LoadError(f"{command[0]} is not installed") from None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds + GRACE_S)
    except BaseException as exc:
        process.kill()
        await process.wait()
        if isinstance(exc, asyncio.TimeoutError):
            raise LoadError(f"{command[0]} did not end in {seconds + GRACE_S:g} s") from None
        raise
    if process.returncode != 0:
        raise LoadError(f"{command[0]} ended with exit code {process.returncode}")
    return output.decode()


_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def parse_wrk(output: str) -> Load:
    """The figures in the output of `wrk --latency`, which has error lines only if there were
    errors."""

    def seconds_at(percentile: int) -> float:
        number, unit = _found(rf"^ +{percentile}% +([\d.]+)(us|ms|s|m)$", output)
        return float(number) * _UNITS_S[unit]

    requests, duration, unit = _found(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", output)
    socket_errors = re.search(r"Socket errors: (.*)", output)
    bad_statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    errors = sum(map(int, re.findall(r"\d+", socket_errors[1]))) if socket_errors else 0
    errors += int(bad_statuses[1]) if bad_statuses else 0
    return Load(
        requests=int(requests),
        errors=errors,
        seconds=float(duration) * _UNITS_S[unit],
        p50_s=seconds_at(50),
        p99_s=seconds_at(99),
    )


def _found(pattern: str, output: str) -> tuple[str, ...]:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise LoadError(f"wrk printed nothing like {pattern!r}:\n{output}")
    return match.groups()
