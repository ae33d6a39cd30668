"""For Cython code that subclasses ProgramHandler: override the nogil methods, with libbpf's own rules for results."""
from .c cimport bpf, libbpf
from .handle cimport Record


cdef class ProgramHandler:
    cdef dict __dict__
    cdef object __weakref__

    # Run without the GIL, before a Python method of the same kind. 0 is success, as more is but for attach,
    # and negative an errno; the attach method gives a new link away through `link`.
    cdef int setup_nogil(self, libbpf.bpf_program *program) noexcept nogil
    cdef int prepare_load_nogil(self, libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil
    cdef int attach_nogil(self, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil


# Fill a record, all zero, with what a handler declares and which of its methods are to be called; return its section
# and priority. Attributes are read once: they may be anything.
cdef tuple describe(object handler, Record *record)

# Address of a C function given in any of the usual ways; 0 for None.
cdef size_t address_of(object function, str kind) except? 0
