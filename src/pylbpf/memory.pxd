from .codec cimport Codec
from .definition cimport Definition
from .handle cimport Handle
from .spans cimport Span


cdef class MapView:
    cdef char *start
    cdef Py_ssize_t size
    cdef readonly bint readonly
    cdef bint own                   # mapped by us; else it is libbpf's, of `handle`, which counts us
    cdef Handle handle
    cdef Span span                  # of an arena that we have mapped
    cdef unsigned int generation    # of forks: a child does not get an arena
    cdef readonly object map        # the Map
    cdef Codec codec
    cdef Py_ssize_t stride, count
    cdef Py_ssize_t exports
    cdef object __weakref__

    cdef int check(self) except -1
    cdef int free(self) noexcept


cdef MapView map_memory(Definition map, Codec codec)
cdef MapView view_initial(Definition map, Codec codec)
