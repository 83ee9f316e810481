"""The event loop policy, for Python up to 3.15. Later versions have no policies."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from mioloop import stdlib
from mioloop.factory import Options, new_event_loop, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class EventLoopPolicy(stdlib.UnixDefaultEventLoopPolicy):
    """For ``asyncio.set_event_loop_policy()``: every new loop is made by `new_event_loop`.

    Takes the options of `new_event_loop`. An option that is None is read from the environment
    whenever a loop is made. A wrong name is refused here, not when the first loop is made.
    """

    @takes_options
    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._new_loop = functools.partial(new_event_loop, **options)
        self._new_loop().close()

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return self._new_loop()


@takes_options
def install(**options: Unpack[Options]) -> None:
    """``asyncio.set_event_loop_policy(EventLoopPolicy(...))``, in one call.

    Warns, as asyncio does, where policies are deprecated (from CPython 3.14 on).
    """
    policy = EventLoopPolicy(**options)
    if stdlib.set_event_loop_policy is not None:  # 3.14; the public one would blame this line
        warnings.warn(
            "mioloop.install() sets an event loop policy, which asyncio has deprecated and drops "
            "in Python 3.16: use mioloop.run(), or loop_factory=mioloop.new_event_loop",
            DeprecationWarning,
            stacklevel=3,
        )
        stdlib.set_event_loop_policy(policy)
    else:
        asyncio.set_event_loop_policy(policy)


def run_with_policy(
    main: Coroutine[Any, Any, T],
    debug: bool | None,
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> T:
    """``asyncio.run(main)`` for 3.10, where asyncio.run() makes its loop by the policy."""

    class _Once(stdlib.UnixDefaultEventLoopPolicy):
        _loop_factory = staticmethod(factory)

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Once())
    try:
        return asyncio.run(main, debug=debug)
    finally:
        asyncio.set_event_loop_policy(before)
