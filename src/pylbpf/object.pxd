from .call cimport Call
from .handle cimport Handle
from .opening cimport Request


cdef class Object:
    cdef Handle handle
    cdef object source
    cdef dict options
    cdef list attached
    cdef object variables           # Globals, once they were asked for
    cdef object __weakref__

    cdef int run(self, bint preparing) except -1
    cdef int finish_run(self, Call *call, int code, str operation) except -1
    cdef int forget_closed(self) except -1
    cdef int check_source(self, str operation) except -1
    cdef int check_idle(self, str operation) except -1
    cdef int close_all(self) except -1
    cdef int free_all(self) except -1


cdef Object make_object(Request request)
