from .definition cimport Definition


cdef class Elements(Definition):
    cdef object fetch(self, object key, unsigned long long flags, bint delete)


cdef bint sleeps(int type) noexcept nogil
cdef int get_bytes(object source, Py_buffer *buffer, Py_ssize_t size, str what, Elements map) except -1
