"""Describes the machine of a comparison, so that a reader can judge and repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import ssl
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("uvloop", "aiohttp", "uvicorn", "httptools")


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def io_uring_problem() -> str | None:
    """The name of the errno with which the system refuses an io_uring; None if it allows one."""
    from mioloop.reactor.registry import io_uring_problem

    return io_uring_problem()


def describe(command: Sequence[str], modules: Iterable[str]) -> dict[str, Any]:
    packages = dict.fromkeys([*PACKAGES, *modules])
    return {
        "command": list(command),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "processors": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "openssl": ssl.OPENSSL_VERSION,
        "io_uring": f"refused: {problem}" if (problem := io_uring_problem()) else "allowed",
        "mioloop": version_of("mioloop"),
        "packages": {
            name: version for name in packages if (version := version_of(name)) is not None
        },
    }


def warnings_of_variables(ignored: Iterable[str]) -> list[str]:
    """*ignored*: the options of mioloop that were taken out of the environment."""
    warnings = [
        f"{variable} is ignored: a loop has the options of its name, e.g. --loops mioloop:level,"
        " and the defaults"
        for variable in ignored
    ]
    if engine := os.environ.get("MIOLOOP_TLS_ENGINE"):
        warnings.append(f"MIOLOOP_TLS_ENGINE={engine} decides how mioloop does TLS in this run")
    return warnings


def warnings_of(environment: dict[str, Any], pinned: bool) -> list[str]:
    """Describe each property of this machine that makes its figures less certain."""
    warnings = []
    if environment["load_average"] > 0.5:
        warnings.append(
            f"this machine was busy before the comparison began (load average"
            f" {environment['load_average']:.1f}): expect wide spreads"
        )
    if not pinned:
        warnings.append(
            "server and client share a processor: there is only one"
            if hasattr(os, "sched_setaffinity")
            else "server and client are not kept on separate processors: this system cannot pin"
        )
    if not sys.platform.startswith("linux"):
        warnings.append("processor time, memory and system calls are measured on Linux only")
    if hasattr(sys, "gettotalrefcount"):
        warnings.append("this is a debug build of Python, whose figures mean little")
    return warnings
