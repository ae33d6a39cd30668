"""One reserved place of a user ring buffer."""
from .usersender cimport UserSender


cdef class UserSample:
    cdef UserSender sender
    cdef object ring            # kept
    cdef void *data             # NULL: finished
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t exports
    cdef object view            # weak reference to the memoryview that `with` gave
    cdef object record          # of a type
    cdef bint doomed            # to be discarded when the last view goes

    cdef void begin(self, void *data) noexcept
    cdef void commit(self, bint discard) noexcept
    cdef int check(self, str operation) except -1
    cdef int finish(self, bint discard, str operation) except -1


# To begin() with what the sender has taken; `record` is the array of a sample with a type.
cdef UserSample make_sample(object ring, UserSender sender, Py_ssize_t size, object record)
