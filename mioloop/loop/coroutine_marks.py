"""iscoroutinefunction() for methods that are compiled and return a coroutine of their own class."""

from __future__ import annotations

import inspect
from typing import Any

from mioloop import stdlib


def mark_coroutine_function(method: Any) -> None:
    """Mark *method* for iscoroutinefunction() and mock.patch.object(): it returns a coroutine."""
    try:
        if hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(method)
        else:
            method._is_coroutine = stdlib.is_coroutine
    except AttributeError:                  # 3.10: a Cython function does not accept the mark
        pass
