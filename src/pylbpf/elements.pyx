"""The elements of a map as bytes, one at a time."""
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport E2BIG, ENOENT, EOPNOTSUPP
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf
from .call cimport note_missing
from .definition cimport Definition, has_indexes
from .errors cimport fail
from .paths cimport get_buffer, number64_of

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    ENOTSUPP = 524          # the kernel's own: this kind of map has no such operation
    # enum bpf_map_type
    PROG_ARRAY = 3
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    STRUCT_OPS = 26


cdef bint sleeps(int type) noexcept nogil:
    """Whether changing an element waits for a grace period in the kernel."""
    return type == PROG_ARRAY or type == ARRAY_OF_MAPS or type == HASH_OF_MAPS or type == STRUCT_OPS


cdef int get_bytes(object source, Py_buffer *buffer, Py_ssize_t size, str what, Elements map) except -1:
    """Lock a bytes-like object of exactly this size until PyBuffer_Release()."""
    cdef Py_ssize_t length
    get_buffer(source, buffer, False, f"the {what}")
    length = buffer.len
    if length != size:
        PyBuffer_Release(buffer)
        raise ValueError(f"a {what} of {map} has {size} bytes, not {length}")
    return 0


cdef int refuse(int code, str operation, Elements map) except -1:
    fail(EOPNOTSUPP if code == -ENOTSUPP else -code, operation, map)


cdef class Elements(Definition):
    """The part of Map that reads and writes elements as bytes, named as libbpf names it."""

    cdef object fetch(self, object key, unsigned long long flags, bint delete):
        cdef Py_buffer buffer
        self.descriptor()                   # from when the map is there its sizes stay
        cdef Py_ssize_t key_size = self.key_bytes()
        cdef bint keyed = key is not None or key_size != 0
        cdef const void *key_ptr = NULL
        cdef bytes value
        cdef void *value_ptr
        cdef int fd, code
        if keyed:
            get_bytes(key, &buffer, key_size, "key", self)
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
        refuse(code, "look up in", self)

    def lookup(self, key=None, *, flags=0):
        """Return the value of a key as bytes, or None if there is none.

        Queues, stacks and bloom filters take no key. ``flags``: UpdateFlags.LOCK. Source: bpf_map_lookup_elem_flags().
        """
        return self.fetch(key, number64_of(flags, "flags"), False)

    def lookup_and_delete(self, key=None, *, flags=0):
        """Return the value of a key as bytes and delete it, or return None; pops queues and stacks.

        Minimum kernel 4.20 for these, 5.14 for hash maps. Source: bpf_map_lookup_and_delete_elem_flags().
        """
        return self.fetch(key, number64_of(flags, "flags"), True)

    def update(self, key, value, *, flags=0):
        """Set the value of a key, both bytes-like; the key is None for queues, stacks and bloom filters.

        ``flags``: UpdateFlags.NOEXIST (FileExistsError if there is one), EXIST (KeyError if there is none), LOCK.
        Source: bpf_map_update_elem().
        """
        cdef Py_buffer key_buffer
        cdef Py_buffer value_buffer
        self.descriptor()                   # from when the map is there its sizes stay
        cdef Py_ssize_t key_size = self.key_bytes()
        cdef Py_ssize_t value_size = self.value_bytes()
        cdef bint keyed = key is not None or key_size != 0
        cdef bint valued = False
        cdef unsigned long long bits = number64_of(flags, "flags")
        cdef const void *key_ptr = NULL
        cdef int fd, code
        if keyed:
            get_bytes(key, &key_buffer, key_size, "key", self)
            key_ptr = key_buffer.buf
        try:
            get_bytes(value, &value_buffer, value_size, "value", self)
            valued = True
            # After the last code of the user's, which may have closed the object.
            if sleeps(self.kind()):
                fd = self.duplicate()       # the map's own may be closed by another thread meanwhile
                with nogil:
                    code = bpf.bpf_map_update_elem(fd, key_ptr, value_buffer.buf, bits)
                    close_fd(fd)
            else:
                fd = self.descriptor()
                code = bpf.bpf_map_update_elem(fd, key_ptr, value_buffer.buf, bits)
        finally:
            if valued:
                PyBuffer_Release(&value_buffer)
            if keyed:
                PyBuffer_Release(&key_buffer)
        if keyed and (code == -ENOENT or code == -E2BIG and has_indexes(self.kind())):
            raise KeyError(bytes(key))
        if code < 0:
            refuse(code, "update", self)

    def delete(self, key, *, flags=0):
        """Delete a key; KeyError if it is not there. Source: bpf_map_delete_elem_flags()."""
        cdef Py_buffer buffer
        cdef unsigned long long bits = number64_of(flags, "flags")
        cdef int fd, code
        self.descriptor()
        get_bytes(key, &buffer, self.key_bytes(), "key", self)
        try:
            if sleeps(self.kind()):
                fd = self.duplicate()
                with nogil:
                    code = bpf.bpf_map_delete_elem_flags(fd, buffer.buf, bits)
                    close_fd(fd)
            else:
                fd = self.descriptor()
                code = bpf.bpf_map_delete_elem_flags(fd, buffer.buf, bits)
        finally:
            PyBuffer_Release(&buffer)
        if code == -ENOENT or code == -E2BIG and has_indexes(self.kind()):
            raise KeyError(bytes(key))
        if code < 0:
            refuse(code, "delete from", self)

    def next_key(self, key=None):
        """Return the key after this one as bytes, the first for None, or None at the end.

        If the key is gone the kernel starts again from the first. Source: bpf_map_get_next_key().
        """
        self.descriptor()
        cdef Py_ssize_t size = self.key_bytes()
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
        refuse(code, "walk", self)

    def keys(self):
        """Iterate over the keys as bytes.

        The walk is over max_entries keys at most: deleting while walking makes the kernel start again, and keys may
        then come twice.
        """
        cdef Py_ssize_t left = self.entries()
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
