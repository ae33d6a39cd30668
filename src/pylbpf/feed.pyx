"""Where records come from: the memory of a ring buffer map, or of one CPU's perf buffer.

What copies many records, and what makes one a Python object, does not care which of the two it is.
"""
from libc.errno cimport errno
from libc.stdlib cimport realloc
from libc.string cimport memcpy
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

cdef extern from "<sys/mman.h>" nogil:
    void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
    int mprotect(void *start, size_t length, int protection)
    int MREMAP_MAYMOVE
    int MREMAP_FIXED


cdef class Feed:
    def __init__(self):
        raise TypeError("feeds belong to ring buffers and perf buffers")

    def __str__(self):
        return str(self.map)

    cdef size_t waiting(self) noexcept:
        return 0

    cdef size_t taken(self, size_t size) noexcept:
        return size

    cdef bint waits(self) noexcept nogil:
        return False

    cdef bint first(self, ring_record *record) noexcept:
        return False

    cdef void skip(self) noexcept nogil:
        pass

    cdef void mark(self) noexcept:
        pass

    cdef size_t copy_structs(self, char *out, size_t size, size_t room, Stop *stop) noexcept nogil:
        stop[0] = ENDED
        return 0

    cdef size_t copy_any(self, char *out, size_t used, size_t room, int *ends, size_t slots, Stop *stop) noexcept nogil:
        stop[0] = ENDED
        return 0

    cdef object lend(self, Loan *loan, size_t size, size_t limit):
        loan.count = 0

    cdef int keep(self, object memory, Loan *loan) except -1:
        return 0

    cdef void commit(self, Loan *loan) noexcept:
        pass

    cdef void give_back(self, object memory) noexcept:
        pass


cdef bint note(Loan *loan, size_t offset, size_t size) noexcept nogil:
    cdef size_t slots
    cdef void *grown
    if loan.count == loan.slots:
        slots = 2 * loan.slots + 64
        grown = realloc(loan.offsets, slots * sizeof(int))
        if grown == NULL:
            return False
        loan.offsets = <unsigned int *>grown
        grown = realloc(loan.sizes, slots * sizeof(int))
        if grown == NULL:
            return False
        loan.sizes = <unsigned int *>grown
        loan.slots = slots
    loan.offsets[loan.count] = <unsigned int>offset
    loan.sizes[loan.count] = <unsigned int>size
    loan.count += 1
    return True


cdef int replace_pages(char *pages, size_t length, size_t at, size_t size) noexcept nogil:
    cdef char *copy = <char *>mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    cdef int code
    if copy == MAP_FAILED:
        return errno
    memcpy(copy + at, pages + at, size)
    mprotect(copy, length, PROT_READ)
    # Atomic: another thread that looks at a view right now sees one or the other.
    if mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, pages) == MAP_FAILED:
        code = errno
        munmap(copy, length)
        return code
    return 0
