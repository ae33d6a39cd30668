from .element cimport Element


cdef class Mapping(Element):
    pass
