"""One map: of an object, or by itself; where it comes from, where it is pinned, and when it ends."""
import os as _os

from cpython.object cimport PyObject
from libc.errno cimport EINVAL, errno
from libc.string cimport memset
from posix.unistd cimport close as close_fd, unlink

from .attach cimport Attachable
from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .codec cimport Codec, codec_of, raw_codec, size_of
from .errors cimport fail, finish
from .handle cimport CLOSED, Handle
from .info cimport map_info
from .kernelfd cimport pin_descriptor
from .kernelmap cimport KernelMap, create_map, duplicated_map, numbered_map, pinned_map, storage_types
from .mapping cimport Mapping
from .memory cimport map_memory, view_initial
from .link cimport make_map_link
from .paths cimport number64_of, number_of, path_bytes, path_text

from .errors import BpfError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    NO_PREALLOC = 1 << 0    # flags of BPF_MAP_CREATE
    NUMA_NODE = 1 << 2
    TOKEN_FD = 1 << 16
    # enum bpf_map_type
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    CGROUP_ARRAY = 8
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    STRUCT_OPS = 26
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    CGRP_STORAGE = 32

# Hashes, arrays and tries: what the kernel would say of one without a size is EINVAL.
cdef tuple PLAIN = (1, 2, 5, 6, 9, 10, 11)
# What goes in is a descriptor, of 4 bytes; the key is a number, but that of a hash.
cdef tuple OF_DESCRIPTORS = (PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS)


