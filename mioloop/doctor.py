"""``python -m mioloop doctor``: print the installed versions and features, and test each loop."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

from mioloop.arguments import Parser

FRAMEWORKS = (
    "uvloop", "aiohttp", "uvicorn", "starlette", "fastapi", "hypercorn", "sanic", "tornado",
    "websockets", "httpx", "anyio", "grpcio", "asyncpg", "redis", "pyzmq", "pytest-asyncio",
)
TIMEOUT_S = 10.0


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def untried() -> str:
    """A note for a Python on which mioloop's tests have not run; empty for the tested versions."""
    from mioloop.stdlib import FIRST, TRIED

    if FIRST <= sys.version_info[:2] <= TRIED:
        return ""
    versions = " to ".join(".".join(map(str, version)) for version in (FIRST, TRIED))
    return f" (this mioloop was tried on {versions})"


def kernel_features() -> dict[str, str]:
    """The kernel features that improve a loop, each with "yes" or the version that has it."""
    if not sys.platform.startswith("linux"):
        return {}
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    kernel = (int(found[1]), int(found[2])) if found else (0, 0)
    return {
        name: "yes" if kernel >= since else f"no, Linux {since[0]}.{since[1]} has it"
        for name, since in (
            ("epoll_pwait2 (timers below 1 ms)", (5, 11)),
            ("pidfd_open (subprocesses without threads)", (5, 3)),
        )
    }


def tls() -> str:
    """The engine of TLS connections, and the version of OpenSSL."""
    try:
        import ssl
    except ImportError:
        return "no: this Python has no ssl module"
    from mioloop.transports.tls_engine import engine_in_use

    try:
        return f"engine {engine_in_use()}, {ssl.OPENSSL_VERSION}"
    except (RuntimeError, ValueError) as exc:
        return f"FAILED: {exc}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def refused_by(answer: str, sysctl: str, status: str) -> str:
    """Say what forbids io_uring, as far as the system tells.

    *answer* is the name of the errno of io_uring_setup(2), *sysctl* the text of
    /proc/sys/kernel/io_uring_disabled, and *status* that of /proc/self/status.
    """
    if answer == "EPERM" and sysctl.strip() in ("1", "2"):
        whom = "everyone" if sysctl.strip() == "2" else "processes without privileges"
        return f"the sysctl kernel.io_uring_disabled={sysctl.strip()} forbids it to {whom}"
    if answer in ("EPERM", "EACCES", "ENOSYS") and re.search(r"^Seccomp:\s*2$", status, re.M):
        return "a seccomp filter forbids it, as container runtimes do"
    if answer in ("ENOSYS", "EINVAL", "EOPNOTSUPP"):
        return "the kernel lacks it or is older than Linux 5.12"
    if answer == "ENOMEM":
        return "the limit of locked memory is too low (ulimit -l)"
    if answer in ("EMFILE", "ENFILE"):
        return "there is no free descriptor"
    return "the system does not say why; it may be a security module"


def io_uring() -> str:
    """Whether one system call can serve several connections; if not, why."""
    from mioloop.reactor.reactor import io_uring_problem

    answer = io_uring_problem()
    if answer is None:
        return "yes"
    why = refused_by(
        answer, _read("/proc/sys/kernel/io_uring_disabled"), _read("/proc/self/status")
    )
    return f"no ({answer}): {why}"


async def _talk() -> None:
    """Use a timer and a thread, and send bytes through a socket and back."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.001)
    await loop.run_in_executor(None, os.getpid)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"hello")
    answer = await reader.read()
    writer.close()
    server.close()
    if answer != b"hello":
        raise RuntimeError(f"an echo server answered {answer!r} to b'hello'")


def check(**options: Any) -> str | None:
    """Test a loop with these options. Returns the problem, or None if the loop works."""
    from mioloop.factory import new_event_loop, run

    try:
        new_event_loop(**options).close()
        run(asyncio.wait_for(_talk(), TIMEOUT_S), **options)
    except ImportError as exc:
        return f"not available: {exc}"
    except Exception as exc:
        return f"FAILED: {type(exc).__name__}: {exc}"
    return None


def _selectors() -> list[str]:
    from mioloop.mio._core import ffi, lib

    names: list[str] = []
    while (name := lib.mio_selector_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def main(arguments: Sequence[str]) -> int:
    """Print the report. Returns 0 if every loop of mioloop works here, else 1."""
    Parser(
        prog="python -m mioloop doctor",
        description="Say what is installed here, and whether a loop works.",
    ).parse(arguments)
    from mioloop.options import LoopOptions

    def say(name: str, value: object) -> None:
        print(f"{name + ':':24} {value}")

    say("mioloop", version_of("mioloop"))
    say("Python", f"{platform.python_implementation()} {platform.python_version()}{untried()}")
    say("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    selectors = _selectors()
    say("selectors", f"{', '.join(selectors)} (default {selectors[0]})")
    say("triggers", f"edge, level, oneshot (default {LoopOptions.trigger})")
    for name, has in kernel_features().items():
        say("kernel", f"{name}: {has}")
    say("kernel", f"io_uring (one call for many connections): {io_uring()}")
    tls_says = tls()
    say("TLS", tls_says)
    for variable in (
        "MIOLOOP_BACKEND", "MIOLOOP_TRIGGER", "MIOLOOP_SELECTOR", "MIOLOOP_SPIN",
        "MIOLOOP_IO_URING", "MIOLOOP_STALL", "MIOLOOP_CONSOLE", "MIOLOOP_TLS_ENGINE",
    ):
        if os.environ.get(variable):
            say("environment", f"{variable}={os.environ[variable]}")
    installed = [f"{name} {version}" for name in FRAMEWORKS if (version := version_of(name))]
    say("frameworks", ", ".join(installed) or "none")

    failed = tls_says.startswith("FAILED")
    for selector in selectors:
        for trigger in ("edge", "level", "oneshot"):
            try:
                problem = check(backend="mio", selector=selector, trigger=trigger)
            except ValueError as exc:       # this build has no such pair
                problem = str(exc)
            failed |= bool(problem)
            say("loop", f"mio, {selector}, {trigger}: {problem or 'works'}")
    for backend in ("asyncio", "uvloop"):
        say("loop", f"{backend}: {check(backend=backend) or 'works'}")
    return int(failed)
