from .attach_probe cimport Probing


cdef class Tracing(Probing):
    pass
