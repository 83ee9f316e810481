from typing_extensions import disjoint_base

from mioloop.reactor.registry import Registry

@disjoint_base
class CallQueue(Registry): ...
