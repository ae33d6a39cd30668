# cython: language_level=3
"""A handler of "on/<tracepoint>" whose attach never takes the GIL."""
from libc.errno cimport errno

from pylbpf.c cimport libbpf
from pylbpf.handlers cimport ProgramHandler


cdef class Fast(ProgramHandler):
    section = "on/"
    program_type = 17       # ProgramType.RAW_TRACEPOINT

    cdef int attach_nogil(self, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil:
        link[0] = libbpf.bpf_program__attach_raw_tracepoint(program, libbpf.bpf_program__section_name(program) + 3)
        return 0 if link[0] != NULL else -errno
