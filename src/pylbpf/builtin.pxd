"""What libbpf does with the programs of its own sections at open and before load."""
from .c cimport bpf, libbpf

# Each returns 0 or -errno, and 0 for the programs of other sections.
cdef int builtin_setup(libbpf.bpf_program *program) noexcept nogil
cdef int builtin_prepare_load(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil

# What comes after the slash of the program's section, or NULL.
cdef const char *target_of(const libbpf.bpf_program *program) noexcept nogil
# Return the code, having said why among the warnings of the call in progress.
cdef int explain(int code, const libbpf.bpf_program *program, const char *text) noexcept nogil
