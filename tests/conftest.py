"""The loops that one test body is run on, and the accounts that are checked when it ends.

A test that asks for ``loop`` runs on asyncio, on uvloop and on mioloop with each trigger and
selector; its assertions hold on all three. Where one of them is known to differ, the test says so,
and fails when the difference goes away::

    @pytest.mark.known_difference("uvloop", "runs the timer first")

A test that is an ``async def`` runs on the loop that it asks for, for at most ten seconds, or as
many as ``@pytest.mark.time_limit(seconds)`` allows. A test that does something before or after the
loop runs is a plain function, and calls ``run(loop, coroutine)``.

A test of mioloop alone asks for ``mioloop_loop``. ``loop_kind`` and ``mioloop_kind`` are for tests
that make their own loops.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import importlib.util
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.loops import LOOP_KINDS, MIOLOOP_KINDS, LoopKind

T = TypeVar("T")
Report = dict[str, Any]

HERE = Path(__file__).parent

# Left in loop.stats() by a loop that was closed: anything but zero is a leak.
ZERO_WHEN_CLOSED = ("ready", "sources", "timers")


QUICK_KINDS = ("asyncio", "mioloop-edge-epoll")
# Tests that start servers and other programs, and modules that take the longest.
NOT_QUICK = (
    "compare", "docs", "examples", "frameworks", "fuzz", "loop/test_dismantling.py",
    "loop/test_handle_chains.py", "mio/test_model.py", "services",
    "test_compatibility.py", "transports/test_churn.py", "transports/test_leaks_of_transports.py",
    "transports/test_tls_malformed.py", "transports/test_transport_machine.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sanitized",
        action="store_true",
        help="the native modules have sanitizers: leave out what cannot run so, and other loops",
    )
    parser.addoption(
        "--quick",
        action="store_true",
        help="only asyncio and mioloop with its default trigger and selector; no slow tests",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    quick = config.getoption("--quick")
    return True if quick and collection_path in [HERE / name for name in NOT_QUICK] else None


def is_left_out(item: pytest.Item) -> bool:
    """True if the options of the command line leave *item* out."""
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    config = item.config
    if config.getoption("--sanitized"):
        kind = params.get("loop_kind")
        if item.get_closest_marker("unsanitized") or (kind and kind.name != "mioloop"):
            return True
    if config.getoption("--quick"):
        kinds = [params[name] for name in ("loop_kind", "mioloop_kind") if name in params]
        return bool(
            item.get_closest_marker("slow")
            or params.get("selector") == "poll"
            or any(str(kind) not in QUICK_KINDS for kind in kinds)
        )
    return False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]


def pytest_configure(config: pytest.Config) -> None:
    # With either of them pytest shows the whole difference between unequal values, which takes
    # minutes of one core, and as much memory, for a megabyte.
    for name in ("CI", "BUILD_NUMBER"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:   # run in the background, by a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "unsanitized(reason): cannot run with sanitizers; left out with --sanitized."
    )
    config.addinivalue_line("markers", "slow: takes a second or more; left out with --quick.")
    config.addinivalue_line(
        "markers",
        "time_limit(seconds): of the coroutine of an `async def` test; 10 without this mark.",
    )
    config.addinivalue_line(
        "markers",
        "known_difference(loop, reason, *, since=None, until=None, when=True, only=(), but=(), "
        "strict=True, run=True)"
        ": this loop ('asyncio', 'uvloop' or 'mioloop') is expected to fail the test, on Python "
        "since..until (tuples, both inclusive), if `when` is true, for the parameters with ids "
        "that contain one of the words `only` and none of the words `but`; strict=False if chance "
        "decides; run=False if it would crash or hang.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on the loop that it asks for."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in inspect.signature(pyfuncitem.obj).parameters
    }
    loop = arguments.get("loop") or arguments.get("mioloop_loop")
    if loop is None:
        return None     # a test of pytest-asyncio or anyio
    mark = pyfuncitem.get_closest_marker("time_limit")
    run_on(loop, pyfuncitem.obj(**arguments), *(mark.args if mark else ()))
    return True


def expect_known_difference(request: pytest.FixtureRequest, kind: LoopKind) -> None:
    for mark in request.node.iter_markers("known_difference"):
        loop_name, why = mark.args
        since, until = mark.kwargs.get("since"), mark.kwargs.get("until")
        if loop_name != kind.name:
            continue
        if not mark.kwargs.get("when", True):
            continue
        if since is not None and sys.version_info[: len(since)] < since:
            continue
        if until is not None and sys.version_info[: len(until)] > until:
            continue
        only, but = mark.kwargs.get("only", ()), mark.kwargs.get("but", ())
        parameters = request.node.callspec.id
        if only and not any(word in parameters for word in only):
            continue
        if any(word in parameters for word in but):
            continue
        reason = f"{loop_name}: known difference: {why}"
        if not mark.kwargs.get("run", True):
            pytest.xfail(reason)
        strict = mark.kwargs.get("strict", True)
        request.applymarker(pytest.mark.xfail(reason=reason, strict=strict))


# -- accounts ------------------------------------------------------------------------------------


def open_descriptors() -> dict[int, str]:
    """Return each open descriptor of this process, and the file that it refers to."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listdir itself had open
            continue
    return descriptors


