from typing_extensions import disjoint_base

from mioloop.reactor.registry import io_uring_problem as io_uring_problem
from mioloop.reactor.registry import selectors as selectors
from mioloop.reactor.services import LoopServices

TRIGGERS: dict[str, int]

@disjoint_base
class Reactor(LoopServices):
    def _burst_from(self, least: int) -> None: ...
