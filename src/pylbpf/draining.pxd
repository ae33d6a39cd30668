"""A thread that drains ring buffers and perf buffers, and the queue that it fills."""
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from .block cimport Pool
from .reader cimport Reader
from .record cimport StructType

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass


cdef struct Drain:
    # What the thread sees: no Python object, but feeds, which the Draining keeps, and whose C methods need no GIL.
    PyObject **feeds
    int feed_count
    size_t size                 # of a record
    size_t room                 # records of a block
    int epoll_fd, stop_fd
    bint overwrite              # the oldest block, when all are full
    pthread_mutex_t mutex       # guards what follows
    pthread_cond_t news
    bint stopped, ended
    size_t blocks
    char **free
    size_t free_count
    char **filled               # a ring: `queued` blocks from `first` on
    size_t *counts
    size_t first, queued
    size_t in_hand              # records of the newest block, while the thread adds to it
    int wanting                 # who waits for a block
    uint64_t taken, overwritten, misfits


cdef class Draining:
    # The thread and what it fills: for the Consumer, and for the thread that calls a target.
    cdef Drain drain
    cdef Reader ring
    cdef tuple feeds            # no list: the collector empties those, and the thread looks at their memory
    cdef StructType type
    cdef Pool pool
    cdef pthread_t thread
    cdef unsigned int generation
    cdef bint started, joined
    cdef bint dropped           # nobody asks for the failure of the target any more
    cdef object failure

    # The next array, or None if there is none until then, or will be none any more.
    cdef object next_block(self, double deadline)
    cdef size_t queued(self) noexcept
    cdef int begin(self) except -1
    cdef void signal_stop(self) noexcept nogil
    cdef void end(self) noexcept


cdef int prepare(Draining draining, Reader ring, size_t room, size_t blocks, object policy) except -1
