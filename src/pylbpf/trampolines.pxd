"""The functions that libbpf calls for programs of custom sections."""
from .c cimport bpf, libbpf
from .handle cimport Handle, Record

cdef int on_setup(libbpf.bpf_program *program, long cookie) noexcept nogil
cdef int on_prepare_load(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts, long cookie) noexcept nogil
cdef int on_attach(const libbpf.bpf_program *program, long cookie, libbpf.bpf_link **link) noexcept nogil
cdef object attach_in_python(const Record *record, Handle handle, object program)
cdef int declare_again(libbpf.bpf_program *program, const Record *record) noexcept nogil
cdef bint in_callback() noexcept nogil
