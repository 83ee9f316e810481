"""TLS engines: the record layer of one session, without I/O and without asyncio.

feed() gives an engine the peer's ciphertext, and take() returns the ciphertext to send. Handshake,
shutdown and queries go to its `ssl.SSLObject`, made by the program's own SSLContext, so that the
`ssl` module provides certificates, verification and errors. Data is processed by one of two
classes:

- OpenSslEngine calls the libssl that the interpreter's `_ssl` has loaded, on the session of that
  SSLObject. Ciphertext is read from the caller's buffer, and an idle connection keeps no buffer.
- MemoryEngine uses `ssl.MemoryBIO`. It serves where libssl cannot be called: `_ssl` is linked
  statically, or the layout of its objects is unknown.

A process chooses its engine once, with a trial session (see find_libssl). MIOLOOP_TLS_ENGINE=memory
or openssl in the environment replaces that choice.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.object cimport PyObject
from libc.limits cimport INT_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from mioloop.reactor.sealed cimport seal

import os

try:
    import ssl
    import _ssl
except ImportError:                     # a Python without OpenSSL: no TLS
    ssl = _ssl = None

cdef extern from "<dlfcn.h>" nogil:
    int RTLD_LAZY
    void *dlopen(const char *path, int mode)
    void *dlsym(void *library, const char *name)

cdef extern from * nogil:
    """
    /* The interface of OpenSSL 1.1.1 and later, and of compatible libraries. It is declared here
     * because the headers may be missing. The functions are looked up in the library that _ssl
     * is linked with. */
    typedef struct ssl_st SSL;
    typedef struct bio_st BIO;
    typedef struct bio_method_st BIO_METHOD;

    typedef struct {
        int (*SSL_read)(SSL *, void *, int);
        int (*SSL_write)(SSL *, const void *, int);
        int (*SSL_get_error)(const SSL *, int);
        void (*SSL_set_bio)(SSL *, BIO *, BIO *);
        BIO *(*SSL_get_rbio)(const SSL *);
        BIO *(*SSL_get_wbio)(const SSL *);
        void (*ERR_clear_error)(void);
        BIO *(*BIO_new)(const BIO_METHOD *);
        int (*BIO_free)(BIO *);
        int (*BIO_up_ref)(BIO *);
        void (*BIO_set_data)(BIO *, void *);
        void *(*BIO_get_data)(BIO *);
        void (*BIO_set_init)(BIO *, int);
        void (*BIO_set_flags)(BIO *, int);
        void (*BIO_clear_flags)(BIO *, int);
        int (*BIO_get_new_index)(void);
        BIO_METHOD *(*BIO_meth_new)(int, const char *);
        int (*BIO_meth_set_read)(BIO_METHOD *, int (*)(BIO *, char *, int));
        int (*BIO_meth_set_write)(BIO_METHOD *, int (*)(BIO *, const char *, int));
        int (*BIO_meth_set_ctrl)(BIO_METHOD *, long (*)(BIO *, int, long, void *));
        int (*BIO_meth_set_destroy)(BIO_METHOD *, int (*)(BIO *));
    } libssl_calls;

    enum {
        MIO_SSL_ERROR_SSL = 1, MIO_SSL_ERROR_SYSCALL = 5, MIO_SSL_ERROR_ZERO_RETURN = 6,
        MIO_BIO_CTRL_PENDING = 10, MIO_BIO_CTRL_FLUSH = 11, MIO_BIO_CTRL_WPENDING = 13,
        MIO_BIO_TYPE_SOURCE_SINK = 0x0400, MIO_BIO_RETRY_READ = 0x09, MIO_BIO_RETRY_ANY = 0x0f
    };

    /* The first fields of _ssl's objects, from CPython 3.10 to 3.13 at least. */
    typedef struct { PyObject_HEAD void *socket; SSL *ssl; PyObject *context; } ssl_socket_head;
    typedef struct { PyObject_HEAD BIO *bio; } memory_bio_head;
    """
    ctypedef struct SSL
    ctypedef struct BIO
    ctypedef struct BIO_METHOD

    ctypedef struct libssl_calls:
        int (*SSL_read)(SSL *, void *, int) noexcept nogil
        int (*SSL_write)(SSL *, const void *, int) noexcept nogil
        int (*SSL_get_error)(const SSL *, int) noexcept nogil
        void (*SSL_set_bio)(SSL *, BIO *, BIO *) noexcept nogil
        BIO *(*SSL_get_rbio)(const SSL *) noexcept nogil
        BIO *(*SSL_get_wbio)(const SSL *) noexcept nogil
        void (*ERR_clear_error)() noexcept nogil
        BIO *(*BIO_new)(const BIO_METHOD *) noexcept nogil
        int (*BIO_free)(BIO *) noexcept nogil
        int (*BIO_up_ref)(BIO *) noexcept nogil
        void (*BIO_set_data)(BIO *, void *) noexcept nogil
        void *(*BIO_get_data)(BIO *) noexcept nogil
        void (*BIO_set_init)(BIO *, int) noexcept nogil
        void (*BIO_set_flags)(BIO *, int) noexcept nogil
        void (*BIO_clear_flags)(BIO *, int) noexcept nogil
        int (*BIO_get_new_index)() noexcept nogil
        BIO_METHOD *(*BIO_meth_new)(int, const char *) noexcept nogil
        int (*BIO_meth_set_read)(BIO_METHOD *, int (*)(BIO *, char *, int) noexcept nogil) noexcept nogil
        int (*BIO_meth_set_write)(BIO_METHOD *, int (*)(BIO *, const char *, int) noexcept nogil) noexcept nogil
        int (*BIO_meth_set_ctrl)(BIO_METHOD *, long (*)(BIO *, int, long, void *) noexcept nogil) noexcept nogil
        int (*BIO_meth_set_destroy)(BIO_METHOD *, int (*)(BIO *) noexcept nogil) noexcept nogil

    enum:
        MIO_SSL_ERROR_SSL
        MIO_SSL_ERROR_SYSCALL
        MIO_SSL_ERROR_ZERO_RETURN
        MIO_BIO_CTRL_PENDING
        MIO_BIO_CTRL_FLUSH
        MIO_BIO_CTRL_WPENDING
        MIO_BIO_TYPE_SOURCE_SINK
        MIO_BIO_RETRY_READ
        MIO_BIO_RETRY_ANY

    ctypedef struct ssl_socket_head:
        SSL *ssl
        PyObject *context
    ctypedef struct memory_bio_head:
        BIO *bio

cdef libssl_calls lib                   # filled by find_libssl()
cdef BIO_METHOD *wire_method = NULL
cdef str chosen = None                  # name of this process's engine; None until it is chosen


cdef class Engine:

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        """Take ciphertext of the peer. It is not copied before settle()."""
        return 0

    cdef int settle(self) except -1:
        """Copy the ciphertext that is not consumed yet: feed()'s buffer is about to be reused."""
        return 0

    cdef Py_ssize_t unread(self) except -1:
        """Return the number of bytes that were fed and are not consumed yet."""
        return 0

    cdef Py_ssize_t read(self, char *into, Py_ssize_t capacity) except -2:
        """Decrypt. Return a count of bytes, 0 at the peer's close_notify, or WANT."""
        return WANT

    cdef Py_ssize_t write(self, const char *data, Py_ssize_t size) except -2:
        """Encrypt. Return *size*; or WANT: feed() more, and call again with the same bytes."""
        return WANT

    cdef bytes take(self):
        """Return the ciphertext to send now, or None."""
        return None


