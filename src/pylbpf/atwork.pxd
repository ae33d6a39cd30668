from .link cimport Linked


cdef class AtWork(Linked):
    pass
