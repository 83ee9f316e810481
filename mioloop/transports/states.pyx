"""The states that may follow each state of a transport. In a debug build the setters assert it.

Three machines are in base.pxd, and PrefetchState is in prefetch.pxd. The flags that asyncio shows
(is_closing(), is_reading(), `_paused`, ...) are derived from them.
"""

# Each table has the order of its enum.
TABLES = {
    "Life": {
        "STARTING": ("OPEN", "CLOSING"),
        "OPEN": ("CLOSING",),
        "CLOSING": ("LOST",),
        "LOST": ("CLOSED",),
        "CLOSED": (),
    },
    "ReadState": {
        "FLOWING": ("PAUSED", "ENDED"),
        "PAUSED": ("FLOWING", "ENDED_PAUSED"),
        "ENDED": ("ENDED_PAUSED",),
        "ENDED_PAUSED": ("ENDED",),
    },
    "WriteState": {
        "FREE": ("SENT", "FULL", "FILE"),
        "SENT": ("FREE",),
        "FULL": ("FREE",),
        "FILE": ("FREE",),
    },
    "PrefetchState": {
        "NONE": ("READY", "STALE", "FAILED"),
        "READY": ("NONE", "STALE"),
        "STALE": ("NONE",),
        "FAILED": ("NONE",),
    },
}


cpdef bint may_follow(str machine, int before, int state) except -1:
    """Return whether the table has this step. To stay in a state is none, and always allowed."""
    names = list(TABLES[machine])
    return before == state or names[state] in TABLES[machine][names[before]]
