from .c cimport bpf
from .handle cimport Handle


cdef class LoadOpts:
    cdef bpf.bpf_prog_load_opts *ptr
    cdef Handle handle

    cdef bpf.bpf_prog_load_opts *live(self) except NULL
    cdef int needs(self, size_t offset, const char *what, const char *since) except -1
    cdef const void *keep(self, object data, Py_ssize_t item, unsigned int *count) except? NULL


cdef LoadOpts make_load_opts(Handle handle, bpf.bpf_prog_load_opts *opts)
