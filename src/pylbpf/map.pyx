"""One map of an object, its definition before load and its elements as bytes afterwards."""
import errno as _errno

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
cimport cython
from libc.errno cimport EEXIST, ENOENT, errno

from .attach cimport interface_index
from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish
from .handle cimport FAILED, Handle, LOADED, OPEN, OPENING, PREPARED
from .link cimport Link, STRUCT_OPS_LINK, make_link
from .paths cimport is_of_kind, number_of, path_bytes

from .errors import NotSupported, StateError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    BEFORE_CREATION = 1 << OPEN
    CREATED = 1 << PREPARED | 1 << LOADED
    # enum bpf_map_type
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_PERCPU_HASH = 10
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    PERCPU_CGROUP_STORAGE = 21
    STRUCT_OPS = 26


cdef bint sleeps(int type) noexcept:
    """Whether changing an element waits for a grace period in the kernel."""
    return type == PROG_ARRAY or type == ARRAY_OF_MAPS or type == HASH_OF_MAPS or type == STRUCT_OPS


def possible_cpus():
    """Number of CPUs that the kernel could ever have online: per-CPU values have one part for each.

    Source: libbpf_num_possible_cpus().
    """
    cdef int count = libbpf.libbpf_num_possible_cpus()
    if count < 0:
        fail(-count, "count", "possible CPUs")
    return count


cdef int get_bytes(object source, Py_buffer *buffer, Py_ssize_t size, str what, Map map) except -1:
    """Lock a bytes-like object of exactly this size until PyBuffer_Release()."""
    cdef Py_ssize_t length
    PyObject_GetBuffer(source, buffer, PyBUF_SIMPLE)
    length = buffer.len
    if length != size:
        PyBuffer_Release(buffer)
        raise ValueError(f"a {what} of {map} has {size} bytes, not {length}")
    return 0


