"""Memory for a batch of records."""


cdef class Pool:
    # What the last batch gave back, for the next one: new memory costs more than the records that go into it.
    cdef char *spare
    cdef size_t spare_size

    cdef Block take(self, size_t size)


cdef class Block:
    cdef char *data
    cdef size_t size            # of the memory
    cdef Py_ssize_t length      # of what it holds, as the buffer shows it
    cdef Pool pool
    cdef bint readonly          # for those who get the buffer
