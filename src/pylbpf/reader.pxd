"""What ring buffers and perf buffers have in common."""
from cpython.object cimport PyObject

from .block cimport Pool
from .record cimport StructType

cdef unsigned long CONSUMER     # the holder that is a Consumer

cdef class RecordIterator


cdef class Reader:
    cdef str what               # "ring buffer"
    cdef list feeds             # one for each map or CPU
    cdef Pool pool
    cdef int epoll_fd, wake_fd  # the first belongs to who made it
    cdef unsigned int generation
    cdef unsigned long holder   # the thread that reads, 0 for none; changed with the GIL only
    cdef PyObject *loan         # the Lease of records that are borrowed; it keeps us, not we it
    cdef bint opened, closing, is_closed
    cdef double callback_seconds
    cdef Py_ssize_t first       # which feed comes first next time
    cdef public double _interval    # of the timer in an event loop
    cdef object parked          # called by close(): someone waits in an event loop
    cdef object consumer        # weak reference to the one that was started last, or None
    cdef object __weakref__

    cdef int open_wake(self) except -1
    cdef void close_wake(self) noexcept
    cdef int check(self) except -1
    cdef int check_child(self) except -1
    cdef int check_outside(self, object operation) except -1
    cdef int hold(self) except -1
    cdef int acquire(self) except -1
    cdef void release(self) noexcept
    cdef bint wait(self, double deadline) except -1
    cdef object next_record(self, RecordIterator iterator)
    cdef int belong(self, object map) except -1
    cdef int leave(self, object map) except -1
    cdef int halt(self) except -1
    cdef Py_ssize_t drain(self, size_t limit, double until) except -1
    cdef bint waits(self) noexcept

    # What the two do in their own ways.
    # Call back for what waits in one feed, until the moment `until` or, if that is 0, for all.
    cdef Py_ssize_t deliver(self, Py_ssize_t at, size_t limit, double until) except -1
    # The next record of a feed up to where it was marked, or None.
    cdef object take(self, Py_ssize_t at)
    # A batch of what waits.
    cdef object read(self, size_t limit, size_t limit_bytes, object into)
    # The one type of all records, without a tail, or None.
    cdef StructType only_type(self)
    # The one type of the records of one feed, without a tail, or None.
    cdef StructType type_of_feed(self, Py_ssize_t at)
    # Free everything: nobody reads any more.
    cdef int shut(self) except -1


cdef class RecordIterator:
    cdef Reader reader
    cdef double deadline
    cdef Py_ssize_t at          # which feed
    cdef bint begun


# The type that is given, or several told apart by a tag; by names where the map's object has BTF.
cdef object type_of(object map, object type, object dispatch, object tag, bint tail)
cdef int check_callback(object callback, str what) except -1
# By type, where the records are of several.
cdef object told_apart(object batch, Pool pool)
# Feeds in their order, another one first each time.
cdef list rotated(Reader reader)
