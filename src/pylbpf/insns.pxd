from .c cimport libbpf, uapi
from .handle cimport Handle, Place


cdef class Insns:
    cdef Handle handle
    cdef libbpf.bpf_program *program
    cdef bytes copy                 # taken while the object was being opened; otherwise None
    cdef unsigned int moves
    cdef Py_ssize_t start, count, step
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]
    cdef Py_ssize_t exports
    cdef Place place                # among those of the object with exports
    cdef bint writable
    cdef list loan                  # all writable views that the callback was given, this one and its slices
    cdef object __weakref__

    cdef const uapi.bpf_insn *resolve(self) except NULL
    cdef int revoke(self) except -1


cdef Insns view_insns(Handle handle, libbpf.bpf_program *program, list loan)
# BufferError if views of this program's instructions are in use.
cdef int check_insns_of(Handle handle, const libbpf.bpf_program *program, str operation, object name) except -1
