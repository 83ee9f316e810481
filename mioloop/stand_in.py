"""The classes and functions that `mioloop.takeover` puts in the place of asyncio's and uvloop's."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import selectors
import warnings
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

from mioloop import stdlib
from mioloop.factory import new_event_loop
from mioloop.loop.event_loop import EventLoop
from mioloop.options import LoopOptions

T = TypeVar("T")


class _AnySelectorEventLoop(type):
    """isinstance(loop, asyncio.SelectorEventLoop) holds for every loop that it held for before."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is SelectorEventLoop:
            return isinstance(instance, stdlib.UnixSelectorEventLoop)
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is SelectorEventLoop:
            return issubclass(subclass, stdlib.UnixSelectorEventLoop)
        return super().__subclasscheck__(subclass)


class SelectorEventLoop(EventLoop, metaclass=_AnySelectorEventLoop):
    """An `EventLoop` with the constructor of `asyncio.SelectorEventLoop`.

    The options come from the environment. The loop polls by its own poll in the place of one of
    the selectors of the module `selectors`, and by any other selector that it is given.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(**vars(LoopOptions.from_environment()))
        self._given_selector = selector
        if selector is not None and type(selector).__module__ != "selectors":
            self._selector = selector

    def close(self) -> None:
        super().close()
        if self._given_selector is not None:
            self._given_selector.close()


# -- uvloop ------------------------------------------------------------------------------------


def _run(
    main: Coroutine[Any, Any, T],
    *,
    loop_factory: Any = new_event_loop,
    debug: bool | None = None,
    **keywords: Any,
) -> T:
    """``uvloop.run()``: `asyncio.run` on a loop of *loop_factory*."""

    async def wrapper() -> T:
        return await main

    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    if not hasattr(asyncio, "Runner"):      # 3.10
        from mioloop.policy import run_with_policy

        return run_with_policy(wrapper(), debug, loop_factory or new_event_loop)
    with asyncio.Runner(loop_factory=loop_factory, debug=debug, **keywords) as runner:
        result: T = runner.run(wrapper())
        return result


def _install() -> None:
    """``uvloop.install()``."""
    from mioloop.policy import EventLoopPolicy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())


def _make_loop() -> asyncio.AbstractEventLoop:
    """``uvloop.new_event_loop()``."""
    return new_event_loop()


def fill(module: ModuleType, version: str) -> None:
    """Give the stand-in for uvloop its names."""
    names: dict[str, Any] = {
        "__doc__": "A stand-in for uvloop: its names, and the loop of mioloop.",
        "__version__": version,
        "__file__": __file__,
        "Loop": EventLoop,
        "new_event_loop": _make_loop,
        "run": _run,
    }
    if stdlib.HAS_POLICIES:
        from mioloop.policy import EventLoopPolicy

        names |= {"EventLoopPolicy": EventLoopPolicy, "install": _install}
    vars(module).update(names)
    module.__all__ = [  # type: ignore[attr-defined]
        name for name in ("new_event_loop", "install", "EventLoopPolicy") if name in names
    ]


class Distribution(importlib.metadata.Distribution):
    """The metadata of the stand-in for uvloop."""

    def __init__(self, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: uvloop\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        import pathlib

        return pathlib.Path(os.path.dirname(__file__)) / path
