from .attach_hook cimport Hooking
from .c cimport libbpf
from .call cimport Call
from .handle cimport Record


cdef class Attachable(Hooking):
    cdef libbpf.bpf_program *own    # which program of the object it is,
    cdef libbpf.bpf_program *ptr    # and the one to ask libbpf about, good after live() and begin()

    cdef libbpf.bpf_program *live(self) except NULL
    cdef bint begin_as(self, str operation, tuple types) except -1
    cdef object end(self, Call *call, libbpf.bpf_link *link, long code, bint locked, str kind, int event=*)


cdef int attach_one(libbpf.bpf_program *program, const Record *record, libbpf.bpf_link **link, int *event) noexcept nogil
