"""Records of several types in one ring."""
from libc.stdint cimport int64_t

from .block cimport Pool
from .feed cimport Feed, ring_record
from .record cimport RecordType
from .recordbatch cimport RecordBatch


cdef struct Choice:
    int64_t tag
    int size                    # of all its records, 0 if they differ


cdef class TaggedType(RecordType):
    cdef dict types             # tag -> RecordType, in the order of `choices`
    cdef RecordType others      # of a tag that is not in it, or None
    cdef Choice *choices
    cdef int count              # of them
    cdef int offset, size       # of the tag
    cdef bint signed
    cdef str tag

    cdef RecordType choose(self, Feed feed, const ring_record *record)
    cdef bint read_tag(self, const char *record, size_t size, int64_t *tag) noexcept nogil
    cdef void classify(self, const char *start, const int *ends, Py_ssize_t count, int *chosen, size_t *counts,
                       size_t *sizes) noexcept nogil


cdef TaggedType tagged_type(object types, object tag, bint tail)
# {tag: array or batch}, with what is of no type under None.
cdef dict split(RecordBatch batch, TaggedType type, Pool pool)
