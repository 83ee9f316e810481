"""Every extension type of mioloop, made, copied and derived from as no program should."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys

import pytest

import mioloop

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement of Python

# A loop is made of these, and a program may derive a class from it. A program merges histograms.
MADE_FREELY = (
    "Histogram",
    "HandleOwner", "Registry", "CallQueue", "LoopServices", "Reactor", "SockReactor",
    "WatchingReactor", "ToolsReactor", "MeasuringReactor", "TracingReactor", "NativeLoop",
)


@functools.cache
def extension_types():
    types = {}
    for module in pkgutil.walk_packages(mioloop.__path__, "mioloop."):
        if module.name.startswith(("mioloop.compare", "mioloop.__main__")):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and not value.__flags__ & HEAP_TYPE:
                if value.__module__.startswith("mioloop."):
                    types[value.__qualname__] = value
    return types


def sealed_types():
    return [cls for name, cls in extension_types().items() if name not in MADE_FREELY]


def test_all_extension_types_are_found():
    names = extension_types()
    assert {"Handle", "TimerHandle", "StreamTransport", "TlsTransport", "SockCall"} <= set(names)
    assert set(MADE_FREELY) <= set(names)


@pytest.mark.parametrize("cls", sealed_types(), ids=lambda cls: cls.__qualname__)
def test_only_mioloop_makes_its_objects(cls):
    """An empty object would be of no use, and its methods trust that it is not empty."""
    for make in (
        cls,
        lambda: cls.__new__(cls),
        lambda: object.__new__(cls),
        lambda: cls(1, 2, three=3),
        lambda: type(cls.__name__, (cls,), {})(),
        lambda: type(cls.__name__, (cls,), {"__slots__": ()}).__new__(cls),
    ):
        with pytest.raises(TypeError):
            make()
    for base in cls.__mro__[1:-1]:
        with pytest.raises(TypeError):
            base.__new__(cls)


USE_EVERYTHING = """
import inspect, sys
from tests_of import extension_types

cls = extension_types()[sys.argv[1]]
for empty in cls(), cls.__new__(cls), type("Derived", (cls,), {})():
    for name in dir(cls):
        if name in ("__class__", "__init_subclass__", "__subclasshook__", "__new__"):
            continue
        for arguments in (
            (), (None,), (1,), (print,), (1, print), ([], None), (1, 2, 3), (1, 2, 3, 4)
        ):
            try:
                value = getattr(empty, name)
                result = value(*arguments) if callable(value) else setattr(empty, name, arguments)
                if inspect.iscoroutine(result):
                    result.close()
            except Exception:
                pass
print("alive")
"""


@pytest.mark.parametrize("name", MADE_FREELY)
def test_an_object_that_was_not_initialized_raises_and_never_crashes(name, tmp_path):
    """NativeLoop.__new__() alone, and then each of its methods and attributes."""
    (tmp_path / "tests_of.py").write_text(
        "import functools, importlib, pkgutil\nimport mioloop\nHEAP_TYPE = 1 << 9\n"
        + inspect.getsource(extension_types)
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", USE_EVERYTHING, name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout[-6:]) == (0, "alive\n"), done.stderr[-2000:]


@pytest.mark.parametrize(
    "clone",
    [copy.copy, copy.deepcopy, *(functools.partial(pickle.dumps, protocol=i) for i in range(6))],
    ids=["copy", "deepcopy", *(f"pickle{i}" for i in range(6))],
)
def test_handles_transports_and_loops_are_not_copied(mioloop_loop, pair_of_transports, clone):
    """A copy would share the parts of one object: TypeError, and the original works on."""
    loop = mioloop_loop
    ran = []
    soon, later = loop.call_soon(ran.append, 1), loop.call_later(0, ran.append, 2)
    threadsafe = loop.call_soon_threadsafe(ran.append, 3)
    for original in (soon, later, threadsafe, *pair_of_transports, loop, loop.sock_recv(None, 1)):
        with pytest.raises(TypeError):
            clone(original)
        if hasattr(original, "close") and original is not loop:
            original.close()
    loop.run_until_complete(mioloop_sleep())
    assert sorted(ran) == [1, 2, 3]


async def mioloop_sleep():
    import asyncio

    await asyncio.sleep(0.01)


@pytest.fixture
def pair_of_transports(mioloop_loop):
    import asyncio
    import socket

    left, right = socket.socketpair()

    async def connect():
        transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, sock=left)
        datagram, _ = await mioloop_loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        return transport, datagram

    transports = mioloop_loop.run_until_complete(connect())
    yield transports
    for transport in transports:
        transport.close()
    mioloop_loop.run_until_complete(mioloop_sleep())
    right.close()
