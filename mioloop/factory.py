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
    given: dict[str, Any] = {
        "trigger": trigger, "selector": selector, "spin": spin, "io_uring": io_uring
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
        return asyncio.SelectorEventLoop()
    try:
        import uvloop
    except ImportError as exc:
        raise ImportError(
            "backend 'uvloop' needs uvloop: pip install 'mioloop[uvloop]'", name="uvloop"
        ) from exc
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Options(TypedDict, total=False):
    """The keywords of `new_event_loop`, for the functions that pass them on to it."""

    backend: str | None
    trigger: str | None
    selector: str | None
    spin: float | None
    io_uring: bool | None


def takes_options(function: F) -> F:
    """Show the keywords of `new_event_loop` in the place of *function*'s ``**options``.

    Any other keyword is a TypeError that names *function*.
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
    """``asyncio.run(main)`` on a loop of `new_event_loop`, whatever the policy is.

    Returns what *main* returns. Raises RuntimeError inside a running loop, ValueError if
    *main* is not a coroutine, and whatever *main* raises.
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
    """Let *factory* make the loops of a Python without policies: asyncio.run() and others."""
    asyncio.new_event_loop = events.new_event_loop = factory
