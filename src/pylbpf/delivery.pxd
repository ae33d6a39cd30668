"""Callbacks for records."""
from .block cimport Pool
from .record cimport RecordType
from .ring cimport Ring


cdef class NativeCallback:
    cdef int (*function)(void *context, void *data, size_t size) noexcept nogil
    cdef void *pointer
    cdef readonly object callback, context      # kept alive


cdef class Source:
    # One map of a ring buffer, and what becomes of its records.
    cdef Ring ring
    cdef RecordType type
    cdef object callback
    cdef object drops           # a map with the count of records that found no room, or None
    cdef bint batches           # the callback gets many records at once


cdef enum:
    FEW = 16                    # records in C between two looks for signals and at the clock, at first

# After how many to look next, if it took so long; `begun` becomes now.
cdef size_t next_slice(size_t slice, double *begun) noexcept
# Say in an exception what was consumed before it, from a feed or a map.
cdef object noted(object error, object source, Py_ssize_t count)
# Call back with at most `limit` records that wait, until the moment `until` or, if that is 0, for all of them.
cdef Py_ssize_t deliver(Source source, size_t limit, double until, Pool pool) except -1
