"""sendfile(2): the part of it that sock_sendfile() and the transports share (R74).

The user of a FileSending calls send_part() once a turn while the socket has room. After the end,
also after a failure, it calls leave_position().
"""

from libc.errno cimport ENOTCONN
from libc.stdint cimport INT64_MAX, int64_t

from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import io
import os
from asyncio import exceptions, unix_events

from mioloop import stdlib

cdef enum:
    BYTES_PER_TURN = 262144     # no connection owns a turn (R90), however fast it receives


cdef class FileSending:

    cdef Py_ssize_t send_part(self, int fd) noexcept:
        """Send one part. Return its size if there may be more, 0 if all is sent, or -errno."""
        cdef size_t asked = min(self.left, <int64_t>BYTES_PER_TURN)
        cdef int64_t offset = self.offset
        cdef int file_fd = self.file_fd
        cdef Py_ssize_t n

        with nogil:                         # reading from the disk may block
            n = mio_sendfile(fd, file_fd, offset, asked)
        if n <= 0:
            return n
        self.offset += n
        self.sent += n
        if self.left != INT64_MAX:
            self.left -= n
        elif <size_t>n < asked and self.offset >= self.size:
            return 0
        return 0 if self.left == 0 else n

    cdef object failure(self, int error):
        """Return the exception that asyncio raises for this errno of send_part()."""
        exc = OSError(error, os.strerror(error))
        if self.sent == 0:                  # most likely sendfile(2) does not support the file
            unavailable = exceptions.SendfileNotAvailableError("os.sendfile call failed")
            unavailable.__cause__ = exc
            return unavailable
        if error == ENOTCONN:
            lost = ConnectionError(error, "socket is not connected")
            lost.__cause__ = exc
            return lost
        return exc

    cdef int leave_position(self) except -1:
        """Set the file's position to the end of the sent bytes.

        Errors are ignored: they would hide an error of the transfer. If nothing was sent, the
        position becomes the start offset, as in asyncio from 3.14 on.
        """
        try:
            if hasattr(self.file, "raw"):   # a buffered file must drop the data it has buffered
                self.file.seek(self.offset)
            else:
                os.lseek(self.file_fd, self.offset, os.SEEK_SET)
        except (OSError, ValueError):       # closed meanwhile
            pass
        return 0


cdef FileSending open_file(object file, object offset, object count):
    """Return a FileSending, or None if there is nothing to send.

    Raises SendfileNotAvailableError if *file* has no descriptor.

    The arguments have passed loop._check_sendfile_params().
    """
    cdef FileSending self = FileSending.__new__(FileSending)

    if not hasattr(unix_events.os, "sendfile"):     # asyncio looks there, and its tests change it
        raise exceptions.SendfileNotAvailableError("os.sendfile() is not available")
    try:
        self.file_fd = file.fileno()
        self.size = os.fstat(self.file_fd).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as exc:
        raise exceptions.SendfileNotAvailableError("not a regular file") from exc
    if count is None and self.size == 0:
        return None
    self.file = file
    self.offset = offset
    self.left = INT64_MAX if count is None else min(count, INT64_MAX)
    return self


seal(FileSending)
