"""Whether libbpf can be trusted with an object: it was not written for files that are damaged or forged."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from "elf_check.h" nogil:
    int pylbpf_check_object(const unsigned char *data, size_t size, char *problem, size_t room)


cdef extern from "elf_slots.h" nogil:
    const char *pylbpf_slot(const unsigned char *data, size_t size, size_t at)
    void pylbpf_hide_slots(unsigned char *data, size_t size)


cdef const char *slot(const unsigned char *data, size_t size, size_t at) noexcept nogil:
    """The name of what map definitions hold in slots, programs and inner maps, one after the other; then NULL."""
    return pylbpf_slot(data, size, at)


cdef void hide_slots(unsigned char *data, size_t size) noexcept nogil:
    """Make libbpf see all slots empty."""
    pylbpf_hide_slots(data, size)


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
