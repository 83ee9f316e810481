from collections.abc import Sequence
from typing import final

SUPPORTED: bool

@final
class Spawned:
    @property
    def pid(self) -> int: ...
    def executed(self) -> None: ...

def spawn(
    args: Sequence[object],
    paths: Sequence[bytes],
    close_fds: bool,
    keep: Sequence[int],
    cwd: object,
    env: Sequence[bytes] | None,
    streams: Sequence[int],
    report_read: int,
    report_write: int,
    restore_signals: bool,
    new_session: bool,
    process_group: int,
    umask: int,
) -> Spawned | None: ...
