"""Maps that are no mappings: queues, stacks and bloom filters."""
from libc.errno cimport ENOENT
from libc.stdlib cimport free, malloc

from .c cimport bpf, libbpf
from .call cimport note_missing
from .errors cimport fail
from .map cimport Map

libbpf.pylbpf_on_missing = note_missing


cdef class Queue(Map):
    """A queue, first in first out, or a stack, last in first out: a Map of type QUEUE or STACK."""

    def push(self, value, *, unsigned long long flags=0):
        """Put a value in; BpfError (E2BIG) if it is full, with UpdateFlags.EXIST the oldest makes room.

        Source: bpf_map_update_elem().
        """
        put(self, value, flags)

    def peek(self, default=...):
        """Return the value that pop() would, and leave it; if it is empty, ``default`` or IndexError.

        Source: bpf_map_lookup_elem().
        """
        return take(self, default, False)

    def pop(self, default=...):
        """Take the oldest value of a queue, or the newest of a stack; if it is empty, ``default`` or IndexError.

        Source: bpf_map_lookup_and_delete_elem().
        """
        return take(self, default, True)

    def __iter__(self):
        """Take values out until it is empty, at most as many as it can hold."""
        cdef Py_ssize_t left = self.entries()
        while left > 0:
            value = take(self, NOTHING_LEFT, True)
            if value is NOTHING_LEFT:
                return
            yield value
            left -= 1

    def __bool__(self):
        return self.usable() and self.exists() and take(self, NOTHING_LEFT, False) is not NOTHING_LEFT


cdef object NOTHING_LEFT = object()


cdef class BloomFilter(Map):
    """A set that may say yes though a value is not in it, and never no though it is: a Map of type BLOOM_FILTER."""

    def add(self, value):
        """Add a value. Source: bpf_map_update_elem()."""
        put(self, value, 0)

    def __contains__(self, value):
        cdef char *room
        cdef int code
        self.ready()
        room = <char *>malloc(self.value_room)
        if room == NULL:
            raise MemoryError()
        try:
            self.value_codec.encode(value, room)
            code = bpf.bpf_map_lookup_elem(self.descriptor(), NULL, room)
        finally:
            free(room)
        if code < 0 and code != -ENOENT:
            fail(-code, "look up in", self)
        return code == 0

    def __iter__(self):
        raise TypeError(f"{self} cannot be iterated")

    def __bool__(self):
        raise TypeError(f"{self} does not tell whether it is empty")


cdef int put(Map map, object value, unsigned long long flags) except -1:
    cdef char *room
    cdef int code
    map.ready()
    room = <char *>malloc(map.value_room)
    if room == NULL:
        raise MemoryError()
    try:
        map.value_codec.encode(value, room)
        code = bpf.bpf_map_update_elem(map.descriptor(), NULL, room, flags)
    finally:
        free(room)
    if code < 0:
        fail(-code, "add to", map)
    return 0


cdef object take(Map map, object default, bint delete):
    cdef char *room
    cdef int code
    map.ready()
    room = <char *>malloc(map.value_room)
    if room == NULL:
        raise MemoryError()
    try:
        if delete:
            code = bpf.bpf_map_lookup_and_delete_elem(map.descriptor(), NULL, room)
        else:
            code = bpf.bpf_map_lookup_elem(map.descriptor(), NULL, room)
        if code == 0:
            return map.value_codec.decode(room)
    finally:
        free(room)
    if code != -ENOENT:
        fail(-code, "look up in", map)
    if default is ...:
        raise IndexError(f"{map} is empty")
    return default
