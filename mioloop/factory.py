"""Making a loop: backend and options, by argument, environment or default. Needs no policy."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from mioloop import stdlib
from mioloop.loop.event_loop import EventLoop
from mioloop.options import LoopOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

BACKENDS = ("mio", "uvloop", "asyncio")


def new_event_loop(
    *,
    backend: str | None = None,
    trigger: str | None = None,
    selector: str | None = None,
    spin: float | None = None,
    io_uring: bool | None = None,
    stall: float | None = None,
    console: bool | None = None,
    durations: bool | None = None,
) -> asyncio.AbstractEventLoop:
    """Make a new event loop.

    An option that is None is taken from the environment (MIOLOOP_BACKEND, MIOLOOP_TRIGGER,
    MIOLOOP_SELECTOR, MIOLOOP_SPIN, MIOLOOP_IO_URING, MIOLOOP_STALL, MIOLOOP_CONSOLE,
    MIOLOOP_DURATIONS), which is read at each call. If the environment does not have it either, the
    default is used.

    Args:
        backend: "mio" (default), or "uvloop" or "asyncio" for comparison.
        trigger: "edge" (default), "level" or "oneshot"; only for the mio backend.
        selector: "epoll", "poll" or "kqueue", as this build has them; only for the mio backend.
        spin: seconds to poll without blocking before a wait, see `EventLoop`; default 0; only
            for the mio backend.
        io_uring: whether the loop may use an io_uring, see `EventLoop`; default True; only for
            the mio backend.
        stall: seconds after which a callback that blocks the loop is reported, see `EventLoop`;
            default 0: never; only for the mio backend.
        console: whether `python -m mioloop ps`, `top`, `stack` and `trace` can look into the loop,
            see `EventLoop`; default False; only for the mio backend.
        durations: whether each callback is timed, see `EventLoop`; default False; only for the
            mio backend.

    Raises:
        ValueError: an unknown value, or an option that the backend does not have; the message
            names the valid values.
        ImportError: the backend is "uvloop", and uvloop is not installed.
    """
    given: dict[str, Any] = {
        "trigger": trigger, "selector": selector, "spin": spin, "io_uring": io_uring,
        "stall": stall, "console": console, "durations": durations,
    }
    backend = backend or os.environ.get("MIOLOOP_BACKEND") or "mio"
    if backend == "mio":
        return EventLoop(**vars(LoopOptions.from_environment(**given)))
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} is an option of backend 'mio'; backend {backend!r} has none"
            )
    if backend == "asyncio":
        loop: asyncio.AbstractEventLoop = stdlib.UnixSelectorEventLoop()
        return loop
    from mioloop.takeover import import_real_uvloop

    try:
        uvloop: Any = import_real_uvloop()
    except ImportError as exc:
        raise ImportError(
            "backend 'uvloop' needs uvloop: pip install 'mioloop[uvloop]'", name="uvloop"
        ) from exc
    loop = uvloop.new_event_loop()
    return loop


class Options(TypedDict, total=False):
    """The keywords of `new_event_loop`, for the functions that pass them to it."""

    backend: str | None
    trigger: str | None
    selector: str | None
    spin: float | None
    io_uring: bool | None
    stall: float | None
    console: bool | None
    durations: bool | None


def takes_options(function: F) -> F:
    """Show the keywords of `new_event_loop` in the signature instead of ``**options``.

    Any other keyword raises a TypeError that names *function*.
    """
    signature = inspect.signature(function)
    keywords = inspect.signature(new_event_loop).parameters
    *own, _ = signature.parameters.values()
    shown = signature.replace(parameters=[*own, *keywords.values()])

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        try:
            shown.bind(*args, **options)
        except TypeError as exc:
            raise TypeError(f"{function.__qualname__}() {exc}") from None
        return function(*args, **options)

    checked.__signature__ = shown  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


@takes_options
def run(
    main: Coroutine[Any, Any, T], *, debug: bool | None = None, **options: Unpack[Options]
) -> T:
    """``asyncio.run(main)`` on a loop of `new_event_loop`. The policy is not used.

    Returns the result of *main*. Raises RuntimeError inside a running loop, ValueError if
    *main* is not a coroutine, and any exception of *main*.
    """
    if stdlib.get_running_loop() is not None:
        raise RuntimeError("mioloop.run() cannot be called from a running event loop")
    factory = functools.partial(new_event_loop, **options)
    if not hasattr(asyncio, "Runner"):  # 3.10
        from mioloop.policy import run_with_policy

        return run_with_policy(main, debug, factory)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        result: T = runner.run(main)
        return result


def replace_default(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """On a Python without policies, let asyncio.run() and asyncio.Runner use *factory*."""
    asyncio.new_event_loop = events.new_event_loop = factory
