"""A map known by a descriptor: made here, opened from a pin, by its id or from somebody else's descriptor."""
import errno as _errno

cimport cython
from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf, uapi
from .c cimport btf as c_btf
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish
from .handle cimport fork_generation
from .kernelfd cimport MAP, open_number, open_pin
from .paths cimport is_of_kind, name_bytes, path_bytes, path_text
from .targets cimport descriptor_of, duplicate_fd

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef bytes NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."


@cython.final
@cython.no_gc
cdef class KernelMap:
    """The descriptor, which it owns, and what the kernel says about the map. All wrappers of one map share it."""

    def __cinit__(self):
        self.fd = -1
        self.generation = fork_generation()
        self.info = <uapi.bpf_map_info *>calloc(1, sizeof(uapi.bpf_map_info))
        if self.info == NULL:
            raise MemoryError()

    def __init__(self):
        raise TypeError("made by Map.create() and its kin")

    def __dealloc__(self):
        if self.fd >= 0:
            close_fd(self.fd)
        free(self.info)

    def __str__(self):
        return f"map '{self.name}'"

    cdef bint usable(self) noexcept:
        return self.fd >= 0 and self.generation == fork_generation()

    cdef int live(self) except -1:
        """The descriptor, as long as the GIL is held: then nobody can close it."""
        if self.fd < 0:
            raise ValueError(f"{self} is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child must open its own", None, str(self))
        return self.fd

    cdef int close(self) except -1:
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            close_fd(fd)
        return 0


cdef int read_info(int fd, uapi.bpf_map_info *info) except -1:
    cdef uapi.__u32 size = sizeof(info[0])
    cdef int code
    memset(info, 0, sizeof(info[0]))
    code = bpf.bpf_obj_get_info_by_fd(fd, info, &size)
    if code < 0:
        fail(-code, "read info of map", fd)
    return 0


cdef KernelMap own_map(int fd, object name, str words=None):
    """Take over a descriptor; close it if it is not of a map: `words` say then what it is of."""
    cdef KernelMap made = KernelMap.__new__(KernelMap)
    made.fd = fd
    if not is_of_kind(fd, "bpf-map"):
        raise ValueError(f"{words or name or f'descriptor {fd}'} is not a BPF map")
    made.name = name
    read_info(fd, made.info)
    made.name = name or made.info.name.decode("utf-8", "surrogateescape")
    return made


cdef KernelMap create_map(int type, object name, unsigned int key_size, unsigned int value_size,
                          unsigned int max_entries, void *opts):
    cdef bytes raw = b"" if not name else name_bytes(name, "name")
    cdef const char *c_name
    cdef Call call
    cdef int fd
    if raw.translate(None, NAME):
        raise ValueError(f"a name of a map has letters, digits, _ and . only, not {name!r}")
    raw = raw[:15]
    c_name = raw
    enter(&call, NULL)
    with nogil:
        fd = bpf.bpf_map_create(<uapi.bpf_map_type>type, c_name, key_size, value_size, max_entries,
                                <const bpf.bpf_map_create_opts *>opts)
    finish(&call, fd, "create", f"map '{name}'" if name else "map")
    return own_map(fd, name)


cdef KernelMap duplicated_map(object fd):
    cdef int number = descriptor_of(fd, "map")
    cdef int copy = duplicate_fd(number)
    return own_map(copy, None, f"descriptor {number}")


cdef KernelMap pinned_map(object path, object path_fd, unsigned int file_flags):
    cdef bytes raw = path_bytes(path)
    cdef KernelMap made = own_map(open_pin(raw, path_fd, file_flags), None, path_text(raw))
    if path_fd is None:
        made.pin_path = path_text(raw)
    return made


cdef KernelMap numbered_map(object id, unsigned int open_flags):
    return own_map(open_number(MAP, id, open_flags), None)


cdef int storage_types(unsigned int value_size, unsigned int *key, unsigned int *value) except -1:
    cdef c_btf.btf *types = c_btf.btf__new_empty()
    cdef const void *data
    cdef unsigned int size = 0
    cdef int byte, fd = -ENOMEM
    if types == NULL:
        raise MemoryError()
    key[0] = c_btf.btf__add_int(types, b"int", 4, uapi.BTF_INT_SIGNED)
    byte = c_btf.btf__add_int(types, b"unsigned char", 1, 0)
    value[0] = c_btf.btf__add_array(types, key[0], byte, value_size)
    data = c_btf.btf__raw_data(types, &size)
    if data != NULL:
        fd = bpf.bpf_btf_load(data, size, NULL)
    c_btf.btf__free(types)
    if fd < 0:
        fail(-fd, "load types of", "a map")
    return fd
