"""What a map is: its type, sizes and flags, of an object's map or of one known by a descriptor."""
import errno as _errno

from .c cimport libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish, need
from .handle cimport Handle, LOADED, OPEN, PREPARED
from .kernelmap cimport KernelMap
from .paths cimport number64_of, number_of
from .targets cimport duplicate_fd, interface_index

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    BEFORE_CREATION = 1 << OPEN
    # enum bpf_map_type
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    CGROUP_ARRAY = 8
    LRU_PERCPU_HASH = 10
    ARRAY_OF_MAPS = 12
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    STRUCT_OPS = 26
    INSN_ARRAY = 34


cdef bint per_cpu(int type) noexcept nogil:
    """Whether a value has one part for each possible CPU."""
    return type == PERCPU_HASH or type == PERCPU_ARRAY or type == LRU_PERCPU_HASH or type == PERCPU_CGROUP_STORAGE


cdef bint has_indexes(int type) noexcept nogil:
    """Whether keys are numbers below max_entries."""
    return type in (ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, CGROUP_ARRAY, ARRAY_OF_MAPS, DEVMAP, SOCKMAP, CPUMAP,
                    XSKMAP, REUSEPORT_SOCKARRAY, INSN_ARRAY)


def possible_cpus():
    """Number of CPUs that the kernel could ever have online: per-CPU values have one part for each.

    Source: libbpf_num_possible_cpus().
    """
    cdef int count = libbpf.libbpf_num_possible_cpus()
    if count < 0:
        fail(-count, "count", "possible CPUs")
    return count


