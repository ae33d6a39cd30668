"""What sends samples through a user ring buffer map."""
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport uint64_t

from .c cimport libbpf


cdef class UserSender:
    cdef libbpf.user_ring_buffer *ptr
    cdef int fd, wake_fd
    cdef size_t capacity
    cdef uint64_t sent
    cdef unsigned int generation
    cdef PyThread_type_lock lock        # for what happens in the ring; short
    cdef size_t samples                 # reserved and not finished by their owners
    cdef size_t waiting                 # threads that wait for room
    cdef bint closing

    cdef void free_all(self) noexcept
    cdef int check(self) except -1
    cdef int check_outside(self, object operation) except -1
    # Wake who waits, and free everything.
    cdef int close(self) except -1
    cdef int check_size(self, Py_ssize_t size) except -1
    cdef int acquire(self) except -1
    cdef void *try_take(self, Py_ssize_t size) except? NULL
    # Reserve, waiting for room until the deadline; NULL if there is none by then. Nothing may happen between this and the
    # use of the result: close() does not know of it yet.
    cdef void *take(self, Py_ssize_t size, double deadline) except? NULL
    cdef void submit(self, void *data) noexcept
    # Copy samples of one length from `data` on until the ring is full; return how many.
    cdef Py_ssize_t send_burst(self, const char *data, Py_ssize_t length, Py_ssize_t count) except -1


cdef UserSender open_sender(object map)
