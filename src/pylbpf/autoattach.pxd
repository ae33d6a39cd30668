"""How libbpf attaches the programs of its own sections."""
from .c cimport libbpf
from .functions cimport Functions

# 0 or -errno, and 0 for the programs of other sections. The link is the caller's; NULL without an error means that the
# section attaches to nothing by itself. `event` gets the perf event behind it, as Link.event has it.
cdef int builtin_attach(const libbpf.bpf_program *program, libbpf.bpf_link **link, int *event) noexcept nogil

# Whether a program is attached to all functions that a pattern means, which libbpf would read all functions for; and
# that, with functions that were read.
cdef bint is_on_functions(const libbpf.bpf_program *program) noexcept nogil
cdef int attach_functions(const libbpf.bpf_program *program, const Functions *functions, libbpf.bpf_link **link) noexcept nogil
