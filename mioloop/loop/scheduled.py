"""loop._scheduled: the timers, in the list that tools know from asyncio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class ShowsTimers(Protocol):
    """The part of a loop that this list calls."""

    def _show_timers(self) -> None: ...


class Scheduled(list[Any]):
    """A list of the loop's timers, the next one first.

    The timers are stored in the loop's own heap. Each method updates this list from the heap first,
    and applies a change of the list to the heap. heapq changes a list without calling its methods,
    so such a change is applied when the next turn begins.
    """

    __slots__ = ("_loop",)
    __hash__ = None

    def __init__(self, loop: ShowsTimers) -> None:
        super().__init__()
        self._loop = loop

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle or copy {type(self).__name__!r} objects: use copy()")


def _in_step(name: str) -> Callable[..., Any]:
    of_list = getattr(list, name)

    def method(self: Scheduled, *args: Any, **keywords: Any) -> Any:
        self._loop._show_timers()
        try:
            return of_list(self, *args, **keywords)
        finally:
            self._loop._show_timers()

    method.__name__ = name
    method.__doc__ = of_list.__doc__
    return method


for _method, _function in vars(list).items():
    if callable(_function) and _method not in {
        "__class_getitem__",
        "__getattribute__",
        "__hash__",
        "__init__",
        "__new__",
    }:
        setattr(Scheduled, _method, _in_step(_method))
Scheduled.__repr__ = _in_step("__repr__")  # type: ignore[method-assign]
