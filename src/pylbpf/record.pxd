"""From the bytes of a record to what Python sees."""
from .feed cimport Feed, ring_record


cdef class Arena:
    # Copies of records share memory, and are freed when the last of them is dropped.
    cdef char *data
    cdef size_t used, size


cdef class RecordType:
    # Of any size: bytes.
    cdef object make(self, Feed feed, const ring_record *record)
    # The same in the memory of the last one, if nobody has kept that.
    cdef object remake(self, object before, Feed feed, const ring_record *record)


cdef class StructType(RecordType)


cdef class Record:
    cdef StructType type
    cdef Arena arena
    cdef const char *data
    cdef Py_ssize_t size

    cdef StructType structure(self)


cdef class StructType(RecordType):
    cdef readonly object dtype
    cdef readonly str name
    cdef dict fields            # name -> Field
    cdef dict attributes        # those that are no attributes of every Record
    cdef readonly Py_ssize_t size
    cdef bint tail              # records may be longer
    cdef Arena arena

    cdef bint fits(self, size_t size) noexcept nogil
    cdef object wrong(self, Feed feed, const ring_record *record)
    cdef object copy(self, const ring_record *record)


cdef object numpy()
cdef RecordType record_type(object type, bint tail)
# Whether all records have the size of the type.
cdef bint plain(RecordType type)
cdef str prefix(Feed feed)
