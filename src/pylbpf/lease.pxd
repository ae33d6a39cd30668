"""Records in place."""
from .reader cimport Reader
from .record cimport StructType
from .ring cimport Mapping, Ring, ring_walk


cdef class Lease:
    cdef Reader owner           # a RingBuffer, while records are borrowed
    cdef Ring ring
    cdef Mapping mapping
    cdef StructType type
    cdef ring_walk walk         # up to where the records will have been consumed
    cdef unsigned long begin    # position of the first record
    cdef const char *start      # its header
    cdef unsigned long stride   # of typed records
    cdef unsigned int *offsets  # of others: from `start`
    cdef unsigned int *sizes
    cdef Py_ssize_t count, slots
    cdef Py_ssize_t exports
    cdef size_t limit
    cdef object timeout
    cdef bint active

    cdef int look(self, Ring ring, StructType type) except -1
    cdef bint look_any(self, Ring ring) noexcept nogil
    cdef int finish(self, bint commit) except -1
    cdef int check(self) except -1


cdef Lease make_lease(Reader owner, size_t limit, object timeout)
