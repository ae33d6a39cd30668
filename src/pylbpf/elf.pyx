"""Whether libbpf can be trusted with an object: it was not written for files that are damaged or forged."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from "elf_check.h" nogil:
    int pylbpf_check_object(const unsigned char *data, size_t size, char *problem, size_t room)


cdef int check_object(const unsigned char *data, size_t size, char *problem, size_t room) noexcept nogil:
    return pylbpf_check_object(data, size, problem, room)


def check(data):
    """Say what is wrong with a BPF object (bytes or another buffer), or return None. `open` does this by itself.

    What passes may still be refused by libbpf, which then says why, but cannot crash it.
    """
    cdef Py_buffer view
    cdef char problem[512]
    cdef int error
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            error = check_object(<const unsigned char *>view.buf, view.len, problem, sizeof(problem))
    finally:
        PyBuffer_Release(&view)
    return problem.decode("utf-8", "backslashreplace") if error else None
