"""The memory of one CPU's perf buffer."""
from libc.stdint cimport uint32_t, uint64_t

from .c cimport libbpf
from .block cimport Pool
from .dispatch cimport TaggedType
from .feed cimport Feed, Loan, ring_record
from .record cimport RecordType
from .spans cimport Span

cdef extern from "pylbpf/internal/perf_memory.h" nogil:
    enum perf_kind:
        PERF_SAMPLE, PERF_LOST, PERF_OTHER
    struct header "perf_event_header":
        uint32_t type
        unsigned short misc
        unsigned short size
    struct metadata "perf_event_mmap_page":
        uint64_t data_offset
    struct perf_memory:
        metadata *page
        const char *data
        uint64_t size
        char *scratch
        uint64_t records
        uint64_t bytes
        uint64_t lost
        uint64_t others
    struct perf_walk:
        uint64_t position
        uint64_t end
        uint64_t records
        uint64_t bytes
        uint64_t lost
        uint64_t others
    struct perf_event:
        perf_kind kind
        const header *header
        const char *data
        uint32_t size
        uint64_t lost
    void perf_begin(const perf_memory *memory, perf_walk *walk)
    bint perf_waits(const perf_memory *memory)
    bint perf_look(const perf_memory *memory, perf_walk *walk, bint raw, perf_event *event)
    void perf_step(perf_walk *walk, const perf_event *event)
    void perf_commit(perf_memory *memory, perf_walk *walk)


cdef class PerfMapping:
    # The memory of a perf buffer once more, for whoever looks at records in place, and keeps it.
    cdef Span span


cdef class PerfRing(Feed):
    cdef perf_memory memory
    cdef int fd                 # of the event; libbpf's
    cdef int cpu
    cdef RecordType type
    cdef TaggedType tagged      # the same, if it is one
    cdef bint raw               # events with their headers
    cdef PerfMapping lent       # where records are shown
    cdef Pool pool              # for those that are in two pieces
    cdef uint64_t seen          # by an iterator: what lies behind is for its next round

    cdef int map_memory(self, libbpf.perf_buffer *buffer, int index, char *scratch) except -1
    cdef PerfMapping new_mapping(self)
    cdef bint find(self, Loan *loan, size_t size, size_t limit) noexcept nogil
    # Cut off what the kernel has filled up with.
    cdef void fit(self, ring_record *record) noexcept
    # What Python sees of an event: in the memory of the last one, if nobody has kept that.
    cdef object make(self, object before, const perf_event *event)
