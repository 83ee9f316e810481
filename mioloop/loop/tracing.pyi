from types import CodeType
from typing import Any

from typing_extensions import disjoint_base

from mioloop.loop.measuring import MeasuringReactor

KINDS: tuple[str, ...]

@disjoint_base
class TracingReactor(MeasuringReactor):
    def _record(self, on: bool) -> None: ...
    def _take_records(self, most: int) -> tuple[list[tuple[Any, ...]], int]: ...
    def _under_way(self) -> tuple[int, CodeType | str, str | None] | None: ...
    def _list_transports(self) -> list[tuple[str, int, str, Any, bool, int]]: ...
