# cython: nonecheck=False
"""A walk through a map, element by element: read by chunks where the kernel does that well, else from key to key."""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.errno cimport ENOENT
from libc.stdlib cimport free, malloc

from .c cimport bpf, libbpf
from .call cimport note_missing
from .codec cimport shown
from .definition cimport has_indexes
from .element cimport Element
from .typed cimport descriptor_of, rounded

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    FIRST = 64              # elements of the first chunk: who walks may stop soon
    LARGEST = 4096
    # enum bpf_map_type
    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10


@cython.final
cdef class Walk:
    def __init__(self):
        raise TypeError("made by maps")

    def __dealloc__(self):
        free(self.memory)

    def __iter__(self):
        return self

    def __next__(self):
        cdef Element map = self.map
        cdef char *key = NULL
        cdef char *value = NULL
        cdef bytearray keys, values     # what key and value point into
        if self.busy:
            self.in_use()
        if not self.find(&key, &value):
            raise StopIteration
        keys, values = self.keys, self.values
        self.busy = True                # to show them may run Python, and other threads
        try:
            if self.what == KEYS:
                return shown(map.key_codec, key)
            if self.what == VALUES:
                return map.decode_value(value)
            return shown(map.key_codec, key), map.decode_value(value)
        finally:
            self.busy = False

    cdef int in_use(self) except -1:
        raise ValueError(f"the iterator of {self.map} is in use already: another thread walks with it")

    cdef bint find(self, char **key, char **value) except -1:
        """The next element, good until the next call; False at the end."""
        cdef Element map = self.map
        cdef int fd, code
        if map is None:
            raise TypeError("made by maps")
        if self.batch is not None:
            if self.at == self.count and not self.fill():
                return False
            if self.batch is not None:
                descriptor_of(map)          # which tells whether it is closed
                key[0] = PyByteArray_AS_STRING(self.keys) + self.at * map.key_codec.size
                value[0] = PyByteArray_AS_STRING(self.values) + self.at * map.value_room
                self.at += 1
                return True
        fd = descriptor_of(map)
        if not self.begun:
            self.begun = True
            self.step(fd, NULL)
        while self.left > 0:
            key[0] = self.ahead
            self.ahead, self.other = self.other, self.ahead
            self.left -= 1
            if self.left:
                self.step(fd, key[0])
            if self.what == KEYS and not self.gaps:
                return True
            value[0] = self.memory + 2 * rounded(map.key_codec.size)
            code = bpf.bpf_map_lookup_elem(fd, key[0], value[0])
            if code == 0 or self.what == KEYS and code != -ENOENT:    # of some kinds nobody can read the values
                return True
            if code != -ENOENT:
                map.refuse(code, "look up in", None)
        return False

    cdef bint fill(self) except -1:
        """Read the next chunk; False at the end. Where the kernel has no such, the walk goes on from key to key."""
        if self.busy:
            self.in_use()
        self.busy = True
        try:
            more = self.batch.read_some(self.chunk)
            self.keys, self.values = self.batch.keys, self.batch.values
            self.count = self.batch.count
            self.at = 0
            self.chunk = min(4 * self.chunk, <Py_ssize_t>LARGEST)
            if self.batch.single:
                self.batch = None
                return True
            return more
        finally:
            self.busy = False

    cdef int step(self, int fd, const char *key) except -1:
        """Find the key after this one; `left` becomes 0 at the end."""
        cdef int code = bpf.bpf_map_get_next_key(fd, key, self.ahead)
        if code == -ENOENT:
            self.left = 0
        elif code < 0:
            self.map.refuse(code, "walk", None)
        return 0

    cdef Py_ssize_t length(self) except -1:
        """How many elements there are."""
        cdef Py_ssize_t count = 0
        cdef char *key = NULL
        cdef char *value = NULL
        while self.find(&key, &value):
            count += 1
            if self.batch is not None:
                count += self.count - self.at
                self.at = self.count
        return count


cdef Walk walk(Element map, What what):
    cdef Walk made = stroll(map, what)
    if map.kind() in (HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH):
        from .mapbatch import Batch
        made.batch = Batch(map)
        made.chunk = FIRST
    return made


cdef Walk stroll(Element map, What what):
    cdef Walk made = Walk.__new__(Walk)
    cdef Py_ssize_t size
    map.require_keys()
    size = rounded(map.key_codec.size)
    made.map = map
    made.what = what
    made.left = map.entries()
    made.gaps = has_indexes(map.kind()) and map.kind() not in (ARRAY, PERCPU_ARRAY)
    made.memory = <char *>malloc(2 * size + map.value_room)
    if made.memory == NULL:
        raise MemoryError()
    made.ahead = made.memory
    made.other = made.memory + size
    return made
