"""Ring buffers, for the rooms that read them in other ways."""
from .reader cimport Reader


cdef class RingBuffer(Reader):
    cdef list sources           # Source, one for each map; their rings are the feeds

    cdef void free_all(self) noexcept
