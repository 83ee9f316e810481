"""Imported by every Python that `mioloop run` starts, and by the Pythons that those start.

Does nothing where MIOLOOP_RUN is not set, or mioloop is not installed.
"""

from __future__ import annotations

import os
import sys


def _step_aside() -> None:
    """Import the sitecustomize that this file hides, if there is one."""
    import importlib

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    this_module = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        if this_module is not None:
            sys.modules["sitecustomize"] = this_module


_step_aside()
if os.environ.get("MIOLOOP_RUN") == "1":
    try:
        from mioloop import takeover
    except ImportError:     # another Python, which has no mioloop
        pass
    else:
        takeover.begin_from_environment()
