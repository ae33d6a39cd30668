"""A thread that drains ring buffers."""
from libc.stdint cimport uint64_t

from .block cimport Pool
from .record cimport StructType
from .ring cimport ring_memory
from .ringbuf cimport RingBuffer

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass


cdef struct Drain:
    # What the thread sees: none of it is a Python object.
    ring_memory **rings
    int ring_count
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
    uint64_t taken, overwritten, misfits


cdef class Consumer:
    cdef Drain drain
    cdef RingBuffer ring
    cdef StructType type
    cdef Pool pool
    cdef pthread_t thread
    cdef unsigned int generation
    cdef bint started, joined
    cdef object feeder, failure, lock
    cdef object __weakref__

    cdef object next_block(self, double deadline)
    cdef int begin(self) except -1
    cdef void signal_stop(self) noexcept nogil
    cdef void end(self) noexcept
