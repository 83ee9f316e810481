cdef enum:
    WANT = -1                   # of read() and write(): the peer must send more first


cdef class Engine:
    """One TLS session: ciphertext in and out on one side, plaintext on the other."""
    cdef readonly object ssl_object         # ssl.SSLObject: handshake, unwrap, programs' queries

    cdef int feed(self, const char *data, Py_ssize_t size) except -1
    cdef int settle(self) except -1
    cdef Py_ssize_t unread(self) except -1
    cdef Py_ssize_t read(self, char *into, Py_ssize_t capacity) except -2
    cdef Py_ssize_t write(self, const char *data, Py_ssize_t size) except -2
    cdef bytes take(self)


cdef Engine new_engine(object context, bint server_side, object server_hostname)
