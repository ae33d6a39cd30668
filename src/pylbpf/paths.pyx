"""What goes to C: paths and names as bytes without a NUL, which C would take for the end; numbers; memory; descriptors."""
import os as _os

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from "Python.h":
    bint PyLong_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1


cdef bytes path_bytes(object path):
    cdef bytes raw = _os.fsencode(path)
    if not raw:
        raise ValueError("the path is empty")
    if b"\0" in raw:
        raise ValueError(f"NUL in path {path!r}")
    return raw


cdef bint is_path(object source) except -1:
    # One isinstance() with a tuple would lose an exception of PathLike's own check.
    return isinstance(source, str) or isinstance(source, _os.PathLike)


cdef str path_text(const char *raw):
    return _os.fsdecode(<bytes>raw)


cdef bytes name_bytes(object name, str what):
    """A name as bytes; surrogates carry bytes that are not UTF-8 through, as in names that C handed out."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    cdef bytes raw = (<str>name).encode("utf-8", "surrogateescape")
    if not raw:
        raise ValueError(f"{what} is empty")
    if b"\0" in raw:
        raise ValueError(f"NUL in {what} {name!r}")
    return raw


cdef object index_of(object value, str what):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a number or a member of its enum, not {type(value).__name__}")
    return value.__index__()


cdef int misfit(object value, str what, int bits) except -1:
    raise ValueError(f"{what} {value} does not fit {bits} bits")


cdef unsigned int number_of(object value, str what) except? 0xffffffff:
    """A number of 32 bits, or a member of an enum; nothing that would have to be cut or parsed."""
    cdef long long number
    cdef int beyond = 0
    if not PyLong_CheckExact(value):
        value = index_of(value, what)
    number = PyLong_AsLongLongAndOverflow(value, &beyond)
    if beyond or not 0 <= number < <long long>1 << 32:
        misfit(value, what, 32)
    return <unsigned int>number


cdef unsigned long long number64_of(object value, str what) except? 0xffffffffffffffff:
    """Likewise of 64 bits."""
    cdef long long number
    cdef int beyond = 0
    if not PyLong_CheckExact(value):
        value = index_of(value, what)
    number = PyLong_AsLongLongAndOverflow(value, &beyond)
    if not beyond and number >= 0:
        return number
    if not 0 <= value < 1 << 64:
        misfit(value, what, 64)
    return value


cdef int signed_of(object value, str what) except? -0x80000000:
    """Likewise of 32 bits, with a sign: a process, where -1 stands for all; a priority."""
    value = index_of(value, what)
    if not -1 << 31 <= value < 1 << 31:
        misfit(value, what, 32)
    return value


cdef int get_buffer(object source, Py_buffer *buffer, bint writable, str what) except -1:
    """Lock the memory of a contiguous bytes-like object until PyBuffer_Release(); Python objects are no bytes."""
    cdef const char *format
    cdef bint name = False
    cdef int flags = PyBUF_ND | (PyBUF_WRITABLE if writable else 0)
    try:
        PyObject_GetBuffer(source, buffer, flags | PyBUF_FORMAT)
    except (BufferError, ValueError):
        # numpy has no format for some types, as times, and structs whose members overlap.
        if getattr(getattr(source, "dtype", None), "hasobject", True):
            raise
        PyObject_GetBuffer(source, buffer, flags)
        return 0
    format = buffer.format
    while format != NULL and format[0]:
        if format[0] == b":":       # names of members are between two of them
            name = not name
        elif format[0] == b"O" and not name:
            PyBuffer_Release(buffer)
            raise TypeError(f"{what} has Python objects in it, which are addresses of this process and no bytes")
        format += 1
    return 0


cdef bint is_of_kind(int fd, str kind) except -1:
    """Whether a descriptor is of a map ("bpf-map"), a link ("bpf_link", "bpf-link"). Where nobody says (no /proc), yes."""
    cdef str name
    try:
        name = _os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return True
    return kind in name
