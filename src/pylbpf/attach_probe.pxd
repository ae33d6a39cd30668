from .attach cimport Attachable


cdef class Probing(Attachable):
    pass
