"""The memory of one ring buffer map."""
from libc.stdint cimport uint32_t, uint64_t

from .feed cimport Feed, Loan, Stop, ring_record

cdef extern from "pylbpf/internal/ring_memory.h" nogil:
    struct ring_memory:
        unsigned long *consumer
        const unsigned long *producer
        const char *data
        unsigned long size
        uint64_t records
        uint64_t bytes
        uint64_t discarded
    struct ring_walk:
        unsigned long position
        unsigned long end
        uint64_t records
        uint64_t bytes
        uint64_t discarded
    void ring_begin(const ring_memory *ring, ring_walk *walk)
    unsigned long ring_rounded(uint32_t size)
    bint ring_look(const ring_memory *ring, ring_walk *walk, ring_record *record)
    void ring_step(ring_walk *walk, const ring_record *record)
    size_t ring_run(const ring_memory *ring, const ring_walk *walk, uint32_t size, size_t most)
    void ring_steps(ring_walk *walk, uint32_t size, size_t count)
    void ring_commit(ring_memory *ring, ring_walk *walk)
    bint ring_waits(ring_memory *ring)


cdef class Mapping:
    # The pages of producer and data. Whoever looks at records in place keeps it.
    cdef char *start
    cdef size_t length
    cdef size_t kept, kept_length   # what is a copy now, in bytes from the start
    cdef int pieces                 # into which it was cut that way


cdef class Ring(Feed):
    cdef ring_memory memory
    cdef Mapping mapping, spare
    cdef int fd                 # our own duplicate
    cdef unsigned long seen     # up to where iteration has found the ring filled

    cdef int close(self) except -1
    cdef void unmap(self) noexcept
    cdef void use(self, Mapping mapping) noexcept
    cdef Mapping new_mapping(self)
    cdef bint find(self, Loan *loan, size_t size, size_t limit) noexcept nogil


cdef Ring open_ring(object map)
