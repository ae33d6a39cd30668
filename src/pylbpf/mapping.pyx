# cython: nonecheck=False
"""A map as a mutable mapping of Python's: keys and values by their types."""
from _collections_abc import MutableMapping as _MutableMapping

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINVAL, ENOENT, EOPNOTSUPP
cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from .arrays cimport Arrays
from .btf cimport Btf, make_btf
from .c cimport bpf, libbpf, uapi
from .c cimport btf as c_btf
from .call cimport note_missing
from .codec cimport Codec, codec_of_btf
from .definition cimport per_cpu
from .elements cimport Elements, sleeps
from .errors cimport fail
from .handle cimport LOADED, fork_generation
from .kinds cimport key_codec_of_kind, value_codec_of_kind

from .definition import possible_cpus
from .errors import BpfError, NotSupported

libbpf.pylbpf_on_missing = note_missing

cdef extern from "Python.h":
    bint PyLong_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1

cdef enum:
    ROOM = 512              # bytes on the stack for a key and a value
    WORDS = 64
    NOEXIST = 1
    F_CPU = 8
    ENOTSUPP = 524          # the kernel's own: this kind of map has no such operation
    # enum bpf_map_type
    ARRAY = 2
    PERCPU_ARRAY = 6

cdef object MISSING = object()


cdef inline Py_ssize_t rounded(Py_ssize_t size) noexcept nogil:
    return (size + 7) & ~7


cdef unsigned long long with_cpu(unsigned long long flags, object cpu) except? 0xffffffffffffffff:
    """Flags for the value of one CPU."""
    if cpu is None:
        return flags
    if not isinstance(cpu, int) or not 0 <= cpu < possible_cpus():
        raise ValueError(f"cpu is one of {possible_cpus()} possible CPUs, not {cpu!r}")
    return flags | F_CPU | <unsigned long long>cpu << 32


cdef inline int put(Codec codec, object value, char *out) except -1:
    """encode(), without a call for the commonest of all."""
    cdef long long number
    cdef int overflow = 0
    if codec.plain and PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow == 0 and number >= 0:
            if codec.plain == 8:
                (<long long *>out)[0] = number
                return 0
            if number >> 32 == 0:
                (<unsigned int *>out)[0] = <unsigned int>number
                return 0
    return codec.encode(value, out)


cdef inline object take(Codec codec, const char *data):
    """decode(), likewise."""
    if codec.plain == 8:
        return (<const unsigned long long *>data)[0]
    if codec.plain == 4:
        return (<const unsigned int *>data)[0]
    return codec.decode(data)


cdef inline int descriptor_of(Mapping map) except -1:
    """descriptor(), likewise: nothing has happened to a loaded object, or to a map by itself."""
    if map.handle is not None:
        if map.handle.phase == LOADED and map.handle.generation == fork_generation():
            return map.known
    elif map.kernel is not None and map.kernel.fd >= 0 and map.kernel.generation == fork_generation():
        return map.kernel.fd
    return map.descriptor()


