from .handle cimport Handle
from .opening cimport Request
from .c cimport libbpf


cdef class Object:
    cdef Handle handle
    cdef object source
    cdef dict options
    cdef list attached
    cdef object __weakref__

    cdef int run(self, bint preparing, int threads) except -1
    cdef int attach_programs(self, libbpf.bpf_program **programs, libbpf.bpf_link **made, Py_ssize_t count,
                             list links, list skipped) except -1
    cdef int attach_maps(self, list links) except -1
    cdef int close_all(self) except -1
    cdef int free_all(self) except -1


cdef Object make_object(Request request)
