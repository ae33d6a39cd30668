"""Text that goes to C: paths and names as bytes without a NUL, which C would take for the end."""
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