@pytest.fixture(scope="module", autouse=True)
def cheap_collections() -> Iterator[None]:
    """Exclude the objects that existed before a module's tests from each of their collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def descriptors_of_the_process() -> None:
    """libuv opens a pipe with a process's first loop, and keeps it: the pipe is not a leak."""
    if importlib.util.find_spec("uvloop"):
        importlib.import_module("uvloop").new_event_loop().close()


@pytest.fixture
def no_leaked_descriptor() -> Iterator[None]:
    """Fails the test that leaves a descriptor open."""
    before = open_descriptors()
    yield
    gc.collect()
    leaked = {fd: to for fd, to in open_descriptors().items() if before.get(fd) != to}
    assert not leaked, f"descriptors left open: {leaked}"


@pytest.fixture
def reports() -> list[Report]:
    """The reports of the loop's exception handler. A test that does not ask for it expects none."""
    return []


def checked_loop(
    request: pytest.FixtureRequest, kind: LoopKind, reports: list[Report]
) -> Iterator[asyncio.AbstractEventLoop]:
    loop = kind.new()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    try:
        yield loop
    finally:
        if not loop.is_closed():
            loop.set_task_factory(None)
            loop.set_debug(False)
            try:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
                gc.collect()  # futures and tasks with an unread exception report it now
            finally:
                loop.close()
    if kind.name == "mioloop":
        stats = loop.stats()  # type: ignore[attr-defined]
        left = {name: stats[name] for name in ZERO_WHEN_CLOSED if stats[name]}
        assert not left, f"the closed loop still holds {left}"
    if "reports" not in request.node.fixturenames:
        assert not reports, f"the loop reported {reports}"


# -- loops ---------------------------------------------------------------------------------------


@functools.cache
def make_process_wide_descriptors(kind: LoopKind) -> None:
    """libuv opens a pipe with the first loop of a process, and keeps it."""
    loop = kind.new()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(params=LOOP_KINDS, ids=str)
def loop_kind(request: pytest.FixtureRequest) -> LoopKind:
    kind: LoopKind = request.param
    if kind.backend == "uvloop":
        pytest.importorskip("uvloop")
        make_process_wide_descriptors(kind)
    expect_known_difference(request, kind)
    return kind


@pytest.fixture(params=MIOLOOP_KINDS, ids=str)
def mioloop_kind(request: pytest.FixtureRequest) -> LoopKind:
    kind: LoopKind = request.param
    return kind


@pytest.fixture
def loop(
    request: pytest.FixtureRequest,
    loop_kind: LoopKind,
    no_leaked_descriptor: None,
    reports: list[Report],
) -> Iterator[asyncio.AbstractEventLoop]:
    yield from checked_loop(request, loop_kind, reports)


@pytest.fixture
def mioloop_loop(
    request: pytest.FixtureRequest,
    mioloop_kind: LoopKind,
    no_leaked_descriptor: None,
    reports: list[Report],
) -> Iterator[Any]:
    yield from checked_loop(request, mioloop_kind, reports)


def run_on(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], timeout_s: float = 10.0
) -> T:
    """The coroutine's result; TimeoutError if it takes too long."""
    return loop.run_until_complete(asyncio.wait_for(coroutine, timeout_s))


@pytest.fixture
def run() -> Callable[..., Any]:
    """``run(loop, coroutine, timeout_s=10)``: the result of a coroutine, in bounded time."""
    return run_on
