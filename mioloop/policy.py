"""Choosing a loop: backend, trigger and selector, by argument, environment or default."""

from __future__ import annotations

import asyncio
import functools
import os
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mioloop import stdlib
from mioloop.loop.event_loop import EventLoop
from mioloop.options import LoopOptions

T = TypeVar("T")

BACKENDS = ("mio", "uvloop", "asyncio")

def new_event_loop(
    *,
    backend: str | None = None,
    trigger: str | None = None,
    selector: str | None = None,
    spin: float | None = None,
    io_uring: bool | None = None,
) -> asyncio.AbstractEventLoop:
    """A new event loop.

    An option that is None is taken from the environment (MIOLOOP_BACKEND, MIOLOOP_TRIGGER,
    MIOLOOP_SELECTOR, MIOLOOP_SPIN, MIOLOOP_IO_URING), read now; then from the default.

    Args:
        backend: "mio" (default), or "uvloop" or "asyncio" for comparison.
        trigger: "edge" (default), "level" or "oneshot"; only the mio backend has it.
        selector: "epoll", "poll" or "kqueue", as this build has them; only the mio backend.
        spin: seconds to poll without blocking before a wait, see `EventLoop`; default 0; only
            the mio backend.
        io_uring: whether the loop may use one, see `EventLoop`; default True; only the mio
            backend.

    Raises:
        ValueError: an unknown value, or an option the backend does not have; the message
            names the valid ones.
        ImportError: backend "uvloop" without uvloop.
    """
    backend = backend or os.environ.get("MIOLOOP_BACKEND") or "mio"
    if backend == "mio":
        return EventLoop(**vars(LoopOptions.from_environment(trigger, selector, spin, io_uring)))
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    for name, value in (
        ("trigger", trigger), ("selector", selector), ("spin", spin), ("io_uring", io_uring)
    ):
        if value is not None:
            raise ValueError(
                f"{name}={value!r} is an option of backend 'mio'; backend {backend!r} has none"
            )
    if backend == "asyncio":
        return asyncio.SelectorEventLoop()
    try:
        import uvloop
    except ImportError as exc:
        raise ImportError(
            "backend 'uvloop' needs uvloop: pip install 'mioloop[uvloop]'", name="uvloop"
        ) from exc
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class EventLoopPolicy(stdlib.UnixDefaultEventLoopPolicy):
    """For ``asyncio.set_event_loop_policy()``: every new loop is made by `new_event_loop`.

    Takes its options; what is None is read from the environment whenever a loop is made. A
    name that is wrong is refused here, not at the first loop.
    """

    def __init__(
        self,
        *,
        backend: str | None = None,
        trigger: str | None = None,
        selector: str | None = None,
        spin: float | None = None,
        io_uring: bool | None = None,
    ) -> None:
        super().__init__()
        self._new_loop = functools.partial(
            new_event_loop,
            backend=backend,
            trigger=trigger,
            selector=selector,
            spin=spin,
            io_uring=io_uring,
        )
        self._new_loop().close()

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return self._new_loop()


def install(
    *,
    backend: str | None = None,
    trigger: str | None = None,
    selector: str | None = None,
    spin: float | None = None,
    io_uring: bool | None = None,
) -> None:
    """``asyncio.set_event_loop_policy(EventLoopPolicy(...))``, in one call.

    Warns, as asyncio does, where policies are deprecated (from CPython 3.14 on).
    """
    policy = EventLoopPolicy(
        backend=backend, trigger=trigger, selector=selector, spin=spin, io_uring=io_uring
    )
    if stdlib.set_event_loop_policy is not None:  # 3.14; the public one would blame this line
        warnings.warn(
            "mioloop.install() sets an event loop policy, which asyncio has deprecated and drops "
            "in Python 3.16: use mioloop.run(), or loop_factory=mioloop.new_event_loop",
            DeprecationWarning,
            stacklevel=2,
        )
        stdlib.set_event_loop_policy(policy)
    else:
        asyncio.set_event_loop_policy(policy)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    backend: str | None = None,
    trigger: str | None = None,
    selector: str | None = None,
    spin: float | None = None,
    io_uring: bool | None = None,
) -> T:
    """``asyncio.run(main)`` on a loop of `new_event_loop`, whatever the policy is.

    Returns what *main* returns. Raises RuntimeError inside a running loop, ValueError if
    *main* is not a coroutine, and whatever *main* raises.
    """

    if stdlib.get_running_loop() is not None:
        raise RuntimeError("mioloop.run() cannot be called from a running event loop")

    def factory() -> asyncio.AbstractEventLoop:
        return new_event_loop(
            backend=backend, trigger=trigger, selector=selector, spin=spin, io_uring=io_uring
        )

    if hasattr(asyncio, "Runner"):  # 3.11
        with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
            result: T = runner.run(main)
            return result
    return _run_with_policy(main, debug, factory)


def _run_with_policy(
    main: Coroutine[Any, Any, T],
    debug: bool | None,
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> T:
    """asyncio.run() of 3.10, which makes its loop by the policy."""

    class _Once(stdlib.UnixDefaultEventLoopPolicy):
        _loop_factory = staticmethod(factory)

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Once())
    try:
        return asyncio.run(main, debug=debug)
    finally:
        asyncio.set_event_loop_policy(before)