cdef class Mapping(Arrays):
    """The part of Map that is like a dict."""

    cdef int ready(self) except -1:
        """Choose how keys and values are shown. From when the map is there, its sizes and types stay."""
        if self.value_codec is None:
            self.known = self.descriptor()
            self.parts = possible_cpus() if per_cpu(self.kind()) else 0
            self.value_room = self.value_bytes()
            self.sleepy = sleeps(self.kind())
            self.key_codec = self.choose_key_codec()
            if self.key_codec is not None:
                self.key_codec.is_key = True
            self.value_codec = self.choose_value_codec()
        return 0

    cdef Codec choose_key_codec(self):
        cdef str what = f"a key of {self}"
        cdef Codec codec = key_codec_of_kind(self.kind(), self.key_bytes(), what)
        cdef unsigned int id
        if codec is not None or self.key_bytes() == 0:
            return codec
        id = libbpf.bpf_map__btf_key_type_id(self.ptr) if self.ptr != NULL else self.kernel.info.btf_key_type_id
        return codec_of_btf(self._types(), id, self.key_bytes(), what)

    cdef Codec choose_value_codec(self):
        cdef str what = f"a value of {self}"
        cdef Codec codec = value_codec_of_kind(self.kind(), self.part_bytes(), self.flag_bits(), what)
        cdef unsigned int id
        if codec is not None:
            return codec
        id = libbpf.bpf_map__btf_value_type_id(self.ptr) if self.ptr != NULL else self.kernel.info.btf_value_type_id
        return codec_of_btf(self._types(), id, self.part_bytes(), what)

    def _types(self):
        """The Btf that the map's types are in, or None: of its object, or of the kernel. Source: bpf_object__btf()."""
        cdef c_btf.btf *types
        cdef unsigned int others
        if self.ptr != NULL:
            self.live()
            others = self.others_types()
            if others:
                try:
                    return Btf.from_id(others)
                except PermissionError:
                    return None
            types = libbpf.bpf_object__btf(self.handle.ptr)
            return None if types == NULL else make_btf(self.handle, types)
        self.kernel.live()
        if self.kernel.info.btf_id == 0:
            return None
        if self.kernel.types is None:
            self.kernel.types = Btf.from_id(self.kernel.info.btf_id)
        return self.kernel.types

    cdef unsigned int others_types(self) except? 0xffffffff:
        """The number of the types in the kernel, if the map was made by somebody else with types of theirs; else 0."""
        cdef uapi.bpf_map_info info
        cdef uapi.bpf_btf_info own
        cdef unsigned int length = sizeof(info)
        cdef int fd = libbpf.bpf_map__fd(self.ptr)
        memset(&info, 0, sizeof(info))
        # Before it is made, its number may stand for nothing or for no map at all.
        if fd < 0 or bpf.bpf_obj_get_info_by_fd(fd, &info, &length) < 0 or info.btf_id == 0:
            return 0
        memset(&own, 0, sizeof(own))
        length = sizeof(own)
        fd = libbpf.bpf_object__btf_fd(self.handle.ptr)
        if fd >= 0 and bpf.bpf_obj_get_info_by_fd(fd, &own, &length) == 0 and own.id == info.btf_id:
            return 0
        return info.btf_id

    def _said(self):
        """The dtypes that create() or typed() gave to keys and values, or None."""
        return (self.key_codec.numpy_dtype() if self.key_said else None,
                self.value_codec.numpy_dtype() if self.value_said else None)

    # One element

    cdef object decode_value(self, const char *data):
        cdef Py_ssize_t stride, at
        cdef list parts
        if self.parts == 0:
            return take(self.value_codec, data)
        stride = rounded(self.value_codec.size)
        parts = []
        for at in range(self.parts):
            parts.append(self.value_codec.decode(data + at * stride))
        return parts

    cdef int encode_value(self, object value, char *out, bint single) except -1:
        cdef Py_ssize_t stride, at
        cdef Py_buffer buffer
        cdef bint fits
        if self.parts == 0 or single:
            return self.value_codec.encode(value, out)
        stride = rounded(self.value_codec.size)
        memset(out, 0, self.value_room)
        if isinstance(value, (bytes, bytearray, memoryview)):
            # What a subclass says of its length is not asked.
            PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
            fits = buffer.len == self.value_room
            if fits:
                memcpy(out, buffer.buf, self.value_room)
            PyBuffer_Release(&buffer)
            if fits:
                return 0
        if not hasattr(value, "__len__") or isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a value of {self} is a list of one for each of {self.parts} possible CPUs, "
                            f"not {type(value).__name__}")
        if len(value) != self.parts:
            raise ValueError(f"a value of {self} has {self.parts} parts, one for each possible CPU, not {len(value)}")
        at = 0
        for part in value:
            if at == self.parts:
                raise ValueError(f"a value of {self} has {self.parts} parts")
            self.value_codec.encode(part, out + at * stride)
            at += 1
        return 0

    cdef object fetch_typed(self, object key, unsigned long long flags, object cpu, bint delete):
        """The value of a key, or MISSING."""
        cdef unsigned long long small[WORDS]
        cdef char *room = <char *>small
        cdef char *heap = NULL
        cdef char *value
        cdef Codec codec
        cdef int fd, code
        if self.value_codec is None:
            self.ready()
        codec = self.key_codec
        if codec is None:
            raise TypeError(f"{self} has no keys")
        if cpu is not None:
            flags = with_cpu(flags, cpu)
        if codec.size + self.value_room > ROOM - 16:
            room = heap = <char *>malloc(rounded(codec.size) + self.value_room)
            if heap == NULL:
                raise MemoryError()
        try:
            value = room + rounded(codec.size)
            put(codec, key, room)
            fd = descriptor_of(self)    # after the last code of the user's
            if delete:
                code = bpf.bpf_map_lookup_and_delete_elem_flags(fd, room, value, flags)
            elif flags == 0:
                code = bpf.bpf_map_lookup_elem(fd, room, value)
            else:
                code = bpf.bpf_map_lookup_elem_flags(fd, room, value, flags)
            if code == 0:
                return take(self.value_codec, value) if self.parts == 0 or cpu is not None else self.decode_value(value)
        finally:
            if codec.opened >= 0:
                codec.close_opened()
            if heap != NULL:
                free(heap)
        if code == -ENOENT:
            return MISSING
        if delete and (code == -ENOTSUPP or code == -EINVAL or code == -EOPNOTSUPP):
            found = self.fetch_typed(key, flags, cpu, False)
            if found is not MISSING:
                self.remove(key, 0)
            return found
        self._refuse(code, "look up in", cpu)

    def _refuse(self, int code, str operation, cpu):
        """Raise what a negative result means."""
        if code == -EINVAL and cpu is not None and self.parts:
            raise NotSupported(EOPNOTSUPP, "this kernel cannot read or write the value of one CPU by itself (BPF_F_CPU)",
                               operation, str(self))
        fail(EOPNOTSUPP if code == -ENOTSUPP else -code, operation, self)

    cdef int store(self, object key, object value, unsigned long long flags, object cpu) except -1:
        cdef unsigned long long small[WORDS]
        cdef char *room = <char *>small
        cdef char *heap = NULL
        cdef char *value_at
        cdef Codec codec
        cdef int fd, code
        if self.value_codec is None:
            self.ready()
        codec = self.key_codec
        if codec is None:
            raise TypeError(f"{self} has no keys")
        if cpu is not None:
            flags = with_cpu(flags, cpu)
        if codec.size + self.value_room > ROOM - 16:
            room = heap = <char *>malloc(rounded(codec.size) + self.value_room)
            if heap == NULL:
                raise MemoryError()
        try:
            value_at = room + rounded(codec.size)
            # What borrows a descriptor comes last.
            if codec.borrows:
                self.encode_value(value, value_at, cpu is not None)
                codec.encode(key, room)
            else:
                put(codec, key, room)
                if self.parts == 0:
                    put(self.value_codec, value, value_at)
                else:
                    self.encode_value(value, value_at, cpu is not None)
            if self.sleepy:
                fd = self.duplicate()   # the map's own may be closed by another thread meanwhile
                with nogil:
                    code = bpf.bpf_map_update_elem(fd, room, value_at, flags)
                    close_fd(fd)
            else:
                fd = descriptor_of(self)
                code = bpf.bpf_map_update_elem(fd, room, value_at, flags)
        finally:
            if codec.opened >= 0:
                codec.close_opened()
            if self.value_codec.opened >= 0:
                self.value_codec.close_opened()
            if heap != NULL:
                free(heap)
        if code == 0:
            return 0
        if code == -ENOENT:
            raise KeyError(key)
        self._refuse(code, "update", cpu)

    cdef int remove(self, object key, unsigned long long flags) except -1:
        cdef unsigned long long small[WORDS]
        cdef char *room = <char *>small
        cdef char *heap = NULL
        cdef Codec codec
        cdef int fd, code
        if self.value_codec is None:
            self.ready()
        codec = self.key_codec
        if codec is None:
            raise TypeError(f"{self} has no keys")
        if codec.size > ROOM:
            room = heap = <char *>malloc(codec.size)
            if heap == NULL:
                raise MemoryError()
        try:
            put(codec, key, room)
            if self.sleepy:
                fd = self.duplicate()
                with nogil:
                    code = bpf.bpf_map_delete_elem_flags(fd, room, flags)
                    close_fd(fd)
            else:
                fd = descriptor_of(self)
                code = bpf.bpf_map_delete_elem_flags(fd, room, flags) if flags else bpf.bpf_map_delete_elem(fd, room)
        finally:
            if codec.opened >= 0:
                codec.close_opened()
            if heap != NULL:
                free(heap)
        if code == 0:
            return 0
        if code == -ENOENT:
            raise KeyError(key)
        self._refuse(code, "delete from", None)

    def __getitem__(self, key):
        found = self.fetch_typed(key, 0, None, False)
        if found is MISSING:
            raise KeyError(key)
        return found

    def __setitem__(self, key, value):
        self.store(key, value, 0, None)

    def __delitem__(self, key):
        self.remove(key, 0)

    def __contains__(self, key):
        return self.fetch_typed(key, 0, None, False) is not MISSING

    def get(self, key, default=None, *, unsigned long long flags=0, cpu=None):
        """Return the value of a key, or ``default``.

        ``flags``: UpdateFlags.LOCK reads it under its spin lock. ``cpu``: of a per-CPU map, the value of this one alone,
        where the kernel can do that (BPF_F_CPU), else NotSupported. Source: bpf_map_lookup_elem_flags().
        """
        found = self.fetch_typed(key, flags, cpu, False)
        return default if found is MISSING else found

    def set(self, key, value, *, unsigned long long flags=0, cpu=None):
        """Set the value of a key.

        ``flags``: UpdateFlags.NOEXIST (FileExistsError if there is one), EXIST (KeyError if there is none), LOCK.
        ``cpu``: of a per-CPU map, the value of this one alone, see get(). Source: bpf_map_update_elem().
        """
        self.store(key, value, flags, cpu)

    def pop(self, key, *default):
        """Delete a key and return its value; if it is not there, ``default`` or KeyError.

        One step in the kernel where it can do that, else two. Source: bpf_map_lookup_and_delete_elem_flags().
        """
        if len(default) > 1:
            raise TypeError(f"pop() takes a key and one default, not {len(default)}")
        found = self.fetch_typed(key, 0, None, True)
        if found is not MISSING:
            return found
        if default:
            return default[0]
        raise KeyError(key)

    def setdefault(self, key, default):
        """Set a key unless it is there, in one step; return the value it has then. Source: bpf_map_update_elem()."""
        while True:
            try:
                self.store(key, default, NOEXIST, None)
            except FileExistsError:
                pass
            found = self.fetch_typed(key, 0, None, False)
            if found is not MISSING:    # else somebody has just deleted it
                return found

    def update(self, other, *value, unsigned long long flags=0):
        """Set all elements of a mapping, or of pairs of key and value, by their types, one after the other.

        With two arguments, a key and a value, both are bytes-like, as in all methods that are named as libbpf's
        functions; the key is None for queues, stacks and bloom filters. ``flags``: see set(). Source:
        bpf_map_update_elem().
        """
        if value:
            if len(value) > 1:
                raise TypeError(f"update() takes a mapping, or a key and a value, not {1 + len(value)} arguments")
            return Elements.update(self, other, value[0], flags=flags)
        if isinstance(other, Mapping):
            other = other.items()
        elif hasattr(other, "keys"):
            other = [(key, other[key]) for key in other.keys()]
        for key, each in other:
            self.store(key, each, flags, None)

    # All elements

    cdef int require_dict(self) except -1:
        self.ready()
        if self.key_codec is None:
            raise TypeError(f"{self} has no keys")
        return 0

    def __iter__(self):
        return self.keys()

    def keys(self):
        """Iterate over the keys; see items(). Source: bpf_map_get_next_key()."""
        return walk(self, KEYS)

    def items(self):
        """Iterate over (key, value).

        Deleting the key that has just come is safe. If somebody deletes the one that would come next, the kernel starts
        again from the first, and keys may come twice; it ends after ``max_entries`` at the latest. What is deleted
        before its value is read is left out. Source: bpf_map_get_next_key(), bpf_map_lookup_elem().
        """
        return walk(self, ITEMS)

    def values(self):
        """Iterate over the values; see items(). Source: bpf_map_lookup_elem()."""
        return walk(self, VALUES)

    def __len__(self):
        self.require_dict()
        if self.kind() in (ARRAY, PERCPU_ARRAY):
            return self.entries()
        cdef Py_ssize_t count = 0
        for _ in walk(self, COUNT):
            count += 1
        return count

    def __bool__(self):
        """Whether there is an element; False of a map that is not there, True of one that cannot be walked."""
        if not self.usable() or not self.exists():
            return False
        self.require_dict()
        try:
            return self.next_key() is not None
        except BpfError as error:
            if error.errno != EOPNOTSUPP:
                raise
            return True             # local storage cannot be walked

    def popitem(self):
        """Delete some element, and return its key and value; KeyError if there is none."""
        for key in self.keys():
            value = self.fetch_typed(key, 0, None, True)
            if value is not MISSING:
                return key, value
        raise KeyError(f"{self} is empty")

    def clear(self):
        """Delete all elements that are there. TypeError of an array. Source: bpf_map_delete_elem()."""
        self.require_dict()
        if self.kind() in (ARRAY, PERCPU_ARRAY):
            raise TypeError(f"elements of {self} are always there")
        for key in Elements.keys(self):
            try:
                self.delete(key)
            except KeyError:        # deleted by somebody else meanwhile
                pass


