"""One map: of an object, or by itself; where it comes from, where it is pinned, and when it ends."""
import os as _os

from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.string cimport memset
from posix.unistd cimport unlink

from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .definition cimport Definition
from .arrays cimport Arrays
from .errors cimport fail, finish
from .handle cimport CLOSED, Handle
from .kernelmap cimport KernelMap, create_map, duplicated_map, numbered_map, pinned_map
from .link cimport Link, STRUCT_OPS_LINK, make_link
from .paths cimport is_of_kind, number_of, path_bytes

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    NUMA_NODE = 1 << 2      # flags of BPF_MAP_CREATE
    TOKEN_FD = 1 << 16


cdef class Map(Arrays):
    """One map, of an object or by itself.

    A map of an object keeps the object alive, and two of the same map are equal. Before the object is prepared or loaded
    its definition can be set; afterwards its elements are read and written, here as bytes: keys of ``key_size`` bytes,
    values of ``value_size``, for per-CPU maps ``value_size`` rounded up to 8 for each of possible_cpus(). What has the
    wrong size is a ValueError before the kernel sees anything. Setters raise StateError once the map exists, elements
    before it does.

    create(), open_pinned(), from_id() and from_fd() give maps by themselves: they exist, and own a descriptor that
    close(), leaving a ``with`` block or losing the last reference closes. The kernel frees a map when nothing uses it.
    """

    def __init__(self):
        raise TypeError("maps come from Object.maps, Map.create(), Map.open_pinned(), Map.from_id() and Map.from_fd()")

    def __repr__(self):
        if not self.usable():
            return "<Map: closed>"
        return (f"<Map: {self.name}, {self.type.name}, key {self.key_size}, value {self.value_size}, "
                f"{self.max_entries} entries>")

    @staticmethod
    def create(type, *, key_size=0, value_size=0, max_entries=0, name="", flags=0, map_extra=0, numa_node=None, ifindex=0,
               inner=None, token_fd=None):
        """Make a map by itself, and return it.

        ``type`` is a MapType; sizes are in bytes, of a value for one CPU. ``name``: letters, digits, _ and . only; the
        kernel keeps 15 characters. ``flags``: MapFlags. ``inner``: of a map of maps, a Map that those in it will be like.
        ``numa_node`` and ``token_fd`` set their flags. Raises BpfError. Source: bpf_map_create().
        """
        cdef bpf.bpf_map_create_opts opts
        cdef unsigned int number = number_of(type, "type")
        cdef unsigned int key_bytes = number_of(key_size, "key_size")
        cdef unsigned int value_bytes = number_of(value_size, "value_size")
        cdef unsigned int entries = number_of(max_entries, "max_entries")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.map_flags = number_of(flags, "flags")
        opts.map_extra = map_extra
        opts.map_ifindex = number_of(ifindex, "ifindex")
        if numa_node is not None:
            opts.numa_node = number_of(numa_node, "numa_node")
            opts.map_flags |= NUMA_NODE
        if token_fd is not None:
            opts.token_fd = number_of(token_fd, "token_fd")
            opts.map_flags |= TOKEN_FD
        if inner is not None:
            # Last, for it may run code of the user's.
            opts.inner_map_fd = (<Map>inner).descriptor() if isinstance(inner, Map) else inner.fileno()
        return make_lone_map(create_map(number, name, key_bytes, value_bytes, entries, &opts))

    @staticmethod
    def open_pinned(path, *, flags=0):
        """Open a map that is pinned in a BPF file system. ``flags``: MapFlags.RDONLY or WRONLY. Source: bpf_obj_get()."""
        return make_lone_map(pinned_map(path, number_of(flags, "flags")))

    @staticmethod
    def from_id(id):
        """Open a map by the number the kernel gave it. Needs CAP_SYS_ADMIN. Source: bpf_map_get_fd_by_id()."""
        return make_lone_map(numbered_map(number_of(id, "id")))

    @staticmethod
    def from_fd(fd):
        """Make a Map of a descriptor, given as a number or an object with fileno(), which stays the caller's.

        Source: bpf_map_get_info_by_fd().
        """
        return make_lone_map(duplicated_map(fd))

    def __enter__(self):
        if self.ptr != NULL:
            raise TypeError(f"{self} is closed with its object, which may stand in a with block")
        self.kernel.live()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the descriptor of a map that is not of an object; a second time does nothing."""
        if self.ptr != NULL:
            raise TypeError(f"{self} is closed with its object")
        self.kernel.close()

    @property
    def closed(self):
        """True after close(), of the map or its object."""
        return self.kernel.fd < 0 if self.ptr == NULL else self.handle.phase == CLOSED

    def reuse_fd(self, fd):
        """Use an existing map, by descriptor or object with fileno(), instead of making a new one.

        The descriptor stays the caller's; the map takes name and sizes of the existing one. Before load only.
        Source: bpf_map__reuse_fd().
        """
        cdef int number = fd if isinstance(fd, int) else fd.fileno()
        cdef Call call
        cdef int code
        cdef bint locked = self.change("fd")
        if not is_of_kind(number, "bpf-map"):
            if locked:
                self.handle.release()
            raise ValueError(f"descriptor {number} is not of a BPF map")
        enter(&call, NULL)
        code = libbpf.bpf_map__reuse_fd(self.ptr, number)
        if locked:
            self.handle.release()
        finish(&call, code, f"reuse descriptor {number} for", self)

    @property
    def pin_path(self):
        """Where the map is, or on load will be, pinned; None for nowhere. Source: bpf_map__pin_path()."""
        if self.ptr == NULL:
            return self.kernel.pin_path
        cdef const char *path = libbpf.bpf_map__pin_path(self.live())
        return None if path == NULL else path.decode("utf-8", "surrogateescape")

    @pin_path.setter
    def pin_path(self, path):
        cdef bytes raw = None if path is None else path_bytes(path)
        cdef const char *c_path = NULL
        if raw is not None:
            c_path = raw
        cdef bint locked = self.change("pin_path")
        self.done(locked, libbpf.bpf_map__set_pin_path(self.ptr, c_path), "pin_path")

    @property
    def is_pinned(self):
        """Whether it is pinned now, as far as this Map knows. Source: bpf_map__is_pinned()."""
        if self.ptr == NULL:
            return self.kernel.pin_path is not None
        return libbpf.bpf_map__is_pinned(self.live())

    def pin(self, path=None):
        """Pin the map in a BPF file system, by default at pin_path. Source: bpf_map__pin(), bpf_obj_pin()."""
        self.pin_or_unpin(path, True)

    def unpin(self, path=None):
        """Remove the pin, by default at pin_path. Source: bpf_map__unpin()."""
        self.pin_or_unpin(path, False)

    cdef int pin_or_unpin(self, object path, bint pin) except -1:
        cdef bytes raw = None if path is None else path_bytes(path)
        cdef const char *c_path = NULL
        cdef Call call
        cdef int code
        if raw is not None:
            c_path = raw
        elif self.pin_path is None:
            raise ValueError(f"{self} has no pin_path: give a path")
        self.descriptor()
        if self.ptr == NULL:
            return self.pin_or_unpin_lone(path or self.kernel.pin_path, pin)
        cdef bint locked = self.handle.enter("pin")
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_map__pin(self.ptr, c_path) if pin else libbpf.bpf_map__unpin(self.ptr, c_path)
        if locked:
            self.handle.release()
        return finish(&call, code, "pin" if pin else "unpin", self)

    cdef int pin_or_unpin_lone(self, object path, bint pin) except -1:
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef str text = raw.decode("utf-8", "surrogateescape")
        cdef int code
        if pin:
            _os.makedirs(_os.path.dirname(text) or ".", 0o700, exist_ok=True)    # as libbpf does
            code = bpf.bpf_obj_pin(self.descriptor(), c_path)
        else:
            code = unlink(c_path)
            code = -errno if code < 0 else 0
        if code < 0:
            fail(-code, "pin" if pin else "unpin", self)
        if pin or text == self.kernel.pin_path:
            self.kernel.pin_path = text if pin else None
        return 0

    def freeze(self):
        """Forbid user space to change elements from now on. Minimum kernel 5.2. Source: bpf_map_freeze()."""
        cdef int code = bpf.bpf_map_freeze(self.descriptor())
        if code < 0:
            fail(-code, "freeze", self)

    def attach_struct_ops(self):
        """Attach a struct_ops map and return the Link. Minimum kernel 5.6. Source: bpf_map__attach_struct_ops()."""
        cdef libbpf.bpf_link *link
        cdef Link made
        cdef Call call
        cdef int code = 0
        cdef bint locked
        self.descriptor()
        self.live()
        locked = self.handle.enter("attach")
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_map__attach_struct_ops(self.ptr)
            if link == NULL:
                code = -errno
        if locked:
            self.handle.release()
        finish(&call, code, "attach", self)
        made = make_link(link, self.handle, self, "struct_ops")
        made.kind = STRUCT_OPS_LINK
        return made


cdef Map make_map(Handle handle, libbpf.bpf_map *ptr):
    cdef Map map = Map.__new__(Map)
    map.handle = handle
    map.ptr = ptr
    return map


cdef Map make_lone_map(KernelMap kernel):
    cdef Map map = Map.__new__(Map)
    map.kernel = kernel
    return map