# -- by ssl.MemoryBIO ---------------------------------------------------------------------


cdef class MemoryEngine(Engine):
    cdef object incoming, outgoing

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        self.incoming.write(PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ))
        return 0

    cdef Py_ssize_t unread(self) except -1:
        return self.incoming.pending

    cdef Py_ssize_t read(self, char *into, Py_ssize_t capacity) except -2:
        try:
            return self.ssl_object.read(
                capacity, PyMemoryView_FromMemory(into, capacity, PyBUF_WRITE))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            return WANT
        except ssl.SSLZeroReturnError:
            return 0

    cdef Py_ssize_t write(self, const char *data, Py_ssize_t size) except -2:
        try:
            return self.ssl_object.write(PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            return WANT

    cdef bytes take(self):
        return self.outgoing.read() if self.outgoing.pending else None


# -- by libssl itself -----------------------------------------------------------------------


cdef struct Wire:
    # The buffers between the session and its stream. The BIO owns them, because a program may
    # keep the BIO alive through the SSLObject for longer than the engine lives. They contain no
    # Python objects: a handshake runs without the GIL.
    const char *unread
    size_t unread_size
    char *kept                          # the buffer that `unread` points into after settle()
    char *unsent
    size_t unsent_size
    size_t unsent_capacity


cdef int wire_read(BIO *bio, char *into, int capacity) noexcept nogil:
    cdef Wire *wire = <Wire *>lib.BIO_get_data(bio)
    cdef int n

    lib.BIO_clear_flags(bio, MIO_BIO_RETRY_ANY)
    if wire.unread_size == 0 or capacity <= 0:
        lib.BIO_set_flags(bio, MIO_BIO_RETRY_READ)
        return -1
    n = capacity if <size_t>capacity < wire.unread_size else <int>wire.unread_size
    memcpy(into, wire.unread, n)
    wire.unread += n
    wire.unread_size -= n
    return n


cdef int wire_write(BIO *bio, const char *data, int size) noexcept nogil:
    cdef Wire *wire = <Wire *>lib.BIO_get_data(bio)
    cdef size_t capacity
    cdef char *grown

    lib.BIO_clear_flags(bio, MIO_BIO_RETRY_ANY)
    if size <= 0:
        return 0
    if wire.unsent_size + size > wire.unsent_capacity:
        capacity = max(wire.unsent_size + size, 2 * wire.unsent_capacity)
        grown = <char *>realloc(wire.unsent, capacity)
        if grown == NULL:
            return -1
        wire.unsent = grown
        wire.unsent_capacity = capacity
    memcpy(wire.unsent + wire.unsent_size, data, size)
    wire.unsent_size += size
    return size


cdef long wire_ctrl(BIO *bio, int what, long number, void *pointer) noexcept nogil:
    cdef Wire *wire = <Wire *>lib.BIO_get_data(bio)

    if what == MIO_BIO_CTRL_FLUSH:
        return 1
    if what == MIO_BIO_CTRL_PENDING:
        return <long>wire.unread_size
    if what == MIO_BIO_CTRL_WPENDING:
        return <long>wire.unsent_size
    return 0


cdef int wire_destroy(BIO *bio) noexcept nogil:
    cdef Wire *wire = <Wire *>lib.BIO_get_data(bio)

    if wire != NULL:
        free(wire.kept)
        free(wire.unsent)
        free(wire)
        lib.BIO_set_data(bio, NULL)
    return 1


cdef class OpenSslEngine(Engine):
    cdef SSL *ssl                       # borrowed from ssl_object
    cdef BIO *bio                       # owned reference, which keeps `wire` alive
    cdef Wire *wire

    cdef int attach(self, SSL *session) except -1:
        """Replace the SSLObject's MemoryBIOs by the wire."""
        cdef BIO *bio = lib.BIO_new(wire_method)
        if bio == NULL:
            raise MemoryError()
        self.wire = <Wire *>calloc(1, sizeof(Wire))
        if self.wire == NULL:
            lib.BIO_free(bio)
            raise MemoryError()
        lib.BIO_set_data(bio, self.wire)
        lib.BIO_set_init(bio, 1)
        self.bio = bio
        lib.BIO_up_ref(bio)             # the reference that the session owns
        lib.SSL_set_bio(session, bio, bio)
        self.ssl = session
        return 0

    def __dealloc__(self):
        if self.bio != NULL:
            self.wire.unread_size = 0   # a surviving SSLObject must read nothing more
            lib.BIO_free(self.bio)

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        cdef Wire *wire = self.wire
        cdef char *joined

        if wire.unread_size == 0:
            wire.unread = data
            wire.unread_size = size
            return 0
        joined = <char *>malloc(wire.unread_size + size)
        if joined == NULL:
            raise MemoryError()
        memcpy(joined, wire.unread, wire.unread_size)
        memcpy(joined + wire.unread_size, data, size)
        free(wire.kept)
        wire.unread = wire.kept = joined
        wire.unread_size += size
        return 0

    cdef int settle(self) except -1:
        cdef Wire *wire = self.wire
        cdef char *kept

        if wire.unread_size == 0:
            if wire.kept != NULL:
                free(wire.kept)
                wire.kept = NULL
            return 0
        if wire.kept != NULL:           # it already has all unread bytes
            return 0
        kept = <char *>malloc(wire.unread_size)
        if kept == NULL:
            wire.unread_size = 0
            raise MemoryError()
        memcpy(kept, wire.unread, wire.unread_size)
        wire.unread = wire.kept = kept
        return 0

    cdef Py_ssize_t unread(self) except -1:
        return self.wire.unread_size

    cdef Py_ssize_t read(self, char *into, Py_ssize_t capacity) except -2:
        cdef int n, error

        lib.ERR_clear_error()
        n = lib.SSL_read(self.ssl, into, <int>min(capacity, INT_MAX))
        if n > 0:
            return n
        error = lib.SSL_get_error(self.ssl, n)
        if error == MIO_SSL_ERROR_ZERO_RETURN:
            return 0
        if error == MIO_SSL_ERROR_SSL or error == MIO_SSL_ERROR_SYSCALL:
            self.raise_queued(error, self.ssl_object.read, 1)
        return WANT

    cdef Py_ssize_t write(self, const char *data, Py_ssize_t size) except -2:
        cdef int n, error

        lib.ERR_clear_error()
        n = lib.SSL_write(self.ssl, data, <int>min(size, INT_MAX))
        if n > 0:
            return n
        error = lib.SSL_get_error(self.ssl, n)
        if error == MIO_SSL_ERROR_ZERO_RETURN:
            raise ssl.SSLZeroReturnError("TLS/SSL connection has been closed (EOF)")
        if error == MIO_SSL_ERROR_SSL or error == MIO_SSL_ERROR_SYSCALL:
            self.raise_queued(error, self.ssl_object.write, b"x")
        return WANT

    cdef int raise_queued(self, int error, again, arg) except -1:
        """Raise the error that is in OpenSSL's error queue.

        `_ssl` makes the exception, with the library and reason that programs look at, when *again*
        calls the session once more. The session has failed, so this call adds nothing to the queue.
        """
        if error == MIO_SSL_ERROR_SYSCALL:
            raise MemoryError("no memory for TLS records")      # the wire fails in no other way
        again(arg)
        raise ssl.SSLError(MIO_SSL_ERROR_SSL, "the TLS session has failed")

    cdef bytes take(self):
        cdef Wire *wire = self.wire
        cdef bytes data

        if wire.unsent_size == 0:
            return None
        data = PyBytes_FromStringAndSize(wire.unsent, wire.unsent_size)
        free(wire.unsent)
        wire.unsent = NULL
        wire.unsent_size = wire.unsent_capacity = 0
        return data


# -- the choice of the engine -----------------------------------------------------------------


cdef SSL *session_of(ssl_object):
    """Return the session of an SSLObject; NULL if the object's layout is unknown."""
    inner = getattr(ssl_object, "_sslobj", None)
    if type(inner) is not _ssl._SSLSocket:
        return NULL
    if (<ssl_socket_head *><PyObject *>inner).context != <PyObject *>inner.context:
        return NULL
    return (<ssl_socket_head *><PyObject *>inner).ssl


cdef str find_libssl():
    """Look up libssl and try it. Return the reason why it cannot be used, or None if it can."""
    cdef void *library
    cdef SSL *session
    cdef void **call
    cdef BIO_METHOD *method

    path = getattr(_ssl, "__file__", None)
    if path is None:                    # built into the interpreter
        library = dlopen(NULL, RTLD_LAZY)
    else:
        path = os.fsencode(path)
        library = dlopen(path, RTLD_LAZY)
    if library == NULL:
        return "the _ssl module cannot be opened"
    for name, offset in (
        ("SSL_read", <size_t>&lib.SSL_read),
        ("SSL_write", <size_t>&lib.SSL_write),
        ("SSL_get_error", <size_t>&lib.SSL_get_error),
        ("SSL_set_bio", <size_t>&lib.SSL_set_bio),
        ("SSL_get_rbio", <size_t>&lib.SSL_get_rbio),
        ("SSL_get_wbio", <size_t>&lib.SSL_get_wbio),
        ("ERR_clear_error", <size_t>&lib.ERR_clear_error),
        ("BIO_new", <size_t>&lib.BIO_new),
        ("BIO_free", <size_t>&lib.BIO_free),
        ("BIO_up_ref", <size_t>&lib.BIO_up_ref),
        ("BIO_set_data", <size_t>&lib.BIO_set_data),
        ("BIO_get_data", <size_t>&lib.BIO_get_data),
        ("BIO_set_init", <size_t>&lib.BIO_set_init),
        ("BIO_set_flags", <size_t>&lib.BIO_set_flags),
        ("BIO_clear_flags", <size_t>&lib.BIO_clear_flags),
        ("BIO_get_new_index", <size_t>&lib.BIO_get_new_index),
        ("BIO_meth_new", <size_t>&lib.BIO_meth_new),
        ("BIO_meth_set_read", <size_t>&lib.BIO_meth_set_read),
        ("BIO_meth_set_write", <size_t>&lib.BIO_meth_set_write),
        ("BIO_meth_set_ctrl", <size_t>&lib.BIO_meth_set_ctrl),
        ("BIO_meth_set_destroy", <size_t>&lib.BIO_meth_set_destroy),
    ):
        call = <void **><size_t>offset
        call[0] = dlsym(library, name.encode())
        if call[0] == NULL:
            return f"{name}() is not to be found: OpenSSL is linked statically"

    # Check the sizes and one known address first, so that only real pointers are followed.
    if (_ssl._SSLSocket.__basicsize__ < <Py_ssize_t>sizeof(ssl_socket_head)
            or ssl.MemoryBIO.__basicsize__ < <Py_ssize_t>sizeof(memory_bio_head)):
        return "the objects of _ssl are laid out in another way"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
        incoming, outgoing, server_hostname="localhost")
    session = session_of(trial)
    if (session == NULL
            or lib.SSL_get_rbio(session) != (<memory_bio_head *><PyObject *>incoming).bio
            or lib.SSL_get_wbio(session) != (<memory_bio_head *><PyObject *>outgoing).bio):
        return "the objects of _ssl are laid out in another way"

    method = lib.BIO_meth_new(lib.BIO_get_new_index() | MIO_BIO_TYPE_SOURCE_SINK, "mioloop wire")
    if method == NULL:
        raise MemoryError()
    lib.BIO_meth_set_read(method, wire_read)
    lib.BIO_meth_set_write(method, wire_write)
    lib.BIO_meth_set_ctrl(method, wire_ctrl)
    lib.BIO_meth_set_destroy(method, wire_destroy)
    global wire_method
    wire_method = method
    return None


