"""Attaching to tracepoints by a perf event of our own."""
from .c cimport libbpf

# As bpf_program__attach_tracepoint_opts(): NULL and errno if it fails. `event` gets the perf event's descriptor, which
# the link owns.
cdef libbpf.bpf_link *attach_tracepoint(const libbpf.bpf_program *program, const char *category, const char *name,
                                        unsigned long long cookie, int *event) noexcept nogil
