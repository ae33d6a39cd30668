"""Where records come from."""
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "pylbpf/internal/ring_memory.h" nogil:
    struct ring_record:
        const char *data
        uint32_t size


cdef enum Stop:
    ENDED, FULL, MISFIT


# Records in place, and what is consumed with them when they are given back.
cdef struct Loan:
    const char *start           # of the first, its header
    size_t length               # bytes from there on
    size_t header, stride       # of typed records: in front of each, and how far apart
    unsigned int *offsets       # of others: where they are, from `start`
    unsigned int *sizes
    size_t slots
    size_t count
    uint64_t begin, position    # in the feed: of the first, and behind the last
    uint64_t records, bytes, skipped, lost


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
    # Show records where they are, of one size or, if that is 0, of any: they lie in one piece. What is returned keeps their
    # memory. Nothing of the feed may be read before they are given back.
    cdef object lend(self, Loan *loan, size_t size, size_t limit)
    # Let those who look at them go on seeing them as they are.
    cdef int keep(self, object memory, Loan *loan) except -1
    # Consume them.
    cdef void commit(self, Loan *loan) noexcept
    # Nobody looks any more at memory in which they were kept.
    cdef void give_back(self, object memory) noexcept


# Where the next record of any size is; false if there is no memory to note that.
cdef bint note(Loan *loan, size_t offset, size_t size) noexcept nogil

# Put a copy of mapped pages in their place, of which only `size` bytes at `at` are needed; return 0 or an error number, and
# nothing has changed.
cdef int replace_pages(char *pages, size_t length, size_t at, size_t size) noexcept nogil
