"""For Cython code that subclasses ProgramHandler: override the nogil methods, with libbpf's own rules for results."""
from .c cimport bpf, libbpf
from .handle cimport Handle, Record


cdef class ProgramHandler:
    cdef dict __dict__
    cdef object __weakref__

    # Run without the GIL, before a Python method of the same kind. 0 or more is success, negative an errno; the
    # attach method gives a new link away through `link`.
    cdef int setup_nogil(self, libbpf.bpf_program *program) noexcept nogil
    cdef int prepare_load_nogil(self, libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil
    cdef int attach_nogil(self, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil


cdef class Entry:
    cdef Record record
    cdef readonly object handler
    cdef bytes pattern
    cdef readonly int priority
    cdef readonly bint own          # of one object, not global
    cdef readonly long number       # order of registration


cdef int begin_open(Handle handle, object handlers) except -1
cdef int end_open(Handle handle) except -1
cdef void enter_gate() noexcept nogil
cdef void leave_gate(Handle handle) noexcept nogil