_MutableMapping.register(Mapping)


cdef enum What:
    KEYS, VALUES, ITEMS, COUNT


@cython.final
cdef class Walk:
    # From key to key, always one ahead, so that the one handed out may be deleted.
    cdef Mapping map
    cdef What what
    cdef char *memory           # two keys and a value
    cdef char *ahead
    cdef char *other
    cdef Py_ssize_t left
    cdef bint begun

    def __dealloc__(self):
        free(self.memory)

    def __iter__(self):
        return self

    def __next__(self):
        cdef Mapping map = self.map
        cdef char *key
        cdef char *value
        cdef object found = None
        cdef int fd, code
        if map is None:
            raise TypeError("made by maps")
        fd = descriptor_of(map)
        if not self.begun:
            self.begun = True
            self.step(fd, NULL)
        while self.left > 0:
            key = self.ahead
            self.ahead, self.other = self.other, key
            self.left -= 1
            if self.left:
                self.step(fd, key)
            if self.what == COUNT:
                return None
            if self.what == KEYS:
                return take(map.key_codec, key)
            value = self.memory + 2 * rounded(map.key_codec.size)
            code = bpf.bpf_map_lookup_elem(fd, key, value)
            if code == 0:
                found = map.decode_value(value)
                return found if self.what == VALUES else (take(map.key_codec, key), found)
            if code != -ENOENT:
                map._refuse(code, "look up in", None)
        raise StopIteration

    cdef int step(self, int fd, const char *key) except -1:
        """Find the key after this one; `left` becomes 0 at the end."""
        cdef int code = bpf.bpf_map_get_next_key(fd, key, self.ahead)
        if code == -ENOENT:
            self.left = 0
        elif code < 0:
            self.map._refuse(code, "walk", None)
        return 0


cdef Walk walk(Mapping map, What what):
    cdef Walk made = Walk.__new__(Walk)
    cdef Py_ssize_t size
    map.require_dict()
    size = rounded(map.key_codec.size)
    made.map = map
    made.what = what
    made.left = map.entries()
    made.memory = <char *>malloc(2 * size + map.value_room)
    if made.memory == NULL:
        raise MemoryError()
    made.ahead = made.memory
    made.other = made.memory + size
    return made
