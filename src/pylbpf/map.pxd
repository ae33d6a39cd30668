from .c cimport libbpf
from .mapping cimport Mapping
from .handle cimport Handle
from .kernelmap cimport KernelMap


cdef class Map(Mapping):
    cdef Map another(self)
    cdef int require_alike(self, KernelMap other) except -1
    cdef int pin_or_unpin(self, object path, bint pin) except -1
    cdef int pin_or_unpin_lone(self, object path, bint pin) except -1


cdef Map make_map(Handle handle, libbpf.bpf_map *ptr)
cdef Map make_lone_map(KernelMap kernel)
