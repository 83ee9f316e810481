"""The console: `python -m mioloop ps`, `top`, `stack` and `trace` look into a running process.

A loop that is made with ``console=True`` is in the console of its process. The console listens on
a Unix socket (`place`). A thread answers (`server`), also while a loop is blocked. There is no
socket and no thread unless a loop has asked for them, and they end with the last such loop.

The protocol: a client sends a request, which is one line of JSON, and the console answers with one
line of JSON. A client may send many requests over one connection, and each is answered in turn. A
request is data: no part of it is ever executed. A line is at most `server.LONGEST_REQUEST` bytes.

    {"v": 1, "ask": "loops"}            figures of each loop (`answers`)
    {"v": 1, "ask": "tasks"}            the tasks of each loop, and their awaiters (`tasks`)
    {"v": 1, "ask": "stack"}            the frames that the thread of each loop executes
    {"v": 1, "ask": "top"}              figures, functions and transports since the last request
    {"v": 1, "ask": "records"}          the callbacks, steps and events since the last request

The first "top" or "records" of a connection begins a recording, which ends with the connection
(`recorder`). Nothing else makes a loop slower.

An answer is ``{"v": 1, "pid": ..., ...}``, or ``{"v": 1, "pid": ..., "error": "..."}``. Times are
in seconds; a name that ends in ``_ns`` is in nanoseconds of time.monotonic_ns().
"""

VERSION = 1
