"""TlsTransport: the transport that the application of a TLS connection sees."""

from mioloop.reactor.sealed cimport seal
from mioloop.transports.attributes cimport drop_attributes, set_attribute, write_unraisable
from mioloop.transports.tls_closing cimport start_shutdown
from mioloop.transports.tls_reading cimport set_read_limits, watch_unread
from mioloop.transports.tls_session cimport TlsSession
from mioloop.transports.tls_states cimport *
from mioloop.transports.tls_writing cimport (
    pause_if_full, resume_if_drained, set_write_limits, write)

import warnings

from mioloop import stdlib

cdef bint nests = getattr(stdlib.SSLProtocolTransport, "_start_tls_compatible", False)


cdef class TlsTransport:

    def __cinit__(self):
        drop_attributes(self)

    def __setattr__(self, str name, value):
        set_attribute(self, name, value)

    _start_tls_compatible = nests
    _sendfile_compatible = stdlib.SendfileMode.FALLBACK

    def write(self, data):
        """Encrypt *data* and send it after all earlier data. Never blocks."""
        if type(data) is not bytes:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(
                    f"data: expecting a bytes-like instance, got {type(data).__name__}")
            # The caller may change or resize it (R50). A class derived from bytes is copied, too:
            # its __bytes__() may return other bytes, and its __del__() would run during a write.
            data = bytes(memoryview(data))
        if data:
            write(self._ssl_protocol, data)

    def writelines(self, list_of_data):
        """Write all the chunks by one write()."""
        self.write(b"".join(list_of_data))

    def write_eof(self):
        """Raise NotImplementedError: TLS cannot close one direction alone."""
        raise NotImplementedError("TLS connections cannot be half-closed")

    def can_write_eof(self):
        return False

    def close(self):
        """Stop receiving, and close when all written data is sent."""
        start_shutdown(self._ssl_protocol)

    def abort(self):
        """Close at once, without a close_notify."""
        self._force_close(None)

    def _force_close(self, exc):
        if self._ssl_protocol.state != LOST:
            self._ssl_protocol.abort(exc)

    def is_closing(self):
        """Return whether no more data can be sent: after close() or abort(), and when the
        transport below closes or has lost its connection."""
        return self._ssl_protocol.closes()

    def is_reading(self):
        return not self._ssl_protocol.closed() and self._ssl_protocol.reading == WANTED

    def pause_reading(self):
        if not self._ssl_protocol.closed():
            self._ssl_protocol.set_reading(PAUSED)

    def resume_reading(self):
        cdef TlsSession session = self._ssl_protocol
        if not session.closed() and session.reading == PAUSED:
            session.set_reading(WANTED)
            session.resume_later()

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes of plaintext: pause_writing() from *high* upwards,
        resume_writing() down to *low*.

        Data in the transport below is not counted. Raises ValueError unless high >= low >= 0.
        """
        cdef TlsSession session = self._ssl_protocol
        set_write_limits(session, high, low)
        if session._app_protocol is not None:
            pause_if_full(session)
            resume_if_drained(session)

    def get_write_buffer_limits(self):
        return self._ssl_protocol.write_limits

    def get_write_buffer_size(self):
        """Return the number of written bytes that are not encrypted yet."""
        return self._ssl_protocol.flow.size

    def set_read_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes of ciphertext that is read while the application has paused.

        Raises ValueError unless high >= low >= 0.
        """
        cdef TlsSession session = self._ssl_protocol
        set_read_limits(session, high, low)
        if session.state == OPEN:
            watch_unread(session)

    def get_read_buffer_limits(self):
        return self._ssl_protocol.read_limits

    def get_read_buffer_size(self):
        """Return the number of bytes of ciphertext that were read and are not decrypted yet."""
        return self._ssl_protocol.engine.unread()

    def set_protocol(self, protocol):
        self._ssl_protocol.take_protocol(protocol)

    def __reduce_ex__(self, protocol):      # object.__reduce_ex__() would use __class__
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} objects")

    def get_protocol(self):
        return self._ssl_protocol._app_protocol

    def get_extra_info(self, name, default=None):
        """Return extra info: 'sslcontext'; after the handshake 'ssl_object', 'peercert', 'cipher'
        and 'compression' of the session; in all other cases info of the transport below."""
        return self._ssl_protocol._get_extra_info(name, default)

    @property
    def _closed(self):
        return self._ssl_protocol.closed()

    @property
    def _loop(self):
        return self._ssl_protocol.reactor

    @property
    def _context(self):
        return self._ssl_protocol.callback_context

    @property
    def _protocol_paused(self):
        return self._ssl_protocol.flow.paused

    @property
    def _high_water(self):
        return self._ssl_protocol.write_limits[1]

    @property
    def _low_water(self):
        return self._ssl_protocol.write_limits[0]

    def __repr__(self):
        info = [type(self).__name__]
        if self._ssl_protocol.closed():
            info.append("closing" if self._ssl_protocol._app_protocol is not None else "closed")
        return f"<{' '.join(info)} over {self._ssl_protocol._transport!r}>"

    def __del__(self):
        cdef TlsSession session = self._ssl_protocol
        if not session.closed():
            # The transport below closes its descriptor by itself.
            session.enter(FAILED if session.state == HANDSHAKE else CLOSING)
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            except BaseException as exc:
                write_unraisable(exc, self)

    @property
    def __class__(self):
        return stdlib.SSLProtocolTransport


cdef TlsTransport new_tls_transport(TlsSession session):
    cdef TlsTransport transport = TlsTransport.__new__(TlsTransport)
    transport._ssl_protocol = session
    return transport


seal(TlsTransport)
