"""The memory of one CPU's perf buffer."""
from libc.stdint cimport uint32_t, uint64_t

from .block cimport Pool
from .c cimport libbpf
from .record cimport RecordType, StructType
from .recordbatch cimport RecordBatch
from .ring cimport ring_record

cdef extern from "perf_memory.h" nogil:
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


cdef class PerfRing:
    cdef perf_memory memory
    cdef int fd                 # of the event; libbpf's
    cdef int cpu
    cdef uint64_t seen          # by an iterator: what lies behind is for its next round

    cdef int map(self, libbpf.perf_buffer *buffer, int index, char *scratch) except -1


# Cut off what the kernel has filled up with.
cdef void fit(RecordType type, ring_record *record) noexcept
# Up to `limit` records of `rings`, in their order.
cdef object read_structs(list rings, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool)
cdef RecordBatch read_any(list rings, RecordType type, bint raw, size_t limit, size_t limit_bytes, object into, Pool pool)
