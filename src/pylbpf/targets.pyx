"""What programs are attached to, as C takes it: descriptors, places in an order, lists of functions."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EMFILE, ENOENT, errno
from posix.fcntl cimport open as open_fd
from posix.unistd cimport close as close_fd

from .errors cimport fail
from .paths cimport is_of_kind, name_bytes, number64_of, number_of, path_bytes

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "<net/if.h>" nogil:
    unsigned int if_nametoindex(const char *name)

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


cdef int interface_index(object interface) except -1:
    """The number of a network interface given by name or number."""
    cdef unsigned int index
    cdef bytes name
    if hasattr(interface, "__index__") and not isinstance(interface, bool):
        interface = interface.__index__()
        if not 0 < interface < 1 << 31:
            raise ValueError(f"{interface} is not an interface index")
        return interface
    name = name_bytes(interface, "interface name")
    index = if_nametoindex(name)
    if index == 0:
        # glibc's word where it gets no socket; an unknown name is ENODEV.
        fail(EMFILE if errno == ENOENT else errno, "find network interface", interface)
    return index


cdef int duplicate_fd(int fd) except -1:
    cdef int copy = fcntl(fd, F_DUPFD_CLOEXEC, <int>3)
    if copy < 0:
        fail(errno, "use descriptor", fd)
    return copy


cdef Target held(object thing, str what):
    cdef Target target = Target.__new__(Target)
    cdef int fd = descriptor_of(thing, what)
    target.opened = not isinstance(thing, int) or fd == 0   # which C takes for none
    target.fd = duplicate_fd(fd) if target.opened else fd
    return target


cdef Target open_target(object thing, int flags, str what):
    cdef Target target
    cdef bytes raw
    cdef const char *path
    cdef int code
    if isinstance(thing, int) or (hasattr(thing, "fileno") and not hasattr(thing, "__fspath__")):
        return held(thing, what)
    raw = path_bytes(thing)
    path = raw
    target = Target.__new__(Target)
    with nogil:
        target.fd = open_fd(path, flags)
        code = errno            # before code of others runs
    if target.fd < 0:
        fail(code, f"open {what}", thing)
    target.opened = True
    return target


cdef Target beside(object relative_fd):
    return None if relative_fd is None else held(relative_fd, "relative_fd")


cdef bint set_anchor(Anchor *anchor, unsigned int flags, Target beside, object relative_id,
                     object expected_revision) except -1:
    if beside is not None and relative_id:
        raise ValueError("give relative_fd or relative_id, not both")
    anchor.flags = flags
    anchor.relative_fd = 0
    anchor.relative_id = number_of(relative_id, "relative_id")
    anchor.expected_revision = number64_of(expected_revision, "expected_revision")
    if beside is not None:
        anchor.relative_fd = beside.fd
        # Where nobody tells the kind, it is a program.
        if is_of_kind(anchor.relative_fd, "link") and not is_of_kind(anchor.relative_fd, "prog"):
            anchor.flags |= BPF_F_LINK
    return bool(anchor.flags or beside is not None or anchor.relative_id or anchor.expected_revision)


cdef bytes array_of(object numbers, str letter, str what):
    if numbers is None:
        return None
    import struct
    cdef list values = list(numbers)
    try:
        return struct.pack(f"@{len(values)}{letter}", *values)
    except struct.error as error:
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


@cython.final
cdef class Functions:
    """Which functions one link is for."""

    def __init__(self):
        raise TypeError("made by the calls that need it")


cdef Functions functions_of(object pattern, object syms, object numbers, str letter, str what, object ref_ctr_offsets,
                            object cookies):
    cdef Functions made = Functions.__new__(Functions)
    cdef dict lists = {name: None if each is None else list(each) for name, each in (
        (what, numbers), ("ref_ctr_offsets", ref_ctr_offsets), ("cookies", cookies))}
    made.raw = None if pattern is None else name_bytes(pattern, "pattern")
    made.names = names_of(syms, "syms")
    if (made.raw is not None) + (made.names is not None) + (lists[what] is not None) != 1:
        raise ValueError(f"give a pattern, or syms, or {what}" if letter == "L" else f"give a pattern or {what}")
    made.words = pattern
    if made.raw is None:
        made.count = len(lists[what] if made.names is None else made.names)
        made.words = f"{made.count} functions"
        if made.count == 0:
            raise ValueError("no function to attach to")
    for name, each in lists.items():
        if each is not None and made.raw is not None:
            raise ValueError(f"{name} go with syms or {what}, not with a pattern")
        if each is not None and <size_t>len(each) != made.count:
            raise ValueError(f"{name} has {len(each)} elements, the others have {made.count}")
    made.syms = None if made.names is None else pointers_to(made.names)
    made.numbers = array_of(lists[what], letter, what)
    made.counters = array_of(lists["ref_ctr_offsets"], "L", "ref_ctr_offsets")
    made.cookies = array_of(lists["cookies"], "Q", "cookies")
    return made


cdef const void *memory_of(bytes array) noexcept:
    return NULL if array is None else PyBytes_AS_STRING(array)
