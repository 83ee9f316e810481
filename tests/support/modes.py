"""The trigger modes of `mioloop.mio`, as the `opts` of a registration."""

from __future__ import annotations

from mioloop.mio import PollOpt

LEVEL_MODES = [PollOpt.LEVEL, PollOpt.EMPTY]
ONESHOT_MODES = [PollOpt.EDGE | PollOpt.ONESHOT, PollOpt.LEVEL | PollOpt.ONESHOT, PollOpt.ONESHOT]
ALL_MODES = [PollOpt.EDGE, *LEVEL_MODES, *ONESHOT_MODES]
