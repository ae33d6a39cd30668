from .attach_trace cimport Tracing


cdef class Networking(Tracing):
    cdef object in_order(self, str kind, int target, object where, tuple types, int minor,
                         unsigned int flags, object relative_fd, object relative_id, object expected_revision)
