from .elements cimport Elements


cdef class Arrays(Elements):
    pass
