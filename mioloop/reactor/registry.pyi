from typing_extensions import disjoint_base

from mioloop.reactor.handle import HandleOwner

def selectors() -> list[str]: ...
def io_uring_problem() -> str | None: ...
@disjoint_base
class Registry(HandleOwner):
    @property
    def selector(self) -> str: ...
