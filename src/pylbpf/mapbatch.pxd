"""A map's elements in batches: the descriptor, what the kernel says of the map, and a walk through it."""
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "pylbpf/internal/mapbatch_distinct.h" nogil:
    struct pylbpf_distinct:
        pass


cdef class Batch:
    cdef int fd
    cdef readonly object map                    # for messages
    cdef readonly int type
    cdef readonly unsigned int max_entries
    cdef readonly unsigned int btf, key_type, value_type    # the types in the kernel: their number, and in them; 0: none
    cdef readonly Py_ssize_t key_size
    cdef readonly Py_ssize_t value_size         # bytes of a value, on one CPU
    cdef readonly Py_ssize_t value_bytes        # and of all its parts
    cdef readonly int cpus                      # how many parts a value has; 0 if it is not per CPU
    cdef readonly bint indexed                  # an array: each key up to max_entries is there, in order, for ever
    cdef readonly bint bucketed                 # a hash map: walked by bucket, not from key to key
    cdef readonly bytearray keys, values
    cdef readonly Py_ssize_t count
    # The walk: where the last call ended, and where the next one will.
    cdef char *tokens
    cdef char *last
    cdef char *next
    cdef bint begun, ended
    cdef size_t room                            # what a bucket has wanted
    cdef readonly bint single                   # element by element
    cdef bint apart                             # ... and to take one out is to read it, then to delete it
    cdef bint repeats                           # a key may come again: the walk begins anew if the key it is at is gone
    cdef bint mapped                            # an array that can be mapped
    cdef pylbpf_distinct seen

    cdef void turn(self) noexcept nogil
    cdef int take(self, const void *key, void *value, bint pop, uint64_t flags) noexcept nogil
    cdef int step_keyless(self, char *values, uint32_t *count, uint64_t flags) noexcept nogil
    cdef int step_single(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil
    cdef int step_batch(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil
    cdef int step(self, char *keys, char *values, uint32_t *count, bint pop, uint64_t flags) noexcept nogil
    cdef bint cramped(self, int code) noexcept
    cdef size_t chunk(self) noexcept
    cdef bint repeating(self, bint pop) noexcept
    cdef int drop_repeated(self, char *keys, char *values, size_t known, uint32_t *count) except -1
    cdef int reserve(self, size_t room, bint keyed) except -1
    cdef int gather(self, bint pop, size_t most, uint64_t flags) except -1
    cdef int fill(self, char *keys, char *values, size_t room, uint64_t flags) except -1
    cdef int too_small(self, size_t room) except -1
    cdef bint read_mapped(self, char *values) except -1


# What the kernel says that lacks an operation: as a whole, or for this kind of map or these flags.
cdef bint has_no_such(int code) noexcept nogil
# Raise what a negative result of the kernel means.
cdef int refuse(int code, str operation, object map) except -1
