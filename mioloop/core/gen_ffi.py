"""Write the C source of mioloop.mio._core: gen_ffi.py mio.h OUT."""

import sys

from cffi import FFI

header, out = sys.argv[1:]
with open(header) as f:
    text = f.read()
begin = text.index("*/", text.index("/* cdef-begin")) + 2
ffi = FFI()
ffi.cdef(text[begin : text.index("/* cdef-end")])
ffi.set_source("mioloop.mio._core", '#include "mio.h"')
ffi.emit_c_code(out)