cdef class Definition:
    """The part of Map that says what it is, and whether it is there."""

    def __eq__(self, other):
        # Memory is used again: of a closed object the pointer alone says nothing.
        return (isinstance(other, Definition) and self.ptr == (<Definition>other).ptr
                and self.handle is (<Definition>other).handle and self.kernel is (<Definition>other).kernel)

    def __hash__(self):
        return hash(self.kernel) if self.ptr == NULL else hash(<size_t>self.ptr)

    def __str__(self):
        return str(self.kernel) if self.ptr == NULL else f"map '{self.name}'"

    cdef libbpf.bpf_map *live(self) except NULL:
        if self.ptr == NULL:
            raise TypeError(f"{self} is not of an object")
        self.handle.live()
        return self.ptr

    cdef bint usable(self) noexcept:
        return self.kernel.usable() if self.ptr == NULL else self.handle.usable()

    cdef bint exists(self) except -1:
        # Recent libbpf reserves a number from open on, also for maps that are never made.
        if self.ptr == NULL:
            return self.kernel.live() >= 0
        return self.handle.now() in (PREPARED, LOADED) and libbpf.bpf_map__autocreate(self.ptr)

    cdef int descriptor(self) except -1:
        cdef int fd
        if self.ptr == NULL:
            return self.kernel.live()
        fd = libbpf.bpf_map__fd(self.live())
        if not self.exists() or fd < 0:
            raise StateError(_errno.EINVAL, "the map does not exist in the kernel: it is made by prepare() or load(), "
                             "unless autocreate is off", None, str(self))
        return fd

    cdef int duplicate(self) except -1:
        return duplicate_fd(self.descriptor())

    cdef int kind(self) except -1:
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.type
        return <int>libbpf.bpf_map__type(self.live())

    cdef Py_ssize_t key_bytes(self) except -1:
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.key_size
        return libbpf.bpf_map__key_size(self.live())

    cdef Py_ssize_t part_bytes(self) except -1:
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.value_size
        return libbpf.bpf_map__value_size(self.live())

    cdef Py_ssize_t value_bytes(self) except -1:
        cdef Py_ssize_t size = self.part_bytes()
        return (size + 7) // 8 * 8 * possible_cpus() if per_cpu(self.kind()) else size

    cdef Py_ssize_t entries(self) except -1:
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.max_entries
        return libbpf.bpf_map__max_entries(self.live())

    cdef unsigned int flag_bits(self) except? 0xffffffff:
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.map_flags
        return libbpf.bpf_map__map_flags(self.live())

    cdef bint change(self, str what) except -1:
        """Take the lock for a setter; true if done() is to release it."""
        cdef bint locked
        if self.ptr == NULL:
            self.kernel.live()
            raise StateError(_errno.EINVAL, "the map exists", f"set {what} of", str(self))
        locked = self.handle.enter(f"set {what} of")
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
        """Name in the source or as given to create(), else the kernel's, cut to 15 characters. Source: bpf_map__name()."""
        if self.ptr == NULL:
            return self.kernel.name
        return libbpf.bpf_map__name(self.live()).decode("utf-8", "surrogateescape")

    @property
    def type(self):
        """A MapType. Source: bpf_map__type()."""
        from .enums import MapType
        return MapType(self.kind())

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
        return self.key_bytes()

    @key_size.setter
    def key_size(self, value):
        cdef unsigned int number = number_of(value, "key_size")
        cdef bint locked = self.change("key_size")
        self.done(locked, libbpf.bpf_map__set_key_size(self.ptr, number), "key_size")

    @property
    def value_size(self):
        """Bytes of a value, on one CPU. Setting that of a map of global variables resizes its last array, needs libbpf 1.3.

        BufferError while views of the object are in use. Source: bpf_map__value_size(), bpf_map__set_value_size().
        """
        return self.part_bytes()

    @value_size.setter
    def value_size(self, value):
        cdef unsigned int number = number_of(value, "value_size")
        if self.ptr != NULL and libbpf.bpf_map__is_internal(self.live()):
            need(1, 3, "resizing a map of global variables")
        cdef bint locked = self.change("value_size")
        try:
            self.handle.check_views("set value_size in")    # the memory of variables moves
        except BaseException:
            if locked:
                self.handle.release()
            raise
        self.done(locked, libbpf.bpf_map__set_value_size(self.ptr, number), "value_size")

    @property
    def max_entries(self):
        """Number of entries, or bytes of a ring buffer. Source: bpf_map__max_entries()."""
        return self.entries()

    @max_entries.setter
    def max_entries(self, value):
        cdef unsigned int number = number_of(value, "max_entries")
        if self.ptr != NULL and libbpf.bpf_map__is_internal(self.live()) and number != 1:
            raise ValueError(f"{self} is of global variables, and has one entry")
        cdef bint locked = self.change("max_entries")
        self.done(locked, libbpf.bpf_map__set_max_entries(self.ptr, number), "max_entries")

    @property
    def flags(self):
        """MapFlags. Source: bpf_map__map_flags()."""
        from .enums import MapFlags
        return MapFlags(self.flag_bits())

    @flags.setter
    def flags(self, value):
        cdef unsigned int number = number_of(value, "flags")
        cdef bint locked = self.change("flags")
        self.done(locked, libbpf.bpf_map__set_map_flags(self.ptr, number), "flags")

    @property
    def map_extra(self):
        """What only some types need: hash functions of a bloom filter. Source: bpf_map__map_extra()."""
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.map_extra
        return libbpf.bpf_map__map_extra(self.live())

    @map_extra.setter
    def map_extra(self, value):
        cdef unsigned long long number = number64_of(value, "map_extra")
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
        if self.ptr == NULL:
            self.kernel.live()
            return self.kernel.info.ifindex
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
        return self.ptr != NULL and libbpf.bpf_map__is_internal(self.live())

    @property
    def fd(self):
        """File descriptor, owned by the object or by this Map; -1 before it exists. Source: bpf_map__fd()."""
        if self.ptr == NULL:
            return self.kernel.live()
        cdef libbpf.bpf_map *map = self.live()
        return libbpf.bpf_map__fd(map) if self.exists() else -1

    def fileno(self):
        """Same as fd, but StateError before the map exists."""
        return self.descriptor()
