"""The rules that an asyncio event loop keeps, a line each.

A test names the rule that it is about in its docstring, by its id. `compatibility.py` reads both
and prints docs/compatibility.md. Ids are never given anew: append.
"""

from __future__ import annotations

RULES = {
    # -- scheduling and timers
    "R1": "Callbacks run first in, first out; one queued during a turn waits for the next",
    "R2": "In a turn: what was queued, then ready descriptors, then due timers",
    "R3": "No timer fires early; close ones keep their order, equal ones that of their making",
    "R4": "Delays of zero, below zero, a thousand million seconds and infinity",
    "R5": "`loop.time()` is the monotonic clock, in a long callback too",
    "R6": "A replaced `loop.time` moves the timers",
    "R7": "Cancelled timers take no memory",
    "R8": "A sleep of 100 us takes less than 300",
    "R9": "`context=` is used as it is; by default a copy is made when scheduling",
    "R10": "An endless chain of callbacks starves neither sockets nor timers",
    # -- handles, tasks
    "R11": "Handles are `asyncio.Handle` and `asyncio.TimerHandle`: order, equality, repr, context",
    "R12": "A cancelled handle does not run, and frees callback and arguments at once",
    "R13": "A callback's exception is reported; KeyboardInterrupt and SystemExit leave the run",
    "R14": "Monitors that replace `Handle._run` see every callback",
    "R15": "Tasks and futures are asyncio's own, replaced classes included",
    "R16": "Task factories get the keywords that asyncio of this version passes, and no others",
    "R17": "`run_until_complete` marks its task as asyncio does, for tools that look for the root",
    # -- stop and close
    "R18": "`stop()` ends the turn; before a run, the run is one turn that does not block",
    "R19": "A run inside a run raises, and the outer one goes on",
    "R20": "What a closed loop refuses, and what it still does",
    "R21": "However a run ends, the thread is left as it was",
    "R22": "`close()` may be repeated, leaves nothing open, and is not forgotten without a warning",
    # -- descriptors, sock_*
    "R23": "What can be watched, and the errors for what cannot",
    "R24": "`add_*` replaces and gives None; `remove_*` says whether there was a watch",
    "R25": "Watches are level-triggered",
    "R26": "Hang-up and error wake the reader and the writer",
    "R27": "A watch removed earlier in the turn does not fire",
    "R28": "A live transport's descriptor is refused",
    "R29": "A descriptor number that is used again belongs to its new owner only",
    "R30": "`sock_*` are coroutines that lose no byte when they are cancelled",
    # -- TCP clients
    "R31": "The protocol is made once the connection stands",
    "R32": "Errors of the system are raised as the OSError that Python picks",
    "R33": "Every descriptor has one owner, and is closed once",
    "R34": "TCP_NODELAY on TCP, no error elsewhere",
    # -- TCP servers
    "R35": "Out of descriptors: one report, a pause of a second, and the clients are served",
    "R36": "Accepted connections know their peer, do not block, and are not inherited",
    "R37": "A failing protocol factory costs its connection and nothing else",
    "R38": "Protocols of a server live in a copy of the context it was started in",
    "R39": "A server counts its connections; `wait_closed()` waits as in this Python",
    "R40": "`close()` ends `serve_forever()`, and closes a listener that was given",
    "R41": "An address that cannot be bound is skipped if another can",
    "R42": "`connect_accepted_socket(ssl=)` returns the application's protocol",
    # -- Unix sockets
    "R43": "Paths of every type, stale files, removal at close",
    # -- stream transports
    "R44": "A transport is an `asyncio.Transport`",
    "R45": "The order of protocol callbacks; `connection_lost` comes once, later, and last",
    "R46": "The argument of `connection_lost`: None, or the reset",
    "R47": "No method raises after the end; writes are ignored, and warned about",
    "R48": "After `close()` what is buffered is sent, and may still grow",
    "R49": "What `write()` takes, and the order in which it looks",
    "R50": "Written data may be changed at once",
    "R51": "`writelines()` takes any iterable, of any length, and keeps to the marks",
    "R52": "Write buffer marks: defaults, derived ones, when the protocol pauses and resumes",
    "R53": "Reading can be paused anywhere, and resumed without a loss",
    "R54": "Half-close: `write_eof()`, and an `eof_received()` that returns true",
    "R55": "A read callback that raises: one report, and the connection ends",
    "R56": "Buffered protocols, and a change of protocol in mid-stream",
    "R57": "Extra info is there after the end too",
    "R58": "A connection has a context for all its callbacks, also if another one writes",
    "R59": "Gathered writes change nothing that can be seen: `write()` then `abort()` delivers",
    "R92": "A turn sees whatever was ready when it began, as asyncio's turn does",
    "R93": "`write()` sends within the call; under load, but for the first slow callback",
    "R94": "Messages keep their borders, written and read, and all of them are read",
    "R95": "What was written before a fork leaves once",
    "R60": "Every method works inside every callback",
    "R61": "A forgotten transport warns, and closes its descriptor",
    # -- datagrams
    "R62": "Datagrams keep their boundaries, empty ones included",
    "R63": "Errors of a datagram go to `error_received`, and nothing ends",
    "R64": "Addresses are checked, and never looked up in DNS when sending",
    "R65": "A datagram transport is an `asyncio.DatagramTransport`; what it counts as buffered",
    # -- TLS
    "R66": "The end of file without close_notify is an end of file",
    "R67": "Handshake and shutdown have time limits",
    "R68": "After `close()` nothing is delivered",
    "R69": "A failed handshake is the caller's error, and leaves nothing",
    "R70": "Extra info of TLS, and of the socket below",
    "R71": "TLS cannot be half-closed",
    "R72": "`start_tls` on any transport, paused, with bytes read ahead, TLS in TLS",
    "R73": "An idle TLS connection is small",
    # -- sendfile, pipes
    "R74": "`sendfile`: offsets and counts, its fallback, its errors, its file's position",
    "R75": "What can be a pipe; character devices",
    "R76": "How pipes end",
    # -- subprocesses
    "R77": "Every keyword of `subprocess.Popen`; standard streams that are pipes",
    "R78": "The status of every child, in any thread, without SIGCHLD",
    "R79": "When `wait()` ends",
    "R80": "Starting a child never blocks the loop: neither `preexec_fn` nor a slow exec does",
    # -- signals, names, executors
    "R81": "Signal handlers: every catchable signal, in the main thread",
    "R82": "Ctrl-C ends an idle poll and a busy loop",
    "R83": "Names are resolved by the socket module, in a thread",
    "R84": "The default executor: its threads, its type, the end of it",
    # -- debug mode, threads, fork, policy
    "R85": "Debug mode: checks, source tracebacks, slow callbacks, switched at any time",
    "R86": "`call_soon_threadsafe` from any thread and any signal handler loses no wake-up",
    "R87": "The signal wake-up descriptor is ours while we run, and given back",
    "R88": "Loops change threads; a forked child sees none running, makes one, runs its parent's",
    "R89": "A forked child cannot disturb its parent's loop",
    "R90": "No connection owns a turn",
    "R91": "The policy is asyncio's own but for the loop it makes",
    # -- tools
    "R96": "A watched object is found after it was closed: `remove_*` give True, then False",
    "R100": "What a tool replaces on a loop works, or raises when it is put in",
    "R97": "A protocol without a method that is called: an AttributeError that names both",
    "R98": "`start_tls` of a closed or lost transport returns None, and never waits for ever",
    # -- attributes
    "R99": "Transports take attributes, and what is replaced is what is called",
}
