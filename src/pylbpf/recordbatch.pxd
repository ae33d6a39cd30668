"""Many records, copied out of the ring at once."""
from .block cimport Block, Pool
from .record cimport RecordType, StructType
from .ring cimport Ring, ring_memory


cdef enum Stop:
    ENDED, FULL, MISFIT


cdef class RecordBatch:
    cdef object memory          # a Block, or what the caller gave
    cdef const char *start
    cdef Block offsets_block
    cdef const int *ends        # of each record, after a first 0
    cdef Py_ssize_t count
    cdef RecordType type

    cdef object at(self, Py_ssize_t index)


# Copy records of one size, as they wait; return how many, and why no more.
cdef size_t copy_structs(ring_memory *ring, char *out, size_t size, size_t room, Stop *stop) noexcept nogil
# Up to `limit` records of `rings`, in their order.
cdef object read_structs(list rings, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool)
cdef RecordBatch read_any(list rings, RecordType type, size_t limit, size_t limit_bytes, object into, Pool pool)
# A batch for `count` records of `bytes` bytes, to be filled at start and ends.
cdef RecordBatch empty_batch(RecordType type, size_t bytes, size_t count, Pool pool)
# RecordError, with the record taken, if the next one is not of the type.
cdef int raise_misfit(Ring ring, StructType type) except -1
