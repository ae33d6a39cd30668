from .attach_hook cimport Hooking


cdef class AtWork(Hooking):
    cdef int pin_or_unpin(self, object path, str operation) except -1
