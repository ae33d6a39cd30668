from .c cimport libbpf
from .handle cimport Handle

cdef libbpf.bpf_map *arena_with_variables(libbpf.bpf_object *object) noexcept
cdef char *memory_of(libbpf.bpf_map *map) noexcept
cdef void note_arenas(Handle handle) noexcept
cdef char *variables_of(libbpf.bpf_map *map, size_t *size, object section) except NULL
