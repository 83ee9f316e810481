"""A child that is not waited for. Declares only the names that Python code of mioloop uses."""

from collections.abc import Sequence

SUPPORTED: bool

class Spawned:
    pid: int
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
