"""Programs that C code has opened by itself while overrides were there."""
from .c cimport libbpf

cdef void note_stranger(const libbpf.bpf_program *program) noexcept nogil
# An object that is pylbpf's from now on keeps libbpf's table as it is by itself.
cdef void claim_strangers(libbpf.bpf_object *object) noexcept nogil
cdef bint any_strangers() noexcept nogil
