"""What goes to C: paths and names as bytes without a NUL, which C would take for the end; numbers; descriptors."""
import os as _os


cdef bytes path_bytes(object path):
    cdef bytes raw = _os.fsencode(path)
    if not raw:
        raise ValueError("the path is empty")
    if b"\0" in raw:
        raise ValueError(f"NUL in path {path!r}")
    return raw


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


cdef unsigned int number_of(object value, str what) except? 0xffffffff:
    """A number of 32 bits, or a member of an enum; nothing that would have to be cut or parsed."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a number or a member of its enum, not {type(value).__name__}")
    value = value.__index__()
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{what} {value} does not fit 32 bits")
    return value


cdef unsigned long long number64_of(object value, str what) except? 0xffffffffffffffff:
    """Likewise of 64 bits."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a number or a member of its enum, not {type(value).__name__}")
    value = value.__index__()
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{what} {value} does not fit 64 bits")
    return value


cdef bint is_of_kind(int fd, str kind) except -1:
    """Whether a descriptor is of a map ("bpf-map"), a link ("bpf_link", "bpf-link"). Where nobody says (no /proc), yes."""
    cdef str name
    try:
        name = _os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return True
    return kind in name
