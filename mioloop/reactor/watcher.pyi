from typing_extensions import disjoint_base

from mioloop.reactor.source import Source

@disjoint_base
class Watcher(Source): ...
