"""Groups of loops: all cores behind one port. `mioloop.LoopGroup` is the way in."""

from mioloop.group.calls import GroupStopping, WorkerFailed
from mioloop.group.channel import Channel
from mioloop.group.loop_group import LoopGroup
from mioloop.group.report import Figures
from mioloop.group.worker import Worker, current_worker

__all__ = [
    "Channel",
    "Figures",
    "GroupStopping",
    "LoopGroup",
    "Worker",
    "WorkerFailed",
    "current_worker",
]