@cython.final
cdef class Map:
    """One map of an object. It keeps the object alive, and two of the same map are equal.

    Before the object is prepared or loaded its definition can be set; afterwards its elements are read and written,
    here as bytes: keys of ``key_size`` bytes, values of ``value_size``, for per-CPU maps ``value_size`` rounded up to
    8 for each of possible_cpus(). What has the wrong size is a ValueError before the kernel sees anything. Setters
    raise StateError once the map exists, elements before it does.
    """

    def __init__(self):
        raise TypeError("maps come from Object.maps")

    def __eq__(self, other):
        # Memory is used again: of a closed object the pointer alone says nothing.
        return isinstance(other, Map) and self.ptr == (<Map>other).ptr and self.handle is (<Map>other).handle

    def __hash__(self):
        return hash(<size_t>self.ptr)

    def __str__(self):
        return f"map '{self.name}'"

    def __repr__(self):
        if not self.handle.usable():
            return "<Map: closed>"
        return (f"<Map: {self.name}, {self.type.name}, key {self.key_size}, value {self.value_size}, "
                f"{self.max_entries} entries>")

    cdef libbpf.bpf_map *live(self) except NULL:
        self.handle.live()
        return self.ptr

    cdef bint exists(self) except -1:
        # Recent libbpf reserves a number from open on, also for maps that are never made.
        return self.handle.now() in (PREPARED, LOADED) and libbpf.bpf_map__autocreate(self.ptr)

    cdef int descriptor(self) except -1:
        cdef int fd = libbpf.bpf_map__fd(self.live())
        if not self.exists() or fd < 0:
            raise StateError(_errno.EINVAL, "the map does not exist in the kernel: it is made by prepare() or load(), "
                             "unless autocreate is off", None, str(self))
        return fd

    cdef bint change(self, str what) except -1:
        cdef bint locked = self.handle.enter(f"set {what} of")
        try:
            self.handle.require(BEFORE_CREATION, f"set {what} of {self} in")
        except BaseException:
            if locked:
                self.handle.release()
            raise
        return locked

    cdef int done(self, bint locked, int code, str what) except -1:
        cdef Call call
        if locked:
            self.handle.release()
        enter(&call, NULL)
        return finish(&call, code, f"set {what} of", self)

    @property
    def name(self):
        """Name in the source, not cut to the kernel's 15 characters. Source: bpf_map__name()."""
        return libbpf.bpf_map__name(self.live()).decode("utf-8", "surrogateescape")

    @property
    def type(self):
        """A MapType. Source: bpf_map__type()."""
        from .enums import MapType
        return MapType(<int>libbpf.bpf_map__type(self.live()))

    @type.setter
    def type(self, value):
        cdef unsigned int number = number_of(value, "type")
        if number == STRUCT_OPS:
            raise ValueError(f"{self} cannot become a STRUCT_OPS map: such maps are declared as what they hold")
        cdef bint locked = self.change("type")
        self.done(locked, libbpf.bpf_map__set_type(self.ptr, <uapi.bpf_map_type>number), "type")

    @property
    def key_size(self):
        """Bytes of a key. Source: bpf_map__key_size()."""
        return libbpf.bpf_map__key_size(self.live())

    @key_size.setter
    def key_size(self, value):
        cdef unsigned int number = number_of(value, "key_size")
        cdef bint locked = self.change("key_size")
        self.done(locked, libbpf.bpf_map__set_key_size(self.ptr, number), "key_size")

    @property
    def value_size(self):
        """Bytes of a value, on one CPU. Source: bpf_map__value_size()."""
        return libbpf.bpf_map__value_size(self.live())

    @value_size.setter
    def value_size(self, value):
        cdef unsigned int number = number_of(value, "value_size")
        cdef bint locked = self.change("value_size")
        self.done(locked, libbpf.bpf_map__set_value_size(self.ptr, number), "value_size")

    @property
    def max_entries(self):
        """Number of entries, or bytes of a ring buffer. Source: bpf_map__max_entries()."""
        return libbpf.bpf_map__max_entries(self.live())

    @max_entries.setter
    def max_entries(self, value):
        cdef unsigned int number = number_of(value, "max_entries")
        cdef bint locked = self.change("max_entries")
        self.done(locked, libbpf.bpf_map__set_max_entries(self.ptr, number), "max_entries")

    @property
    def flags(self):
        """MapFlags. Source: bpf_map__map_flags()."""
        from .enums import MapFlags
        return MapFlags(libbpf.bpf_map__map_flags(self.live()))

    @flags.setter
    def flags(self, value):
        cdef unsigned int number = number_of(value, "flags")
        cdef bint locked = self.change("flags")
        self.done(locked, libbpf.bpf_map__set_map_flags(self.ptr, number), "flags")

    @property
    def map_extra(self):
        """What only some types need: hash functions of a bloom filter. Source: bpf_map__map_extra()."""
        return libbpf.bpf_map__map_extra(self.live())

    @map_extra.setter
    def map_extra(self, value):
        if not isinstance(value, int):
            raise TypeError(f"map_extra must be a number, not {type(value).__name__}")
        cdef unsigned long long number = value
        cdef bint locked = self.change("map_extra")
        self.done(locked, libbpf.bpf_map__set_map_extra(self.ptr, number), "map_extra")

    @property
    def numa_node(self):
        """NUMA node, with MapFlags.NUMA_NODE. Source: bpf_map__numa_node()."""
        return libbpf.bpf_map__numa_node(self.live())

    @numa_node.setter
    def numa_node(self, value):
        cdef unsigned int number = number_of(value, "numa_node")
        cdef bint locked = self.change("numa_node")
        self.done(locked, libbpf.bpf_map__set_numa_node(self.ptr, number), "numa_node")

    @property
    def ifindex(self):
        """Network device that the map is offloaded to, 0 for none. Source: bpf_map__ifindex()."""
        return libbpf.bpf_map__ifindex(self.live())

    @ifindex.setter
    def ifindex(self, value):
        cdef unsigned int index = 0 if value == 0 else interface_index(value)
        cdef bint locked = self.change("ifindex")
        self.done(locked, libbpf.bpf_map__set_ifindex(self.ptr, index), "ifindex")

    @property
    def autocreate(self):
        """Whether load makes the map in the kernel. Source: bpf_map__autocreate()."""
        return libbpf.bpf_map__autocreate(self.live())

    @autocreate.setter
    def autocreate(self, bint value):
        cdef bint locked = self.change("autocreate")
        self.done(locked, libbpf.bpf_map__set_autocreate(self.ptr, value), "autocreate")

    @property
    def autoattach(self):
        """Whether Object.attach() attaches this struct_ops map. Needs libbpf 1.5. Source: bpf_map__autoattach()."""
        cdef Call call
        cdef libbpf.bpf_map *map = self.live()
        enter(&call, NULL)
        cdef bint value = libbpf.bpf_map__autoattach(map)
        finish(&call, -95 if call.missing != NULL else 0, "read autoattach of", self)
        return value

    @autoattach.setter
    def autoattach(self, bint value):
        cdef Call call
        cdef int code
        cdef bint locked = self.change("autoattach")
        enter(&call, NULL)
        code = libbpf.bpf_map__set_autoattach(self.ptr, value)
        if locked:
            self.handle.release()
        finish(&call, code, "set autoattach of", self)

    @property
    def is_internal(self):
        """True for the maps that libbpf makes for global variables and kconfig. Source: bpf_map__is_internal()."""
        return libbpf.bpf_map__is_internal(self.live())

    @property
    def fd(self):
        """File descriptor, owned by the object; -1 before it exists. Source: bpf_map__fd()."""
        cdef libbpf.bpf_map *map = self.live()
        return libbpf.bpf_map__fd(map) if self.exists() else -1

    def fileno(self):
        """Same as fd, but StateError before the map exists."""
        return self.descriptor()

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
        """Whether it is pinned now. Source: bpf_map__is_pinned()."""
        return libbpf.bpf_map__is_pinned(self.live())

    def pin(self, path=None):
        """Pin the map in a BPF file system, by default at pin_path. Source: bpf_map__pin()."""
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
        cdef bint locked = self.handle.enter("pin")
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_map__pin(self.ptr, c_path) if pin else libbpf.bpf_map__unpin(self.ptr, c_path)
        if locked:
            self.handle.release()
        return finish(&call, code, "pin" if pin else "unpin", self)

    def attach_struct_ops(self):
        """Attach a struct_ops map and return the Link. Minimum kernel 5.6. Source: bpf_map__attach_struct_ops()."""
        cdef libbpf.bpf_link *link
        cdef Link made
        cdef Call call
        cdef int code = 0
        cdef bint locked
        self.descriptor()
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

    # Elements

    cdef Py_ssize_t value_bytes(self) except -1:
        cdef Py_ssize_t size = libbpf.bpf_map__value_size(self.ptr)
        cdef int type = <int>libbpf.bpf_map__type(self.ptr)
        if type in (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE):
            return (size + 7) // 8 * 8 * possible_cpus()
        return size

    cdef object fetch(self, object key, unsigned long long flags, bint delete):
        cdef Py_buffer buffer
        cdef libbpf.bpf_map *map = self.live()
        cdef bint keyed = key is not None or libbpf.bpf_map__key_size(map) != 0
        cdef const void *key_ptr = NULL
        cdef bytes value
        cdef void *value_ptr
        cdef int fd, code
        if keyed:
            get_bytes(key, &buffer, libbpf.bpf_map__key_size(map), "key", self)
            key_ptr = buffer.buf
        try:
            # After the last code of the user's, which may have closed the object.
            fd = self.descriptor()
            value = PyBytes_FromStringAndSize(NULL, self.value_bytes())
            value_ptr = PyBytes_AS_STRING(value)
            if delete:
                code = bpf.bpf_map_lookup_and_delete_elem_flags(fd, key_ptr, value_ptr, flags)
            else:
                code = bpf.bpf_map_lookup_elem_flags(fd, key_ptr, value_ptr, flags)
        finally:
            if keyed:
                PyBuffer_Release(&buffer)
        if code == 0:
            return value
        if code == -ENOENT:
            return None
        fail(-code, "look up in", self)

    def lookup(self, key=None, *, unsigned long long flags=0):
        """Return the value of a key as bytes, or None if there is none.

        Queues, stacks and bloom filters take no key. ``flags``: UpdateFlags.LOCK. Source: bpf_map_lookup_elem_flags().
        """
        return self.fetch(key, flags, False)

    def lookup_and_delete(self, key=None, *, unsigned long long flags=0):
        """Return the value of a key as bytes and delete it, or return None; pops queues and stacks.

        Minimum kernel 4.20 for these, 5.14 for hash maps. Source: bpf_map_lookup_and_delete_elem_flags().
        """
        return self.fetch(key, flags, True)

    def update(self, key, value, *, unsigned long long flags=0):
        """Set the value of a key, both bytes-like; the key is None for queues, stacks and bloom filters.

        ``flags``: UpdateFlags.NOEXIST (FileExistsError if there is one), EXIST (KeyError if there is none), LOCK.
        Source: bpf_map_update_elem().
        """
        cdef Py_buffer key_buffer
        cdef Py_buffer value_buffer
        cdef libbpf.bpf_map *map = self.live()
        cdef Py_ssize_t value_size = self.value_bytes()
        cdef bint keyed = key is not None or libbpf.bpf_map__key_size(map) != 0
        cdef bint valued = False
        cdef const void *key_ptr = NULL
        cdef int fd, code
        if keyed:
            get_bytes(key, &key_buffer, libbpf.bpf_map__key_size(map), "key", self)
            key_ptr = key_buffer.buf
        try:
            get_bytes(value, &value_buffer, value_size, "value", self)
            valued = True
            # After the last code of the user's, which may have closed the object.
            fd = self.descriptor()
            if sleeps(<int>libbpf.bpf_map__type(self.ptr)):
                with nogil:
                    code = bpf.bpf_map_update_elem(fd, key_ptr, value_buffer.buf, flags)
            else:
                code = bpf.bpf_map_update_elem(fd, key_ptr, value_buffer.buf, flags)
        finally:
            if valued:
                PyBuffer_Release(&value_buffer)
            if keyed:
                PyBuffer_Release(&key_buffer)
        if code == -ENOENT and keyed:
            raise KeyError(bytes(key))
        if code < 0:
            fail(-code, "update", self)

    def delete(self, key, *, unsigned long long flags=0):
        """Delete a key; KeyError if it is not there. Source: bpf_map_delete_elem_flags()."""
        cdef Py_buffer buffer
        cdef int fd, code
        get_bytes(key, &buffer, libbpf.bpf_map__key_size(self.live()), "key", self)
        try:
            fd = self.descriptor()
            if sleeps(<int>libbpf.bpf_map__type(self.ptr)):
                with nogil:
                    code = bpf.bpf_map_delete_elem_flags(fd, buffer.buf, flags)
            else:
                code = bpf.bpf_map_delete_elem_flags(fd, buffer.buf, flags)
        finally:
            PyBuffer_Release(&buffer)
        if code == -ENOENT:
            raise KeyError(bytes(key))
        if code < 0:
            fail(-code, "delete from", self)

    def next_key(self, key=None):
        """Return the key after this one as bytes, the first for None, or None at the end.

        If the key is gone the kernel starts again from the first. Source: bpf_map_get_next_key().
        """
        cdef Py_ssize_t size = libbpf.bpf_map__key_size(self.live())
        cdef Py_buffer buffer
        cdef bytes following = PyBytes_FromStringAndSize(NULL, size)
        cdef void *out = PyBytes_AS_STRING(following)
        cdef int code
        if key is None:
            code = bpf.bpf_map_get_next_key(self.descriptor(), NULL, out)
        else:
            get_bytes(key, &buffer, size, "key", self)
            try:
                code = bpf.bpf_map_get_next_key(self.descriptor(), buffer.buf, out)
            finally:
                PyBuffer_Release(&buffer)
        if code == 0:
            return following
        if code == -ENOENT:
            return None
        fail(-code, "walk", self)

    def keys(self):
        """Iterate over the keys as bytes.

        The walk is over max_entries keys at most: deleting while walking makes the kernel start again, and keys may
        then come twice.
        """
        cdef Py_ssize_t left = self.max_entries
        key = self.next_key()
        while key is not None and left > 0:
            # Asked for before the caller has the chance to delete this one.
            following = self.next_key(key)
            yield key
            key = following
            left -= 1

    def items(self):
        """Iterate over (key, value) as bytes, leaving out keys that are deleted meanwhile; see keys()."""
        for key in self.keys():
            value = self.lookup(key)
            if value is not None:
                yield key, value


cdef Map make_map(Handle handle, libbpf.bpf_map *ptr):
    cdef Map map = Map.__new__(Map)
    map.handle = handle
    map.ptr = ptr
    return map
