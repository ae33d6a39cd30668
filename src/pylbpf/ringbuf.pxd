"""Ring buffers, for the rooms that read them in other ways."""
from .block cimport Pool
from .delivery cimport Source
from .lease cimport Lease
from .handle cimport Handle

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass


cdef unsigned long CONSUMER     # the holder that is a Consumer

cdef class RecordIterator


cdef class RingBuffer:
    cdef list sources           # Source, one for each map
    cdef list rings             # their rings
    cdef Pool pool
    cdef Lease lease            # whose records are borrowed now
    cdef int epoll_fd, wake_fd
    cdef unsigned int generation
    cdef unsigned long holder   # the thread that reads, 0 for none; changed with the GIL only
    cdef sem_t left             # posted for each that waits for the holder to leave
    cdef int waiters
    cdef bint opened, closing, is_closed
    cdef double callback_seconds
    cdef Py_ssize_t first       # which source comes first next time
    cdef public double _interval    # of the timer in an event loop
    cdef object consumer        # weak reference to the one that was started last, or None
    cdef object parked          # called by close(): someone waits in an event loop
    cdef object __weakref__

    cdef int check(self) except -1
    cdef void free_all(self) noexcept
    cdef int acquire(self) except -1
    cdef void release(self) noexcept
    cdef bint waits(self) noexcept
    cdef bint wait(self, double deadline) except -1
    cdef int close_all(self, bint commit) except -1
    cdef Py_ssize_t drain(self, size_t limit, double until) except -1
    cdef object read(self, size_t limit, size_t limit_bytes, object into)
    cdef object next_record(self, RecordIterator iterator)
    cdef int belong(self, Handle handle) except -1
    cdef int leave(self, object map) except -1


cdef class RecordIterator:
    cdef RingBuffer ring
    cdef double deadline
    cdef Py_ssize_t at          # which source
    cdef bint begun
