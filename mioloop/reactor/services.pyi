from typing_extensions import disjoint_base

from mioloop.reactor.call_queue import CallQueue

@disjoint_base
class LoopServices(CallQueue): ...
