from libc.stdint cimport int64_t


cdef class FileSending:
    """A file on its way into a socket by sendfile(2), a bounded part at a time."""
    cdef object file
    cdef int file_fd
    cdef int64_t size                   # of the file when it was opened; it may grow or shrink
    cdef int64_t offset                 # in the file, of the next byte to send
    cdef int64_t left                   # to send; INT64_MAX: until the file ends
    cdef readonly int64_t sent
    cdef object waiter                  # future that a transport's sendfile() waits for

    cdef Py_ssize_t send_part(self, int fd) noexcept
    cdef object failure(self, int error)
    cdef int leave_position(self) except -1


cdef FileSending open_file(object file, object offset, object count)
