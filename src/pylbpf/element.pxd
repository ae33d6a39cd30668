cimport cython

from .typed cimport Typed

cdef enum Deed:
    LOOKUP, POP, UPDATE, DELETE


cdef class Element(Typed):
    cdef object operate(self, Deed deed, object key, object value, unsigned long long flags, object cpu)
    @cython.final
    cdef object look_up(self, object key)
    cdef unsigned long long with_cpu(self, unsigned long long flags, object cpu) except? 0xffffffffffffffff
    cdef int refuse(self, int code, str operation, object cpu) except -1


cdef object MISSING         # instead of a value
