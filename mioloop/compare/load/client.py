"""Python classes and functions for the C load generator and the C server."""

from __future__ import annotations

import ctypes.util
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mioloop.compare.load._load import ffi, lib

TRANSPORTS = {"tcp": lib.MIO_LOAD_TCP, "unix": lib.MIO_LOAD_UNIX, "udp": lib.MIO_LOAD_UDP}
PROTOCOLS = {"echo": lib.MIO_LOAD_ECHO, "http": lib.MIO_LOAD_HTTP}


class LoadError(Exception):
    """Requests failed; the message describes the first failure."""


def _check(result: int, subject: str) -> None:
    if result < 0:
        raise OSError(-result, f"{subject}: {os.strerror(-result)}")


def libssl() -> str:
    """Return the path of the libssl that Python's ssl module uses.

    Raises LoadError if Python is linked with it statically.
    """
    assert ssl.OPENSSL_VERSION      # importing ssl has loaded the library
    try:
        for line in Path("/proc/self/maps").read_text().splitlines():
            if "/libssl" in line:
                return line.split(maxsplit=5)[5]
    except OSError:     # not Linux
        located = ctypes.util.find_library("ssl")
        if located:
            return located
    raise LoadError("this Python has no shared libssl, which the load generator's TLS needs")


def make_certificate(path: str) -> None:
    """Write a new self-signed certificate for localhost and its key to one PEM file."""
    _check(lib.mio_tls_make_certificate(libssl().encode(), path.encode()), "certificate")


@contextmanager
def _tls(certificate: str | None) -> Iterator[Any]:
    out = ffi.new("mio_tls **")
    pem = ffi.NULL if certificate is None else ffi.new("char[]", certificate.encode())
    _check(lib.mio_tls_open(libssl().encode(), pem, out), "TLS")
    try:
        yield out[0]
    finally:
        lib.mio_tls_close(out[0])


@contextmanager
def open_load(
    *,
    transport: str,
    protocol: str,
    address: str,
    port: int = 0,
    tls: bool = False,
    size: int = 0,
    head_size: int = 0,
    connections: int = 1,
    active: int = 0,
    interval_s: float = 0.0,
    reconnect: bool = False,
    request: bytes = b"",
    timeout_s: float = 5.0,
) -> Iterator[Load]:
    """A context manager that opens the connections of a `Load`, and closes them at the end.

    Raises LoadError if a connection cannot be made.
    """
    text = ffi.new("char[]", address.encode())
    data = ffi.from_buffer(request)
    options: dict[str, Any] = {
        "transport": TRANSPORTS[transport],
        "protocol": PROTOCOLS[protocol],
        "address": text,
        "port": port,
        "connections": connections,
        "active": min(active, connections),
        "interval_ns": int(interval_s * 1e9),
        "reconnect": reconnect,
        "request": data,
        "request_size": len(request) or size,
        "head_size": head_size,
        "timeout_ns": int(timeout_s * 1e9),
    }
    if tls:
        with _tls(None) as options["tls"]:
            yield from _connected(options)
    else:
        yield from _connected(options)


def _connected(options: dict[str, Any]) -> Iterator[Load]:
    out = ffi.new("mio_load **")
    try:
        _check(lib.mio_load_open(ffi.new("mio_load_options *", options), out), "load generator")
        load = Load(out[0])
        load.connect()
        yield load
    finally:
        lib.mio_load_close(out[0])


class Load:
    """A load generator with open connections. `run` sends requests on them."""

    def __init__(self, load: Any) -> None:
        self._load = load

    @property
    def message(self) -> str:
        text: bytes = ffi.string(lib.mio_load_message(self._load))
        return text.decode(errors="replace")

    def connect(self) -> None:
        result = lib.mio_load_connect(self._load)
        if result < 0:
            raise LoadError(self.message or os.strerror(-result))

    def run(self, seconds: float) -> dict[str, float]:
        """Send requests for *seconds* seconds, and wait until the last of them is answered.

        Raises LoadError if a request failed.
        """
        result = ffi.new("mio_load_result *")
        code = lib.mio_load_run(self._load, int(seconds * 1e9), result)
        if code < 0:
            raise LoadError(f"the load generator ended early: {os.strerror(-code)}")
        if result.failures:
            total = result.requests + result.failures
            raise LoadError(f"{result.failures:,} of {total:,} requests failed; {self.message}")
        return {
            "requests": result.requests,
            "elapsed_s": result.elapsed_ns * 1e-9,
            "p50_s": result.p50_ns * 1e-9,
            "p99_s": result.p99_ns * 1e-9,
            "p999_s": result.p999_ns * 1e-9,
            "max_s": result.max_ns * 1e-9,
        }


def serve_baseline(
    announce: Any,
    *,
    transport: str,
    protocol: str,
    address: str,
    certificate: str | None = None,
    head_size: int = 0,
    response: bytes = b"",
) -> None:
    """Run the C server until the process is killed. Call `announce(port)` once it listens."""
    text, data = ffi.new("char[]", address.encode()), ffi.from_buffer(response)
    options: dict[str, Any] = {
        "transport": TRANSPORTS[transport],
        "protocol": PROTOCOLS[protocol],
        "address": text,
        "head_size": head_size,
        "response": data,
        "response_size": len(response),
    }
    if certificate is None:
        _serve(options, announce)
        return
    with _tls(certificate) as options["tls"]:
        _serve(options, announce)


def _serve(options: dict[str, Any], announce: Any) -> None:
    out = ffi.new("mio_baseline **")
    given = ffi.new("mio_baseline_options *", options)
    _check(lib.mio_baseline_open(given, out), "baseline server")
    try:
        announce(lib.mio_baseline_port(out[0]))
        _check(lib.mio_baseline_serve(out[0]), "baseline server")
    finally:
        lib.mio_baseline_close(out[0])


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends, where that is supported."""
    lib.mio_die_with_parent()
