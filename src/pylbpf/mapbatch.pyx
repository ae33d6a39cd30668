# cython: nonecheck=False
"""Elements of a map in batches: to and from plain memory, without the GIL, by the kernel's rules.

The kernel's batch calls are the fast way. They take a count and give one back, which is not always to be believed; a
hash map is read bucket by bucket, and a bucket that does not fit is not read at all. Kinds of maps without such calls,
and older kernels, are served element by element, with the same results.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.exc cimport PyErr_CheckSignals
cimport cython
from libc.errno cimport EAGAIN, EBUSY, EINTR, EINVAL, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP, ETIMEDOUT
from libc.stdint cimport SIZE_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf, uapi
from .call cimport note_missing
from .definition cimport Definition, has_indexes, per_cpu
from .errors cimport fail
from .paths cimport number64_of

libbpf.pylbpf_on_missing = note_missing

cdef extern from "pylbpf/internal/mapbatch_distinct.h" nogil:
    size_t pylbpf_distinct_add(pylbpf_distinct *seen, char *keys, size_t key_size, char *values, size_t value_size,
            size_t known, size_t more)
    int pylbpf_distinct_has(const pylbpf_distinct *seen, const char *keys, size_t key_size, const char *key)
    void pylbpf_distinct_free(pylbpf_distinct *seen)

cdef extern from "<errno.h>" nogil:
    enum:
        EDEADLK

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MADV_HUGEPAGE
        MAP_SHARED
        PROT_READ

    void *MAP_FAILED
    int madvise(void *address, size_t length, int advice)
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    ENOTSUPP = 524          # the kernel's own: this kind of map has no such operation
    CHUNK_BYTES = 1 << 20   # read or written at once: a few milliseconds, between which signals are handled
    CHUNK = 1 << 17         # elements, likewise
    STRIDE = 1 << 13        # elements one by one
    HUGE_PAGE = 1 << 21
    RETRIES = 1000          # while somebody holds a bucket that we want
    ROUNDS = 8              # how often a walk may begin anew, about
    MMAPABLE = 1 << 10      # enum of map flags
    # enum bpf_map_type
    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    HASH_OF_MAPS = 13


cdef bint has_no_such(int code) noexcept nogil:
    """What the kernel says that lacks an operation: as a whole, or for this kind of map or these flags."""
    return code == -ENOTSUPP or code == -EOPNOTSUPP or code == -EINVAL


cdef bint counts(int code) noexcept nogil:
    """Whether a read that ended like this said how many elements it read; others leave the number that was given."""
    return code in (0, -ENOENT, -ENOSPC, -ENOMEM, -EBUSY, -EDEADLK, -ETIMEDOUT, -EAGAIN, -EINTR)


cdef int refuse(int code, str operation, object map) except -1:
    fail(EOPNOTSUPP if code == -ENOTSUPP else -code, operation, map)


cdef void advise(bytearray memory) noexcept:
    """Ask for huge pages: to fill memory for the first time is much of the work."""
    cdef size_t begin = (<size_t>PyByteArray_AS_STRING(memory) + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
    cdef size_t end = (<size_t>PyByteArray_AS_STRING(memory) + len(memory)) // HUGE_PAGE * HUGE_PAGE
    if begin < end:
        madvise(<void *>begin, end - begin, MADV_HUGEPAGE)


@cython.final
cdef class Batch:
    """A map's descriptor of its own, so that closing the map meanwhile does no harm, and one walk through the map.

    ``keys`` and ``values`` are what read() has read, ``count`` elements, also after an error. For one thread and one call.
    """

    def __cinit__(self, *_, **__):
        self.fd = -1

    def __init__(self, Definition map not None):
        cdef uapi.bpf_map_info info
        cdef uint32_t size = sizeof(info)
        cdef int code
        self.map = map
        self.fd = map.duplicate()
        memset(&info, 0, size)
        code = bpf.bpf_obj_get_info_by_fd(self.fd, &info, &size)
        if code < 0:
            fail(-code, "ask about", map)
        self.type = info.type
        self.max_entries = info.max_entries
        self.btf = info.btf_id
        self.key_type = info.btf_key_type_id
        self.value_type = info.btf_value_type_id
        self.key_size = info.key_size
        self.value_size = self.value_bytes = info.value_size
        if info.key_size == 0 and info.value_size == 0:     # rings, arenas
            raise TypeError(f"{map} has no keys and no values: it is of type {map.type.name}")
        if per_cpu(self.type):
            self.cpus = libbpf.libbpf_num_possible_cpus()
            if self.cpus < 0:
                fail(-self.cpus, "count", "possible CPUs")
            self.value_bytes = (self.value_size + 7) // 8 * 8 * self.cpus
        self.indexed = self.type in (ARRAY, PERCPU_ARRAY)
        self.bucketed = self.type in (HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH, HASH_OF_MAPS)
        self.repeats = self.key_size != 0 and not has_indexes(self.type)
        self.mapped = self.type == ARRAY and info.map_flags & MMAPABLE
        self.keys = bytearray()
        self.values = bytearray()
        # A token is a key, or 4 bytes.
        self.tokens = self.last = <char *>calloc(2, max(self.key_size, 4))
        if self.tokens == NULL:
            raise MemoryError()
        self.next = self.tokens + max(self.key_size, 4)

    def __dealloc__(self):
        if self.fd >= 0:
            close_fd(self.fd)
        free(self.tokens)
        pylbpf_distinct_free(&self.seen)

    # A walk through the map

    cdef void turn(self) noexcept nogil:
        self.last, self.next = self.next, self.last
        self.begun = True

    cdef int take(self, const void *key, void *value, bint pop, uint64_t flags) noexcept nogil:
        """Read one element; with `pop` take it out of the map."""
        cdef int code
        if not pop:
            return bpf.bpf_map_lookup_elem_flags(self.fd, key, value, flags)
        if not self.apart:
            code = bpf.bpf_map_lookup_and_delete_elem_flags(self.fd, key, value, flags)
            if not has_no_such(code) or self.key_size == 0:
                return code
            self.apart = True
        code = bpf.bpf_map_lookup_elem_flags(self.fd, key, value, flags)
        return code if code < 0 else bpf.bpf_map_delete_elem(self.fd, key)

    cdef int step_keyless(self, char *values, uint32_t *count, uint64_t flags) noexcept nogil:
        cdef uint32_t room = min(count[0], <uint32_t>STRIDE)
        cdef int code = 0
        count[0] = 0
        while count[0] < room:
            code = self.take(NULL, values + count[0] * self.value_bytes, True, flags)
            if code < 0:
                break
            count[0] += 1
        return code

    cdef int step_single(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil:
        """`next` is the key whose turn it is; the one after it is asked for before it can be deleted."""
        cdef uint32_t room = min(count[0], <uint32_t>STRIDE)
        cdef uint32_t looked = 0
        cdef int code, following
        count[0] = 0
        if self.ended:
            return -ENOENT
        if not self.begun:
            code = bpf.bpf_map_get_next_key(self.fd, NULL, self.next)
            if code < 0:
                return code
            self.begun = True
        while count[0] < room and looked < <uint32_t>STRIDE:
            following = bpf.bpf_map_get_next_key(self.fd, self.next, self.last)
            if following < 0 and following != -ENOENT:
                return following
            code = self.take(self.next, values + count[0] * self.value_bytes, pop, flags)
            if code == 0:
                memcpy(keys + count[0] * self.key_size, self.next, self.key_size)
                count[0] += 1
            elif code != -ENOENT:       # that is gone meanwhile, or an empty slot
                return code
            if following < 0:
                self.ended = True
                return -ENOENT
            self.turn()
            looked += 1
        return 0

    cdef int step_batch(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil:
        cdef bpf.bpf_map_batch_opts opts
        cdef uint32_t room = count[0]
        cdef void *begin
        cdef int code, tries = 0
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.elem_flags = flags
        while True:
            count[0] = room
            begin = self.last if self.begun else NULL
            if pop:
                code = bpf.bpf_map_lookup_and_delete_batch(self.fd, begin, self.next, keys, values, count, &opts)
            else:
                code = bpf.bpf_map_lookup_batch(self.fd, begin, self.next, keys, values, count, &opts)
            if not counts(code):
                count[0] = 0
                return code
            if count[0]:
                self.turn()
            if code == 0 or code == -ENOENT or code == -ENOSPC:
                return code
            # A bucket is locked by somebody who was interrupted, or there is no memory right now.
            if count[0]:
                return 0
            tries += 1
            if tries == RETRIES:
                return code
            sched_yield()

    cdef int step(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil:
        """Read the next elements, at most and then exactly `count`.

        0: there may be more. -ENOENT: these were the last. cramped(): too little room for what comes next, nothing was
        read. Anything else: an error, after `count` elements.
        """
        cdef uint32_t room = count[0]
        cdef int code
        if self.key_size == 0:
            return self.step_keyless(values, count, flags)
        if not self.single:
            code = self.step_batch(keys, values, count, pop, flags)
            if self.begun or not has_no_such(code):
                return code
            self.single = True
            count[0] = room
        return self.step_single(keys, values, count, pop, flags)

    cdef bint cramped(self, int code) noexcept:
        """Whether a bucket holds more than there was room for. From other kinds the same number is an error like any."""
        return code == -ENOSPC and self.bucketed and not self.single

    cdef size_t chunk(self) noexcept:
        """How many elements at once."""
        return max(1, min(<Py_ssize_t>CHUNK, <Py_ssize_t>CHUNK_BYTES // max(1, self.key_size + self.value_bytes)))

    cdef bint repeating(self, bint pop) noexcept:
        """Whether keys may come twice. A hash map is walked by bucket; taking an element out twice is no mistake."""
        return self.repeats and not pop and (self.single or not self.bucketed)

    cdef int drop_repeated(self, char *keys, char *values, size_t known, uint32_t *count) except -1:
        cdef size_t left
        with nogil:
            left = pylbpf_distinct_add(&self.seen, keys, self.key_size, values, self.value_bytes, known, count[0])
        if left == SIZE_MAX:
            raise MemoryError()
        count[0] = <uint32_t>(left - known)
        return 0

    # Into memory of our own, as much as is needed

    cdef int reserve(self, size_t room, bint keyed) except -1:
        """Make keys and values large enough for `room` elements."""
        if room >= <size_t>PY_SSIZE_T_MAX // <size_t>max(1, max(self.key_size, self.value_bytes)):
            raise MemoryError()
        PyByteArray_Resize(self.values, room * self.value_bytes)
        advise(self.values)
        if keyed:
            PyByteArray_Resize(self.keys, room * self.key_size)
            advise(self.keys)
        return 0

    def read(self, *, bint pop=False, limit=None, flags=0):
        """Read all elements into ``keys`` and ``values``; with ``pop`` take them out of the map, at most ``limit``.

        Arrays leave ``keys`` empty: they are in order. What was taken out is there also after an exception.
        """
        cdef uint64_t bits = number64_of(flags, "flags")
        try:
            self.gather(pop, SIZE_MAX if limit is None else min(limit, SIZE_MAX), bits)
        finally:
            PyByteArray_Resize(self.values, self.count * self.value_bytes)
            if len(self.keys):
                PyByteArray_Resize(self.keys, self.count * self.key_size)

    cdef int gather(self, bint pop, size_t most, uint64_t flags) except -1:
        cdef size_t chunk = self.chunk()
        cdef size_t room = self.max_entries if self.indexed else min(chunk, <size_t>self.max_entries + 1)
        cdef size_t left = <size_t>ROUNDS * self.max_entries + CHUNK
        cdef bint keyed = self.key_size != 0 and not self.indexed
        cdef bytearray scratch = None
        cdef char *keys
        cdef char *values
        cdef uint32_t asked, count
        cdef int code = 0
        if self.key_size == 0 and not pop:
            fail(EOPNOTSUPP, "read without popping", self.map)
        room = min(room, most)
        self.reserve(room, keyed)
        if (self.mapped and not pop and not flags and room == <size_t>self.max_entries
                and self.read_mapped(PyByteArray_AS_STRING(self.values))):
            return 0
        if self.indexed:
            scratch = bytearray(min(chunk, room) * self.key_size)
        while <size_t>self.count < most:
            if <size_t>self.count == room:
                if self.indexed:
                    return 0
                # Twice as much, but not more than the map is said to hold: that can be a lot, and empty.
                room = min(most, max(room + chunk, min(2 * room, <size_t>self.max_entries + 1)))
                self.reserve(room, keyed)
            asked = count = <uint32_t>min(chunk, room - self.count)
            values = PyByteArray_AS_STRING(self.values) + self.count * self.value_bytes
            if self.indexed:
                keys = PyByteArray_AS_STRING(scratch)
            else:
                keys = PyByteArray_AS_STRING(self.keys) + self.count * self.key_size
            with nogil:
                code = self.step(keys, values, &count, pop, flags)
            left -= min(left, max(count, 1))
            if count and self.repeating(pop):
                self.drop_repeated(PyByteArray_AS_STRING(self.keys), PyByteArray_AS_STRING(self.values), self.count,
                                   &count)
            self.count += count
            if code == -ENOENT:
                return 0
            if self.cramped(code):
                if room == most:        # `limit` ends within the next bucket
                    self.single, self.begun = True, False
                    continue
                if asked == chunk:
                    chunk *= 2
                room = max(room, min(most, self.count + chunk))
                self.reserve(room, keyed)
            elif code < 0:
                refuse(code, "read", self.map)
            # A queue may be filled as fast as we empty it, and a walk may begin anew again and again.
            if pop and (self.single or self.key_size == 0) and <size_t>self.count >= self.max_entries:
                return 0
            if left == 0 and self.repeating(pop):
                refuse(-EBUSY, "read, because it changes too fast,", self.map)
            PyErr_CheckSignals()
        return 0

    def read_some(self, size_t most=SIZE_MAX):
        """Read the next elements, into new ``keys`` and ``values``; False at the end.

        Some thousands, or ``most`` if a bucket of a hash map has no more.
        """
        cdef size_t chunk = max(<size_t>self.room, min(most, self.chunk(), <size_t>self.max_entries + 1))
        cdef char *keys
        cdef char *values
        cdef uint32_t count = 0
        cdef int code = 0
        self.count = 0
        while not count and not self.ended:
            self.keys, self.values = bytearray(), bytearray()
            self.reserve(chunk, True)
            count = <uint32_t>chunk
            keys = PyByteArray_AS_STRING(self.keys)
            values = PyByteArray_AS_STRING(self.values)
            with nogil:
                code = self.step(keys, values, &count, False, 0)
            if self.cramped(code):
                chunk *= 2
                self.room = chunk
            elif code == -ENOENT:
                self.ended = True
            elif code < 0:
                refuse(code, "read", self.map)
            PyErr_CheckSignals()
        self.count = count
        return count != 0

    cdef bint read_mapped(self, char *values) except -1:
        """Copy an array out of its own memory, if that can be mapped."""
        cdef size_t stride = (self.value_size + 7) // 8 * 8
        cdef char *memory
        cdef size_t at
        memory = <char *>mmap(NULL, stride * self.max_entries, PROT_READ, MAP_SHARED, self.fd, 0)
        if memory == <char *>MAP_FAILED:
            return False
        with nogil:
            if stride == <size_t>self.value_size:
                memcpy(values, memory, stride * self.max_entries)
            else:
                for at in range(self.max_entries):
                    memcpy(values + at * self.value_size, memory + at * stride, self.value_size)
            munmap(memory, stride * self.max_entries)
        self.count = self.max_entries
        return True

    # Into memory of the caller's

    def read_into(self, keys, values, *, flags=0):
        """Read all elements into two writable buffers and return their number; ValueError if they are too small.

        For arrays ``keys`` may be None. Elements may have been written also when it raises.
        """
        cdef uint64_t bits = number64_of(flags, "flags")
        cdef Py_buffer key_buffer
        cdef Py_buffer value_buffer
        cdef bint keyed = keys is not None
        cdef size_t room
        if not keyed and not self.indexed:
            raise TypeError(f"{self.map} needs an array for its keys")
        PyObject_GetBuffer(values, &value_buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if keyed:
                PyObject_GetBuffer(keys, &key_buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
            try:
                room = value_buffer.len // max(1, self.value_bytes)
                if keyed:
                    room = min(room, <size_t>(key_buffer.len // max(1, self.key_size)))
                self.fill(<char *>key_buffer.buf if keyed else NULL, <char *>value_buffer.buf, room, bits)
                return self.count
            finally:
                if keyed:
                    PyBuffer_Release(&key_buffer)
        finally:
            PyBuffer_Release(&value_buffer)

    cdef int too_small(self, size_t room) except -1:
        raise ValueError(f"{self.map} has more than the {room} entries that there is room for")

    cdef int fill(self, char *keys, char *values, size_t room, uint64_t flags) except -1:
        cdef size_t chunk = self.chunk()
        cdef size_t left = <size_t>ROUNDS * self.max_entries + CHUNK
        cdef bint probing = False
        cdef bytearray key_scratch, value_scratch
        cdef char *to_keys
        cdef char *to_values
        cdef uint32_t count
        cdef int code
        if self.key_size == 0:
            fail(EOPNOTSUPP, "read without popping", self.map)
        if self.indexed and room < self.max_entries:
            self.too_small(room)
        if self.mapped and keys == NULL and not flags and self.read_mapped(values):
            return 0
        # For keys that nobody wants, and to see whether there is more than fits.
        key_scratch = bytearray(chunk * self.key_size)
        value_scratch = bytearray(self.value_bytes)
        while True:
            probing = <size_t>self.count == room
            count = 1 if probing else <uint32_t>min(chunk, room - self.count)
            to_keys = PyByteArray_AS_STRING(key_scratch)
            to_values = PyByteArray_AS_STRING(value_scratch)
            if not probing:
                to_values = values + self.count * self.value_bytes
                if keys != NULL:
                    to_keys = keys + self.count * self.key_size
            with nogil:
                code = self.step(to_keys, to_values, &count, False, flags)
            left -= min(left, max(count, 1))
            if count and not probing and self.repeating(False):
                self.drop_repeated(keys, values, self.count, &count)
            if probing and count and self.repeating(False) and pylbpf_distinct_has(&self.seen, keys, self.key_size, to_keys):
                count = 0           # the walk has begun anew
            if probing and (count or self.cramped(code)):
                self.too_small(room)
            self.count += count
            if code == -ENOENT:
                return 0
            if self.cramped(code):
                if <size_t>self.count + chunk >= room:
                    self.too_small(room)
                chunk *= 2
            elif code < 0:
                refuse(code, "read", self.map)
            if left == 0 and self.repeating(False):
                refuse(-EBUSY, "read, because it changes too fast,", self.map)
            PyErr_CheckSignals()
