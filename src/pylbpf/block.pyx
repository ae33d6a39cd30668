"""Memory for a batch of records, which a buffer shows: numpy arrays lie over it without copying."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **block, size_t alignment, size_t size)

cdef enum:
    ALIGNMENT = 64
    SMALL = 1 << 16             # so much may be wasted


@cython.final
@cython.no_gc
cdef class Pool:
    def __init__(self):
        raise TypeError("pools are made by ring buffers")

    def __dealloc__(self):
        free(self.spare)

    cdef Block take(self, size_t size):
        """Return a block of at least `size` bytes, with anything in them."""
        cdef Block block = Block.__new__(Block)
        cdef void *start = NULL
        if self.spare != NULL and size <= self.spare_size <= 4 * size + SMALL:
            block.data = self.spare
            block.size = self.spare_size
            self.spare = NULL
        else:
            if posix_memalign(&start, ALIGNMENT, size if size else 1) != 0:
                raise MemoryError(f"no memory for {size} bytes of records")
            block.data = <char *>start
            block.size = size
        block.length = size
        block.pool = self
        return block


@cython.final
@cython.no_gc
cdef class Block:
    def __init__(self):
        raise TypeError("blocks are made by ring buffers")

    def __dealloc__(self):
        if self.data != NULL:
            free(self.pool.spare)
            self.pool.spare = self.data
            self.pool.spare_size = self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.length, self.readonly, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass
