from .handle cimport Handle, Record


cdef class Entry:
    cdef Record record
    cdef readonly object handler
    cdef bytes pattern              # the section, or None
    cdef readonly int priority
    cdef readonly bint own          # of one object, not global
    cdef readonly long number       # order of registration


cdef int begin_open(Handle handle, object handlers) except -1
cdef int end_open(Handle handle) except -1
cdef int guard_stranger(Handle handle) except -1
