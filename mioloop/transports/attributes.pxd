cdef int write_unraisable(exc, transport) except -1
cdef int drop_attributes(object transport) noexcept
cdef bint has_attributes(object transport) noexcept
cdef int set_attribute(object transport, str name, object value) except -1
cdef object extra_info(transport, dict extra, name, default)
