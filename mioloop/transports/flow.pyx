"""Flow control: water marks between a write buffer and its protocol."""

cdef enum:
    DEFAULT_HIGH_BYTES = 65536              # low is a quarter of high (asyncio-contract R52)


cdef class WriteFlow(Source):

    def __cinit__(self, *args, **kwargs):
        self.high_bytes = DEFAULT_HIGH_BYTES
        self.low_bytes = DEFAULT_HIGH_BYTES // 4

    cdef int pause_protocol_if_full(self) except -1:
        if self._protocol_paused or self.buffered_bytes <= self.high_bytes:
            return 0
        self._protocol_paused = True
        try:
            self._protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report_flow("protocol.pause_writing() failed", exc)
        return 0

    cdef int resume_protocol_if_drained(self) except -1:
        if not self._protocol_paused or self.buffered_bytes > self.low_bytes:
            return 0
        self._protocol_paused = False
        try:
            self._protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report_flow("protocol.resume_writing() failed", exc)
        return 0

    cdef int report_flow(self, str message, exc) except -1:
        return self.reactor.report({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self._protocol,
        })

    def set_write_buffer_limits(self, high=None, low=None):
        """Marks in bytes: pause_writing() above *high*, resume_writing() at or under *low*.

        Raises ValueError unless high >= low >= 0.
        """
        if high is None:
            high = DEFAULT_HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_bytes = high
        self.low_bytes = low
        self.pause_protocol_if_full()

    def get_write_buffer_limits(self):
        return self.low_bytes, self.high_bytes
