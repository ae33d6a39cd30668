"""The public side of a thread that drains ring buffers."""
from .draining cimport Draining


cdef class Consumer:
    cdef Draining draining
    cdef object feeder, lock
    cdef object __weakref__

    cdef bint runs(self)
