from .attach cimport Attachable
from .c cimport libbpf
from .handle cimport Handle


cdef class Program(Attachable):
    cdef int pin_or_unpin(self, object path, str operation) except -1
    cdef bint enter(self, str operation) except -1
    cdef bint change(self, int phases, str what) except -1
    cdef int done(self, bint locked, int code, str what) except -1


cdef Program make_program(Handle handle, libbpf.bpf_program *ptr)
