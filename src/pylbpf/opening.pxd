"""Open and load, as they run without the GIL."""
from .c cimport libbpf
from .call cimport Call
from .handle cimport Handle


cdef struct Job:
    # One object on its way from a file or from memory into the kernel. What it points to is kept by its Request.
    Call call
    libbpf.bpf_object_open_opts opts
    const char *path                # or NULL,
    const unsigned char *data       # and then the bytes are here
    size_t size
    unsigned char *own              # what was read of the path, until the open,
    unsigned long long checksum     # and by which it is known again
    libbpf.bpf_object *object       # what open gave; the handle takes it over
    int code                        # 0 or -errno
    char problem[256]               # what is wrong with the file, where libbpf was not asked


cdef class Request:
    """What open() was asked for, checked and in the form that C needs."""

    cdef readonly object source
    cdef readonly dict options
    cdef readonly object subject    # the source in words
    cdef Handle handle
    cdef tuple texts                # what the job points to
    cdef Job job

    cdef int conclude_open(self) except -1


cdef void read_job(Job *job) noexcept nogil
cdef void open_job(Job *job, Handle handle) noexcept nogil
cdef int conclude_load(Handle handle, Call *call, int code, bint preparing) except -1
cdef int load_object(libbpf.bpf_object *object, Call *call, bint preparing) noexcept nogil
cdef int begin_load(Handle handle, str operation, bint preparing) except -1
