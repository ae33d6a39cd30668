from .c cimport libbpf
from .handle cimport Handle
from .kernelmap cimport KernelMap


cdef class Definition:
    cdef Handle handle              # of the object that the map is of, or None:
    cdef libbpf.bpf_map *ptr
    cdef KernelMap kernel           # then it is known by a descriptor of its own

    # The pointer of an object's map; of others there is none, and kernel is not None.
    cdef libbpf.bpf_map *live(self) except NULL
    cdef bint usable(self) noexcept
    cdef bint exists(self) except -1
    # Good until the GIL is released or code of the user's runs; duplicate() gives one of one's own, to be closed.
    cdef int descriptor(self) except -1
    cdef int duplicate(self) except -1
    cdef int kind(self) except -1               # enum bpf_map_type
    cdef Py_ssize_t key_bytes(self) except -1
    cdef Py_ssize_t part_bytes(self) except -1  # of a value, on one CPU
    # What is read and written at once: of per-CPU maps the values of all possible CPUs.
    cdef Py_ssize_t value_bytes(self) except -1
    cdef Py_ssize_t entries(self) except -1
    cdef unsigned int flag_bits(self) except? 0xffffffff
    cdef bint change(self, str what) except -1
    cdef int done(self, bint locked, int code, str what) except -1


cdef bint per_cpu(int type) noexcept nogil
cdef bint has_indexes(int type) noexcept nogil