def select_engine(name=None):
    """Choose the engine of future sessions: "openssl", "memory", or None for the better one.

    Returns:
        the name of the chosen engine.

    Raises:
        ValueError: *name* is unknown; the message has the valid names.
        RuntimeError: *name* is "openssl", which cannot be used here; the message says why.
    """
    global chosen
    if name not in (None, "openssl", "memory"):
        raise ValueError(f"no TLS engine {name!r}: the valid ones are 'openssl' and 'memory'")
    problem = None
    if name != "memory" and wire_method == NULL:
        problem = find_libssl()
        if problem is not None and name == "openssl":
            raise RuntimeError(f"the TLS engine 'openssl' cannot be used: {problem}")
    chosen = "memory" if name == "memory" or problem is not None else "openssl"
    return chosen


def engine_in_use():
    """Return the name of the engine that new sessions get: "openssl" or "memory".

    Raises ValueError or RuntimeError, like select_engine(), for the value of MIOLOOP_TLS_ENGINE.
    """
    return chosen or select_engine(os.environ.get("MIOLOOP_TLS_ENGINE") or None)


cdef Engine new_engine(object context, bint server_side, object server_hostname):
    """Return an engine with a new session of *context*, before its handshake."""
    cdef OpenSslEngine direct
    cdef MemoryEngine memory
    cdef SSL *session

    if chosen is None:
        engine_in_use()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ssl_object = context.wrap_bio(
        incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    session = session_of(ssl_object) if chosen == "openssl" else NULL
    if session != NULL:
        direct = OpenSslEngine.__new__(OpenSslEngine)
        direct.ssl_object = ssl_object
        direct.attach(session)
        return direct
    memory = MemoryEngine.__new__(MemoryEngine)
    memory.ssl_object = ssl_object
    memory.incoming = incoming
    memory.outgoing = outgoing
    return memory


seal(Engine)
seal(MemoryEngine)
seal(OpenSslEngine)
