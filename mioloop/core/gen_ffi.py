"""Write the C source of a cffi module: gen_ffi.py MODULE HEADER OUT."""

import os
import sys

from cffi import FFI

module, header, out = sys.argv[1:]
with open(header) as f:
    text = f.read()
begin = text.index("*/", text.index("/* cdef-begin")) + 2
ffi = FFI()
ffi.cdef(text[begin : text.index("/* cdef-end")])
ffi.set_source(module, f'#include "{os.path.basename(header)}"')
ffi.emit_c_code(out)