cdef class Map(Mapping):
    """One map, of an object or by itself.

    A map of an object keeps the object alive, and two of the same map are equal. Before the object is prepared or loaded
    its definition can be set; afterwards it is a mutable mapping, see MutableMapping of collections.abc, of keys and
    values by their types in BTF: int, bool, float, str for char arrays, numpy scalars for structs, which also take dicts,
    tuples and ctypes structures. Without types they are bytes. Bytes of the right size are taken for anything, and of
    1, 2, 4 or 8 bytes ints, too. Values of a per-CPU map are lists, one for each of possible_cpus(). ``raw`` is the same in
    bytes. What has the wrong size or type is a ValueError or TypeError before the kernel sees anything. Setters raise
    StateError once the map exists, elements before it does.

    The methods that are named as libbpf's functions, lookup() and its kin, are in bytes: keys of ``key_size``, values
    of ``value_size``, for per-CPU maps rounded up to 8 for each of possible_cpus().

    create(), open_pinned(), from_id() and from_fd() give maps by themselves: they exist, and own a descriptor that
    close(), leaving a ``with`` block or losing the last reference closes. The kernel frees a map when nothing uses it.
    """

    def __init__(self):
        raise TypeError("maps come from Object.maps, Map.create(), Map.open_pinned(), Map.from_id() and Map.from_fd()")

    def __repr__(self):
        if not self.usable():
            return f"<{type(self).__name__}: closed>"
        return (f"<{type(self).__name__}: {self.name}, {self.type.name}, key {self.key_size}, value {self.value_size}, "
                f"{self.max_entries} entries>")

    @staticmethod
    def create(type, *, key=None, value=None, key_size=0, value_size=0, max_entries=0, name="", flags=0, map_extra=0,
               numa_node=None, ifindex=0, inner=None, token_fd=None):
        """Make a map by itself, and return it.

        ``type`` is a MapType. ``key`` and ``value`` say what elements are, as for typed(), and so their sizes: "u4", or what
        numpy.dtype() takes; or give sizes in bytes, of a value for one CPU, and with them ``int``, ``str`` or ``bytes``.
        Descriptors in a map (of programs, events, cgroups, maps) and the numbers that they are under have 4 bytes unless said.
        ``name``: letters, digits, _ and . only; the kernel keeps 15 characters. ``flags``: MapFlags. ``inner``: of a map of maps, a Map that those in it will be like.
        ``numa_node`` and ``token_fd`` set their flags. Raises BpfError. Source: bpf_map_create().
        """
        cdef bpf.bpf_map_create_opts opts
        cdef unsigned int number = number_of(type, "type")
        cdef unsigned int key_bytes = number_of(key_size, "key_size") or (0 if key is None else size_of(key, "a key"))
        cdef unsigned int value_bytes = number_of(value_size, "value_size") or (
            0 if value is None else size_of(value, "a value"))
        cdef Map made
        cdef int types = -1
        cdef KernelMap kept
        cdef unsigned int entries = number_of(max_entries, "max_entries")
        if number in OF_DESCRIPTORS:
            value_bytes = value_bytes or 4
            if number != HASH_OF_MAPS:
                key_bytes = key_bytes or 4
        if number in (ARRAY_OF_MAPS, HASH_OF_MAPS) and inner is None:
            raise ValueError(f"map '{name}' of type {number} needs inner")
        if (number in PLAIN or number in OF_DESCRIPTORS) and not (key_bytes and value_bytes and entries):
            missing = "key or key_size" if not key_bytes else "value or value_size" if not value_bytes else "max_entries"
            raise ValueError(f"map '{name}' of type {number} needs {missing}")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.map_flags = number_of(flags, "flags")
        opts.map_extra = number64_of(map_extra, "map_extra")
        opts.map_ifindex = number_of(ifindex, "ifindex")
        if numa_node is not None:
            opts.numa_node = number_of(numa_node, "numa_node")
            opts.map_flags |= NUMA_NODE
        if token_fd is not None:
            opts.token_fd = number_of(token_fd, "token_fd")
            opts.map_flags |= TOKEN_FD
        if inner is not None:
            kept = duplicated_map(inner)    # whatever becomes of it on other threads
            opts.inner_map_fd = kept.fd
        try:
            if number in (SK_STORAGE, INODE_STORAGE, TASK_STORAGE, CGRP_STORAGE):
                key_bytes = 4
                opts.map_flags |= NO_PREALLOC
                types = opts.btf_fd = storage_types(value_bytes, &opts.btf_key_type_id, &opts.btf_value_type_id)
            made = make_lone_map(create_map(number, name, key_bytes, value_bytes, entries, &opts))
        finally:
            if types >= 0:
                close_fd(types)
        return made if key is None and value is None else made.typed(key=key, value=value)

    @staticmethod
    def open_pinned(path, *, flags=0, path_fd=None):
        """Open a map that is pinned in a BPF file system. ``flags``: MapFlags.RDONLY or WRONLY.

        With ``path_fd`` (kernel 6.5, libbpf 1.3) the path is relative to that folder's descriptor.
        Source: bpf_obj_get(), bpf_obj_get_opts().
        """
        return make_lone_map(pinned_map(path, path_fd, number_of(flags, "flags")))

    @staticmethod
    def from_id(id, *, flags=0):
        """Open a map by the number the kernel gave it. ``flags``: MapFlags.RDONLY or WRONLY.

        Needs CAP_SYS_ADMIN. FileNotFoundError if there is none.
        Source: bpf_map_get_fd_by_id(), bpf_map_get_fd_by_id_opts().
        """
        return make_lone_map(numbered_map(id, number_of(flags, "flags")))

    @staticmethod
    def from_fd(fd):
        """Make a Map of a descriptor, given as a number or an object with fileno(), which stays the caller's.

        Source: bpf_map_get_info_by_fd().
        """
        return make_lone_map(duplicated_map(fd))

    cdef Map another(self):
        """A wrapper of the same map."""
        cdef Map made = type(self).__new__(type(self))
        made.handle, made.ptr, made.kernel = self.handle, self.ptr, self.kernel
        return made

    def typed(self, *, key=None, value=None):
        """Return the same map with other types of keys or values, of which None is left as it is.

        ``bytes``, ``str`` (text up to a NUL), ``int`` (unsigned, of 1, 2, 4 or 8 bytes), "u4" and the like, or what
        numpy.dtype() takes, a ctypes structure among it; of the same size as the map's, of a per-CPU map one CPU's.
        StateError before the map exists. Source: bpf_map_lookup_elem(), bpf_map_update_elem().
        """
        cdef Map made = self.another()
        made.ready()
        made.key_said, made.value_said = key is not None or self.key_said, value is not None or self.value_said
        if key is not None:
            made.key_codec = codec_of(key, self.key_bytes(), f"a key of {self}")
        elif self.key_said:
            made.key_codec = self.key_codec
        if value is not None:
            made.value_codec = codec_of(value, self.part_bytes(), f"a value of {self}")
        elif self.value_said:
            made.value_codec = self.value_codec
        made.settle()
        return made

    @property
    def raw(self):
        """The same map with keys and values as bytes, of per-CPU maps the values of all possible CPUs at once.

        Source: bpf_map_lookup_elem(), bpf_map_update_elem().
        """
        cdef Map made = self.another()
        made.ready()
        if made.key_codec is not None:
            made.key_codec = raw_codec(self.key_bytes(), f"a key of {self}")
        made.parts = 0
        made.value_codec = raw_codec(made.value_room, f"a value of {self}")
        made.settle()
        return made

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

        The descriptor stays the caller's; the map takes name and sizes of the existing one, which for a map of global
        variables or STRUCT_OPS must be the same, else ValueError. Before load only. Source: bpf_map__reuse_fd().
        """
        cdef KernelMap kept = duplicated_map(fd)    # whatever becomes of it while the lock is waited for
        cdef Call call
        cdef int code
        cdef bint locked = self.change("fd")
        try:
            self.require_alike(kept)
            enter(&call, NULL)
            code = libbpf.bpf_map__reuse_fd(self.ptr, kept.fd)
        finally:
            if locked:
                self.handle.release()
        finish(&call, code, f"reuse descriptor {fd} for", self)

    cdef int require_alike(self, KernelMap other) except -1:
        """libbpf has memory for the initial values of some maps, which stays as large as it is."""
        if not libbpf.bpf_map__is_internal(self.ptr) and self.kind() != STRUCT_OPS:
            return 0
        mine = self.kind(), self.key_bytes(), self.part_bytes(), self.entries()
        given = <int>other.info.type, other.info.key_size, other.info.value_size, other.info.max_entries
        if mine != given:
            raise ValueError(f"{self} has initial values: type, key_size, value_size and max_entries must be {mine} to be "
                             f"reused, not {given}")
        return 0

    @property
    def pin_path(self):
        """Where the map is, or on load will be, pinned; None for nowhere. Source: bpf_map__pin_path()."""
        if self.ptr == NULL:
            return self.kernel.pin_path
        cdef const char *path = libbpf.bpf_map__pin_path(self.live())
        return None if path == NULL else path_text(path)

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

    def pin(self, path=None, *, path_fd=None):
        """Pin the map in a BPF file system, by default at pin_path.

        With ``path_fd`` (kernel 6.5, libbpf 1.3) relative to that folder's descriptor; pin_path does not know of it then.
        Source: bpf_map__pin(), bpf_obj_pin(), bpf_obj_pin_opts().
        """
        if path_fd is None:
            self.pin_or_unpin(path, True)
        else:
            path_bytes(path)
            pin_descriptor(self.descriptor(), path, path_fd, self)

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
        cdef str text = path_text(raw)
        cdef str folder = _os.path.dirname(text) or "."
        cdef bint fresh = False
        cdef int code
        if pin:
            if self.kernel.pin_path not in (None, text):
                raise BpfError(EINVAL, f"pinned already, at {self.kernel.pin_path}", "pin", str(self))
            if not _os.path.exists(folder):
                _os.mkdir(folder, 0o700)    # the last level, as libbpf does
                fresh = True
            code = bpf.bpf_obj_pin(self.descriptor(), c_path)
            if code < 0 and fresh:
                _os.rmdir(folder)
        else:
            code = unlink(c_path)
            code = -errno if code < 0 else 0
        if code < 0:
            fail(-code, "pin" if pin else "unpin", self)
        if pin or text == self.kernel.pin_path:
            self.kernel.pin_path = text if pin else None
        return 0

    def set_inner(self, inner):
        """Before load, set what the maps in a map of maps are like: a Map, or what has fileno(), kept until the load.

        Once for each map. Source: bpf_map__set_inner_map_fd().
        """
        cdef KernelMap kept = duplicated_map(inner)
        cdef Call call
        cdef int code
        cdef bint locked = self.change("inner")
        enter(&call, NULL)
        code = libbpf.bpf_map__set_inner_map_fd(self.ptr, kept.fd)
        if code == 0:
            # libbpf only borrows the number.
            self.handle.inner = (self.handle.inner or []) + [kept]
        if locked:
            self.handle.release()
        finish(&call, code, "set inner map of", self)

    def set_exclusive_program(self, program):
        """Before load, let only this program of the same object use the map: the kernel refuses to load others that do.

        Minimum kernel 6.18, libbpf 1.7. Source: bpf_map__set_exclusive_program().
        """
        cdef Call call
        cdef int code
        if not isinstance(program, Attachable):
            raise TypeError(f"the program of {self} must be a Program, not {type(program).__name__}")
        cdef bint locked = self.change("exclusive program")
        if (<Attachable>program).handle is not self.handle:
            if locked:
                self.handle.release()
            raise ValueError(f"{program} is not of the object that {self} is of")
        enter(&call, NULL)
        code = libbpf.bpf_map__set_exclusive_program(self.ptr, (<Attachable>program).own)
        if locked:
            self.handle.release()
        finish(&call, code, "set exclusive program of", self)

    def view(self):
        """Return the map's memory as a MapView: of an array with MapFlags.MMAPABLE, or of an arena.

        Before the load, of a struct_ops map, whose fields can so be set (libbpf 1.5), or of global variables. Read-only of
        frozen maps; PermissionError for those opened for reading, which the kernel does not map. TypeError of kinds that cannot be mapped, and of arenas with
        SEGV_ON_FAULT. Minimum kernel 5.5, of arenas 6.9. Source: bpf_map__initial_value(), mmap() of a bpf_map.
        """
        if self.ptr != NULL and not self.exists():
            return view_initial(self, self.choose_value_codec())
        self.ready()
        return map_memory(self, self.value_codec)

    def info(self):
        """Return what the kernel tells of the map, as a MapInfo. Source: bpf_map_get_info_by_fd()."""
        return map_info(self.descriptor())

    def fdinfo(self):
        """Return the lines about the map in /proc/self/fdinfo as a dict of str. Source: bpf_map_show_fdinfo() of Linux."""
        with open(f"/proc/self/fdinfo/{self.descriptor()}") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

    def freeze(self):
        """Forbid user space to change elements from now on. Minimum kernel 5.2. Source: bpf_map_freeze()."""
        cdef int code = bpf.bpf_map_freeze(self.descriptor())
        if code < 0:
            fail(-code, "freeze", self)

    def attach_struct_ops(self):
        """Attach a struct_ops map and return the Link. Minimum kernel 5.6. Source: bpf_map__attach_struct_ops()."""
        cdef libbpf.bpf_link *link
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
        return make_map_link(link, self.handle, self, libbpf.bpf_map__fd(self.ptr), "struct_ops")


cdef Map blank(int type):
    if type == QUEUE or type == STACK or type == BLOOM_FILTER:
        from .maptypes import BloomFilter, Queue    # which are Maps
        return BloomFilter.__new__(BloomFilter) if type == BLOOM_FILTER else Queue.__new__(Queue)
    return Map.__new__(Map)


cdef Map make_map(Handle handle, libbpf.bpf_map *ptr):
    cdef Map map = blank(<int>libbpf.bpf_map__type(ptr))
    map.handle = handle
    map.ptr = ptr
    return map


cdef Map make_lone_map(KernelMap kernel):
    cdef Map map = blank(kernel.info.type)
    map.kernel = kernel
    return map
