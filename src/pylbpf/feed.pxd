"""Where records come from."""
from libc.stdint cimport uint32_t

cdef extern from "ring_memory.h" nogil:
    struct ring_record:
        const char *data
        uint32_t size


cdef enum Stop:
    ENDED, FULL, MISFIT


cdef class Feed:
    cdef readonly object map    # Map or descriptor

    # Bytes that wait, with headers, and how many of them one record of so many takes.
    cdef size_t waiting(self) noexcept
    cdef size_t taken(self, size_t size) noexcept
    # Whether a record waits, asked last before going to sleep.
    cdef bint waits(self) noexcept nogil
    # The next record, if there is one, which stays; and it taken.
    cdef bint first(self, ring_record *record) noexcept
    cdef void skip(self) noexcept nogil
    # Let iteration go on up to what is there now.
    cdef void mark(self) noexcept
    # Copy records of one size, as they wait; return how many, and why no more.
    cdef size_t copy_structs(self, char *out, size_t size, size_t room, Stop *stop) noexcept nogil
    # Copy records of any size one behind the other, from `used` on; `ends` of each; return how many.
    cdef size_t copy_any(self, char *out, size_t used, size_t room, int *ends, size_t slots, Stop *stop) noexcept nogil
