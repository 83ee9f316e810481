"""The tables of the states of a TLS connection. tls_states.pxd says what each state means."""

# Each table has the names of an enum in its order, with the states that may follow each.

STATES = {
    # connection_made(); close(), abort(), or the transport below closes; connection_lost()
    "UNCONNECTED": ("HANDSHAKE", "CLOSING", "LOST"),
    # the handshake is done; an error or abort(); connection_lost()
    "HANDSHAKE": ("OPEN", "FAILED", "LOST"),
    # close(), a close_notify or the end of file; abort() or an error; connection_lost()
    "OPEN": ("FLUSHING", "CLOSING", "LOST"),
    # all of the backlog is encrypted; abort(), an error or the end of file; connection_lost()
    "FLUSHING": ("SHUTDOWN", "CLOSING", "LOST"),
    # the peer's close_notify, abort(), an error or the end of file; connection_lost()
    "SHUTDOWN": ("CLOSING", "LOST"),
    "CLOSING": ("LOST",),
    "FAILED": ("LOST",),
    "LOST": (),
}

INCOMING = {
    # `read_high` bytes are unread; the end of file
    "FLOWING": ("HELD", "EXHAUSTED"),
    # at most `read_low` bytes are unread; the end of file
    "HELD": ("FLOWING", "EXHAUSTED"),
    "EXHAUSTED": (),
}

OUTGOING = {
    "ACCEPTED": ("REFUSED",),           # pause_writing()
    "REFUSED": ("ACCEPTED",),           # resume_writing()
}

READING = {
    "WANTED": ("PAUSED",),              # pause_reading()
    "PAUSED": ("WANTED",),              # resume_reading()
}

TOLD = {
    # start_tls() begins at CONNECTION_MADE
    "NOTHING": ("CONNECTION_MADE",),
    "CONNECTION_MADE": ("EOF_RECEIVED", "CONNECTION_LOST"),
    "EOF_RECEIVED": ("CONNECTION_LOST",),
    "CONNECTION_LOST": (),
}


cpdef bint may_follow(dict table, int before, int after) except -1:
    """Return whether *table* allows this step. A state may always be entered again."""
    names = list(table)
    return before == after or names[after] in table[names[before]]


def tables():
    """Return the five tables by name, for tests and documents."""
    return {"session": STATES, "incoming": INCOMING, "outgoing": OUTGOING, "reading": READING,
            "told": TOLD}


# The order of a table is the order of its enum.
assert list(STATES)[LOST] == "LOST" and list(STATES)[OPEN] == "OPEN" and len(STATES) == LOST + 1
assert list(INCOMING)[EXHAUSTED] == "EXHAUSTED" and list(TOLD)[CONNECTION_LOST] == "CONNECTION_LOST"
assert list(OUTGOING)[REFUSED] == "REFUSED" and list(READING)[PAUSED] == "PAUSED"
