"""What programs are attached to, as C takes it: descriptors, places in an order, lists of functions."""
from struct import error as _StructError, pack as _pack

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from posix.fcntl cimport open as open_fd
from posix.unistd cimport close as close_fd

from .errors cimport fail
from .link cimport Link
from .paths cimport name_bytes, number_of, path_bytes

cdef enum:
    BPF_F_LINK = 1 << 13


@cython.final
cdef class Target:
    """A descriptor, and what it needs to stay open."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self):
        raise TypeError("made by the calls that need it")

    def __dealloc__(self):
        if self.opened and self.fd >= 0:
            close_fd(self.fd)


cdef int descriptor_of(object thing, str what) except -1:
    cdef object number = thing if isinstance(thing, int) else None
    if isinstance(thing, bool):
        raise TypeError(f"{what} must be a descriptor or an object with fileno(), not bool")
    if number is None:
        fileno = getattr(thing, "fileno", None)
        if fileno is None:
            raise TypeError(f"{what} must be a descriptor or an object with fileno(), not {type(thing).__name__}")
        number = fileno()
    if not 0 <= number < 1 << 31:
        raise ValueError(f"{number} is not a file descriptor ({what})")
    return number


cdef Target open_target(object thing, int flags, str what):
    cdef Target target = Target.__new__(Target)
    cdef bytes raw
    cdef const char *path
    if isinstance(thing, int) or (hasattr(thing, "fileno") and not hasattr(thing, "__fspath__")):
        target.fd = descriptor_of(thing, what)
        target.owner = thing
        return target
    raw = path_bytes(thing)
    path = raw
    with nogil:
        target.fd = open_fd(path, flags)
    if target.fd < 0:
        fail(errno, f"open {what}", thing)
    target.opened = True
    return target


cdef bint set_anchor(Anchor *anchor, unsigned int flags, object relative_fd, object relative_id,
                     object expected_revision) except -1:
    if relative_fd is not None and relative_id:
        raise ValueError("give relative_fd or relative_id, not both")
    anchor.flags = flags
    anchor.relative_fd = 0
    anchor.relative_id = number_of(relative_id, "relative_id")
    anchor.expected_revision = long_of(expected_revision, "expected_revision")
    if relative_fd is not None:
        anchor.relative_fd = descriptor_of(relative_fd, "relative_fd")
        if isinstance(relative_fd, Link):
            anchor.flags |= BPF_F_LINK
    return bool(anchor.flags or relative_fd is not None or anchor.relative_id or anchor.expected_revision)


cdef unsigned long long long_of(object value, str what) except? 0xffffffffffffffff:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}")
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{what} {value} does not fit 64 bits")
    return value


cdef bytes array_of(object numbers, str letter, str what):
    if numbers is None:
        return None
    cdef list values = list(numbers)
    try:
        return _pack(f"@{len(values)}{letter}", *values)
    except _StructError as error:
        raise ValueError(f"{what}: {error}") from None


cdef bytes pointers_to(list raws):
    cdef bytes array = PyBytes_FromStringAndSize(NULL, len(raws) * sizeof(char *))
    cdef const char **slots = <const char **>PyBytes_AS_STRING(array)
    cdef Py_ssize_t at
    for at in range(len(raws)):
        slots[at] = PyBytes_AS_STRING(raws[at])
    return array


cdef list names_of(object names, str what):
    if names is None:
        return None
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what} must be a list of names, not {type(names).__name__}")
    return [name_bytes(name, what) for name in names]
