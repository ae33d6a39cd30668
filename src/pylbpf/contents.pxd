from .c cimport libbpf
from .handle cimport Handle


cdef class Kind:
    cdef readonly str noun
    cdef void *find(self, libbpf.bpf_object *object, const char *name) noexcept
    cdef void *next(self, libbpf.bpf_object *object, void *item) noexcept
    cdef const char *name(self, void *item) noexcept
    cdef object make(self, Handle handle, void *item)
