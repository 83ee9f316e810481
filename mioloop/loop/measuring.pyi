from typing_extensions import disjoint_base

from mioloop.loop.figures import Latency, Utilization
from mioloop.loop.tools import ToolsReactor

@disjoint_base
class MeasuringReactor(ToolsReactor):
    def stats(self) -> dict[str, int]: ...
    def utilization(self, since: Utilization | None = None) -> Utilization: ...
    def latency(self) -> Latency: ...
