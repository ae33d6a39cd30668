from .c cimport libbpf
from .handle cimport Handle


# What compilers call the section of variables that lie in an arena.
cdef str ARENA_SECTION


cdef class Section:
    cdef Handle handle
    cdef libbpf.bpf_map *map
    cdef unsigned int datasec       # number of its type
    cdef str name
    cdef bint constant              # cannot be written once it is in the kernel
    cdef bint kconfig
    cdef bint in_arena
    cdef bint settled               # there is a map, and it was mapped if it can be
    cdef void *own                  # the mapping
    cdef size_t own_size

    cdef unsigned char *memory(self, size_t end, bint writing) except? NULL
    cdef bint writable(self) noexcept
    cdef int find_memory(self) except -1
    cdef bytes element(self, size_t end)
    cdef bint hold(self) except -1
    cdef int read(self, size_t offset, size_t size, void *to) except -1
    cdef int write(self, size_t offset, size_t size, const void *what) except -1


cdef class Memory:
    cdef Section section
    cdef size_t offset, size


# Without a map it is of symbols of the kernel.
cdef Section make_section(Handle handle, libbpf.bpf_map *map, str name, unsigned int datasec)
cdef Memory make_memory(Section section, size_t offset, size_t size)
