from .c cimport libbpf
from .handle cimport Handle


cdef class Map:
    cdef Handle handle
    cdef libbpf.bpf_map *ptr

    cdef libbpf.bpf_map *live(self) except NULL
    cdef bint exists(self) except -1
    cdef int descriptor(self) except -1
    cdef bint change(self, str what) except -1
    cdef int done(self, bint locked, int code, str what) except -1
    cdef int pin_or_unpin(self, object path, bint pin) except -1
    cdef Py_ssize_t value_bytes(self) except -1
    cdef object fetch(self, object key, unsigned long long flags, bint delete)


cdef Map make_map(Handle handle, libbpf.bpf_map *ptr)
