"""Many records, copied out of the ring at once."""
from .block cimport Block, Pool
from .feed cimport Feed
from .record cimport RecordType, StructType


cdef class RecordBatch:
    cdef object memory          # a Block, or what the caller gave
    cdef const char *start
    cdef Block offsets_block
    cdef const int *ends        # of each record, after a first 0
    cdef Py_ssize_t count
    cdef RecordType type

    cdef object at(self, Py_ssize_t index)


# Up to `limit` records of `feeds`, in their order.
cdef object read_structs(list feeds, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool)
cdef RecordBatch read_any(list feeds, RecordType type, size_t limit, size_t limit_bytes, object into, Pool pool)
# A batch for `count` records of `bytes` bytes, to be filled at start and ends.
cdef RecordBatch empty_batch(RecordType type, size_t bytes, size_t count, Pool pool)
# RecordError, with the record taken, if the next one is not of the type.
cdef int raise_misfit(Feed feed, StructType type) except -1
