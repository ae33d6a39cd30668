"""Records in place."""
from .feed cimport Feed, Loan
from .reader cimport Reader
from .record cimport StructType


cdef class Lease:
    cdef Reader owner           # until they are given back
    cdef str what               # "ring buffer"
    cdef Feed feed
    cdef StructType type
    cdef Loan loan
    cdef object memory          # what keeps it
    cdef Py_ssize_t exports
    cdef size_t limit
    cdef object timeout
    cdef bint active

    cdef int look(self, Feed feed, StructType type) except -1
    cdef int lend(self, Reader owner) except -1
    cdef int take_back(self, Reader owner) except -1
    cdef int finish(self, bint commit) except -1
    cdef int check(self) except -1


cdef Lease make_lease(Reader owner, object max_records, object timeout)
# Of a reader that is being closed.
cdef int end_lease(Reader owner, bint commit) except -1
