"""The private names of the standard library that mioloop depends on, in one table.

The public part of asyncio is not enough for a loop: asyncio's own code calls hooks of the loop, and
reads attributes of transports, that begin with an underscore. To port mioloop to a new Python, go
through this table. `tests/loop/test_stdlib_names.py` compares each row with the running Python, and
finds names that mioloop uses but this table lacks.

There are three kinds of rows. An *object* is looked up here, once, and imported from here. A *hook*
is a method of the loop that mioloop overrides. A *member* is an attribute or a method that mioloop
uses on an object of the stdlib, or the stdlib uses on an object of mioloop.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio.unix_events
    import socket
    from concurrent.futures import ThreadPoolExecutor

Version = tuple[int, int]

FIRST: Version = (3, 10)
TRIED: Version = (3, 15)                # the newest that the tests have run on
ALWAYS: Version = (99, 0)

CPYTHON = "stdlib/run.py"               # CPython's own test.test_asyncio, run on mioloop


class Name:
    """One row: a private name, its owner, its first and last version, and a test that needs it.

    This is no dataclass: see `mioloop.options.LoopOptions`.
    """

    __slots__ = ("kind", "name", "owner", "since", "test", "until")

    def __init__(
        self, kind: str, owner: str, name: str, test: str, since: Version, until: Version
    ) -> None:
        self.kind = kind
        self.owner = owner              # a module, or module:Class
        self.name = name
        self.test = test                # a file under tests/
        self.since, self.until = since, until

    @property
    def is_there(self) -> bool:
        """Whether the running Python is expected to have it."""
        return self.since <= sys.version_info[:2] <= self.until


TABLE: list[Name] = []


def _object(
    owner: str, name: str, test: str, since: Version = FIRST, until: Version = ALWAYS
) -> Any:
    """Add a row, and return the object; None where this Python has no such name."""
    TABLE.append(Name("object", owner, name, test, since, until))
    return getattr(importlib.import_module(owner), name, None)


def _rows(
    kind: str, owner: str, test: str, *names: str, since: Version = FIRST, until: Version = ALWAYS
) -> None:
    TABLE.extend(Name(kind, owner, name, test, since, until) for name in names)


# -- objects ------------------------------------------------------------------------------------

HAS_IPV6 = _object("asyncio.base_events", "_HAS_IPv6", "loop/test_sock.py")
check_ssl_socket = _object("asyncio.base_events", "_check_ssl_socket", "loop/test_sock.py")
format_handle = _object("asyncio.base_events", "_format_handle", "loop/test_debug.py")
ipaddr_info = _object("asyncio.base_events", "_ipaddr_info", "transports/test_connecting.py")
set_nodelay = _object("asyncio.base_events", "_set_nodelay", "transports/test_tcp_server.py")
SendfileFallbackProtocol = _object(
    "asyncio.base_events", "_SendfileFallbackProtocol", "transports/test_sendfile.py"
)
SendfileMode = _object("asyncio.constants", "_SendfileMode", "transports/test_sendfile.py")
is_coroutine = _object(                     # later versions: inspect.markcoroutinefunction()
    "asyncio.coroutines", "_is_coroutine", "loop/test_sock_waiting.py", until=(3, 11)
)
get_running_loop = _object("asyncio.events", "_get_running_loop", "loop/test_policy.py")
set_event_loop_policy = _object(            # the public one warns
    "asyncio.events", "_set_event_loop_policy", "loop/test_policy.py", (3, 14), (3, 15)
)
ThreadSafeHandle = _object(
    "asyncio.events", "_ThreadSafeHandle", "loop/test_handles.py", (3, 14)
)
format_callback_source = _object(
    "asyncio.format_helpers", "_format_callback_source", "loop/test_handles.py"
)
set_result_unless_cancelled = _object(
    "asyncio.futures", "_set_result_unless_cancelled", "transports/test_stream.py"
)
SelectorSocketTransport = _object(
    "asyncio.selector_events", "_SelectorSocketTransport", "transports/test_attributes.py"
)
SelectorDatagramTransport = _object(
    "asyncio.selector_events", "_SelectorDatagramTransport", "transports/test_attributes.py"
)
UnixReadPipeTransport = _object(
    "asyncio.unix_events", "_UnixReadPipeTransport", "transports/test_attributes.py"
)
UnixWritePipeTransport = _object(
    "asyncio.unix_events", "_UnixWritePipeTransport", "transports/test_attributes.py"
)
SSLProtocolTransport = _object(
    "asyncio.sslproto", "_SSLProtocolTransport", "transports/test_tls.py"
)
create_transport_context = _object(
    "asyncio.sslproto", "_create_transport_context", "transports/test_tls.py"
)
FlowControlMixin = _object(
    "asyncio.transports", "_FlowControlMixin", "transports/test_stream.py"
)
UnixSubprocessTransport = _object(
    "asyncio.unix_events", "_UnixSubprocessTransport", "transports/test_subprocess.py"
)
sighandler_noop = _object("asyncio.unix_events", "_sighandler_noop", "loop/test_signals.py")
fileobj_to_fd = _object("selectors", "_fileobj_to_fd", "loop/test_fd_watching.py")
interpreter_flags = _object(                # multiprocessing passes these on, too
    "subprocess", "_args_from_interpreter_flags", "group/test_group.py"
)
getframe = _object("sys", "_getframe", "loop/test_debug.py")

# A class that mioloop derives from has its type here, where the type checker knows one.
if TYPE_CHECKING:
    UnixDefaultEventLoopPolicy = asyncio.unix_events._UnixDefaultEventLoopPolicy
    HAS_POLICIES: bool

    class UnixSelectorEventLoop(asyncio.SelectorEventLoop):
        """The private members that `EventLoop` calls or extends: typeshed does not declare them."""

        _ssock: Any                         # a socket; None until the loop has made it
        _csock: Any
        _default_executor: ThreadPoolExecutor | None
        _signal_handlers: dict[int, asyncio.Handle]
        _transports: dict[int, Any]

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_sendfile_params(
            self, sock: Any, file: Any, offset: int, count: int | None
        ) -> None: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        def _read_from_self(self) -> None: ...
        def _start_serving(self, *args: Any, **kwargs: Any) -> None: ...
        def _stop_serving(self, sock: socket.socket) -> None: ...
        def _make_socket_transport(self, *args: Any, **kwargs: Any) -> asyncio.Transport: ...
        def _make_ssl_transport(self, *args: Any, **kwargs: Any) -> asyncio.Transport: ...
        def _make_datagram_transport(
            self, *args: Any, **kwargs: Any
        ) -> asyncio.DatagramTransport: ...
        async def _make_subprocess_transport(
            self, *args: Any, **kwargs: Any
        ) -> asyncio.SubprocessTransport: ...
        async def _create_connection_transport(self, *args: Any, **kwargs: Any) -> Any: ...
        async def _accept_connection2(self, *args: Any, **kwargs: Any) -> None: ...
        async def _sendfile_native(
            self, transp: Any, file: Any, offset: int, count: int | None
        ) -> int: ...

else:
    UnixDefaultEventLoopPolicy = _object(
        "asyncio.unix_events", "_UnixDefaultEventLoopPolicy", "loop/test_policy.py", until=(3, 15)
    )
    UnixSelectorEventLoop = _object(
        "asyncio.unix_events", "_UnixSelectorEventLoop", "transports/test_sendfile.py"
    )
    HAS_POLICIES = UnixDefaultEventLoopPolicy is not None

# -- hooks of the loop ----------------------------------------------------------------------------

_rows("member", "asyncio.events", "frameworks/test_run.py", "_set_running_loop")
_LOOP = "asyncio:SelectorEventLoop"

# A "hook that hands on" passes unknown keywords to the stdlib's method that it overrides.
_rows("hook that hands on", _LOOP, "transports/test_contexts.py",
      "_start_serving", "_make_socket_transport", "_make_ssl_transport")
_rows("hook that hands on", _LOOP, "transports/test_datagram.py", "_make_datagram_transport")
_rows("hook that hands on", _LOOP, "transports/test_pipe.py",
      "_make_read_pipe_transport", "_make_write_pipe_transport")
_rows("hook that hands on", _LOOP, "transports/test_subprocess.py", "_make_subprocess_transport")
_rows("hook", _LOOP, "loop/test_fd_watching.py",
      "_add_reader", "_add_writer", "_remove_reader", "_remove_writer",
      "_ensure_fd_no_transport")
_rows("hook", _LOOP, "loop/test_signals.py",
      "_add_callback_signalsafe", "_read_from_self", "_write_to_self")
_rows("hook", _LOOP, "loop/test_nesting.py", "_run_once")
_rows("hook", _LOOP, CPYTHON, "_add_callback", "_process_events", "_timer_handle_cancelled")
_rows("hook", _LOOP, "loop/test_scheduling.py", "_call_soon")
_rows("hook", _LOOP, "transports/test_tcp_server.py", "_stop_serving")
_rows("hook", _LOOP, "transports/test_sendfile.py", "_sendfile_fallback", "_sendfile_native")
_rows("hook", _LOOP, "loop/test_sock.py", "_sock_sendfile_fallback", "_sock_sendfile_native")
_rows("hook that hands on", _LOOP, "transports/test_tcp_client.py", "_create_connection_transport")

# -- members of the loop -----------------------------------------------------------------------

# mioloop calls these.
_rows("member", _LOOP, "transports/test_tls.py", "_accept_connection2")
_rows("member", _LOOP, "loop/test_debug.py", "_check_callback", "_check_thread")
_rows("member", _LOOP, "loop/test_lifecycle.py", "_check_closed", "_check_running")
_rows("member", _LOOP, "transports/test_sendfile.py",
      "_check_sendfile_params", "_sock_sendfile_update_filepos")
_rows("member", _LOOP, "loop/test_sock.py", "_ensure_resolved")
_rows("member", _LOOP, "transports/test_connecting.py", "_connect_sock")
_rows("member", _LOOP, "loop/test_signals.py", "_handle_signal", "_process_self_data")

# The stdlib's methods assign and read these. mioloop stores them in native fields or in slots.
_rows("member", _LOOP, "loop/test_lifecycle.py",
      "_asyncgens", "_asyncgens_shutdown_called", "_clock_resolution", "_closed",
      "_coroutine_origin_tracking_enabled", "_coroutine_origin_tracking_saved_depth",
      "_current_handle", "_debug", "_default_executor", "_exception_handler",
      "_executor_shutdown_called", "_internal_fds", "_ready", "_scheduled",
      "_selector", "_stopping", "_task_factory", "_thread_id", "_timer_cancelled_count",
      "_transports")
_rows("member", _LOOP, "loop/test_lifecycle.py", "_old_agen_hooks", since=(3, 13))
_rows("member", _LOOP, "loop/test_signals.py", "_csock", "_signal_handlers", "_ssock")
_rows("member", _LOOP, "transports/test_unix_sockets.py", "_unix_server_sockets", since=(3, 13))

# -- members of other objects ------------------------------------------------------------------

_rows("member", "asyncio.events:Handle", "loop/test_handles.py",
      "_args", "_callback", "_cancelled", "_context", "_loop", "_repr", "_repr_info", "_run",
      "_source_traceback")
_rows("member", "asyncio.events:TimerHandle", "loop/test_handles.py", "_scheduled", "_when")
_rows("member", "asyncio.futures:Future", "loop/test_sock_waiting.py", "_asyncio_future_blocking")
_rows("member", "asyncio.futures:Future", "console/test_tasks.py", "_callbacks")
_rows("member", "asyncio.tasks:Task", "console/test_tasks.py", "_fut_waiter")
_rows("member", "asyncio.futures:Future", "console/test_findings.py", "_asyncio_awaited_by",
      since=(3, 14))
_rows("member", "asyncio.taskgroups:TaskGroup", "console/test_tasks.py",
      "_parent_task", since=(3, 11))
_rows("member", "asyncio.base_events:Server", "transports/test_tcp_server.py",
      "_attach", "_detach", "_sockets")
_rows("member", "asyncio.base_events:Server", "transports/test_tcp_server.py",
      "_clients", since=(3, 13))
_rows("member", "asyncio.base_events:Server", "transports/test_contexts.py",
      "_context", since=(3, 15))
_rows("member", "asyncio.streams:StreamReader", "transports/test_start_tls.py", "_buffer")
_rows("member", "asyncio.streams:StreamReaderProtocol", "transports/test_start_tls.py",
      "_stream_reader")

_rows("member", "asyncio.selector_events:_SelectorSocketTransport", "transports/test_stream.py",
      "_call_connection_lost", "_closing", "_conn_lost", "_extra", "_force_close", "_loop",
      "_make_empty_waiter", "_paused", "_protocol", "_protocol_paused", "_reset_empty_waiter",
      "_sendfile_compatible", "_sock", "_sock_fd", "_start_tls_compatible")
_rows("member", "asyncio.selector_events:_SelectorSocketTransport", "transports/test_contexts.py",
      "_context", since=(3, 15))
_rows("member", "asyncio.selector_events:_SelectorSocketTransport", "transports/test_attributes.py",
      "_buffer", "_empty_waiter", "_eof", "_high_water", "_low_water", "_protocol_connected",
      "_read_ready_cb", "_server", "_write_ready")
_rows("member", "asyncio.selector_events:_SelectorDatagramTransport",
      "transports/test_attributes.py", "_buffer_size", since=(3, 11))
_rows("member", "asyncio.selector_events:_SelectorDatagramTransport",
      "transports/test_attributes.py", "_header_size", since=(3, 14))
_rows("member", "asyncio.selector_events:_SelectorDatagramTransport", CPYTHON, "_address")
_rows("member", "asyncio.unix_events:_UnixReadPipeTransport", CPYTHON, "_pipe")
_rows("member", "asyncio.unix_events:_UnixWritePipeTransport", CPYTHON, "_pipe")
_rows("member", "asyncio.sslproto:SSLProtocol", "transports/test_tls.py",
      "_app_protocol", "_app_transport", "_get_extra_info", "_transport")
_rows("member", "asyncio.sslproto:SSLProtocol", CPYTHON, "_app_reading_paused", since=(3, 11))
_rows("member", "asyncio.unix_events:_UnixReadPipeTransport", "transports/test_attributes.py",
      "_fileno")
_rows("member", "asyncio.sslproto:SSLProtocol", "transports/test_attributes.py", "_sslcontext")
_rows("member", "asyncio.sslproto:_SSLProtocolTransport", "transports/test_tls.py",
      "_closed", "_ssl_protocol")

_rows("member", "asyncio.base_subprocess:BaseSubprocessTransport", "transports/test_subprocess.py",
      "_closed", "_connect_pipes", "_pipes", "_proc", "_process_exited", "_wait")
_rows("member", "asyncio.unix_events:_UnixSubprocessTransport", "transports/test_subprocess.py",
      "_start")
_rows("member", "subprocess:Popen", "transports/test_child_ends.py", "_waitpid_lock")
_rows("member", "subprocess", "transports/test_child_starts.py", "_fork_exec", since=(3, 11))
_rows("member", "subprocess", "transports/test_child_starts.py", "_posixsubprocess", until=(3, 10))
_rows("member", "asyncio.unix_events:_UnixDefaultEventLoopPolicy", "loop/test_policy.py",
      "_loop_factory", until=(3, 15))
_rows("member", "asyncio.unix_events:_UnixDefaultEventLoopPolicy",
      "transports/test_child_watchers.py", "_watcher", until=(3, 13))

_rows("member", "ssl:SSLObject", "transports/test_tls_sessions.py", "_sslobj")
_rows("member", "_ssl", "transports/test_tls_sessions.py", "_SSLSocket")


# -- a Python that is newer than the table --------------------------------------------------------


def hooks() -> list[Name]:
    return [row for row in TABLE if row.kind.startswith("hook")]


def unknown_parameters(loop_type: type, stdlib_type: type) -> dict[str, list[str]]:
    """hook -> the parameters of the stdlib's hook that the hook of *loop_type* does not name."""
    unknown = {}
    for row in hooks():
        theirs = getattr(stdlib_type, row.name, None)
        if theirs is None:
            continue
        known = inspect.signature(getattr(loop_type, row.name)).parameters
        named = [
            name
            for name, parameter in inspect.signature(theirs).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and name not in known
        ]
        if named:
            unknown[row.name] = named
    return unknown


def check_hooks(loop_type: type, stdlib_type: type) -> None:
    """Refuse a Python if its asyncio passes parameters that a hook of mioloop does not take.

    The RuntimeError comes when a loop is made. Without it every connection would fail. A hook that
    hands on may get unknown parameters.
    """
    hand_on = {row.name for row in hooks() if row.kind == "hook that hands on"}
    for name, parameters in unknown_parameters(loop_type, stdlib_type).items():
        if name not in hand_on:
            raise RuntimeError(
                f"this mioloop was made for Python {FIRST[0]}.{FIRST[1]} to {TRIED[0]}.{TRIED[1]}, "
                f"and asyncio of Python {sys.version_info[0]}.{sys.version_info[1]} passes "
                f"{', '.join(parameters)} to {name}(): a newer mioloop is needed"
            )
