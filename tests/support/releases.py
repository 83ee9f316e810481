"""Behaviours of asyncio that changed in a patch release: True on a Python that has them.

A mark takes such a name as its `when`, where a version would say less than asyncio itself does.
"""

from __future__ import annotations

import inspect
from asyncio import base_events, base_subprocess, selector_events, sslproto
from typing import Any

_writelines: Any = vars(selector_events._SelectorSocketTransport).get("writelines")
_process_exited: Any = base_subprocess.BaseSubprocessTransport._process_exited
_sendfile: Any = base_events.BaseEventLoop._sendfile_fallback

WRITELINES_RAISES_AFTER_A_LOSS = (
    _writelines is not None and "_conn_lost" not in _writelines.__code__.co_names)
TLS_HIDES_A_LOSS = not hasattr(sslproto.SSLProtocol, "_is_transport_closing")
SENDFILE_IGNORES_AN_OFFSET_OF_0 = "if offset:" in inspect.getsource(_sendfile)
WAIT_ENDS_AT_EXIT = "_exit_waiters" in _process_exited.__code__.co_names
