"""Descriptors of what the kernel holds: from pins and to them, and from numbers."""
from libc.errno cimport errno
from libc.string cimport memset
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish, need
from .paths cimport number_of, path_bytes, path_text
from .targets cimport Target, duplicate_fd, held

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    PATH_FD = 1 << 14       # BPF_F_PATH_FD

cdef tuple NAMES = ("program", "map", "link")


cdef int open_pin(object path, object path_fd, unsigned int file_flags) except -1:
    cdef bytes raw = path_bytes(path)
    cdef const char *c_path = raw
    cdef bpf.struct_bpf_obj_get_opts opts
    cdef Target folder
    cdef Call call
    cdef int fd
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.file_flags = file_flags
    if path_fd is not None:
        need(1, 3, "path_fd")
        folder = held(path_fd, "path_fd")
        opts.path_fd = folder.fd
        opts.file_flags |= PATH_FD
    enter(&call, NULL)
    with nogil:
        fd = bpf.bpf_obj_get_opts(c_path, &opts) if opts.file_flags else bpf.bpf_obj_get(c_path)
    finish(&call, fd, "open pin", path_text(raw))
    return fd


cdef int pin_descriptor(int fd, object path, object path_fd, object subject) except -1:
    cdef str words = str(subject)
    # Code of others, which is asked for a path or a descriptor, might close the subject.
    cdef bint asks = type(path) not in (str, bytes) or path_fd is not None and type(path_fd) is not int
    cdef int own = duplicate_fd(fd) if asks else fd
    cdef bytes raw
    cdef const char *c_path
    cdef bpf.struct_bpf_obj_pin_opts opts
    cdef Target folder
    cdef Call call
    cdef int code
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    try:
        raw = path_bytes(path)
        c_path = raw
        if path_fd is not None:
            folder = held(path_fd, "path_fd")
            opts.path_fd = folder.fd
            opts.file_flags = PATH_FD
        words = f"{words} to {path_text(raw)}"
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_obj_pin_opts(own, c_path, &opts) if opts.file_flags else bpf.bpf_obj_pin(own, c_path)
    finally:
        if asks:
            close_fd(own)
    return finish(&call, code, "pin", words)


cdef int open_number(Kind kind, object id, unsigned int open_flags) except -1:
    cdef unsigned int number = number_of(id, "id")
    cdef bpf.bpf_get_fd_by_id_opts opts
    cdef Call call
    cdef int fd
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.open_flags = open_flags
    enter(&call, NULL)
    with nogil:
        if kind == PROGRAM:
            fd = bpf.bpf_prog_get_fd_by_id(number)
        elif kind == LINK:
            fd = bpf.bpf_link_get_fd_by_id(number)
        elif open_flags:
            fd = bpf.bpf_map_get_fd_by_id_opts(number, &opts)
        else:
            fd = bpf.bpf_map_get_fd_by_id(number)
    finish(&call, fd, f"open {NAMES[<int>kind]}", f"id {number}")
    return fd


def close_numbers(dict numbers not None):
    """Close the descriptors in a dict, and empty it: all, whatever happens, with no signal handler in between."""
    cdef int fd
    cdef int code = 0
    while numbers:
        fd = numbers.popitem()[1]
        if close_fd(fd) < 0:
            code = errno
    if code:
        fail(code, "close", "descriptors")
