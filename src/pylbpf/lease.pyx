"""Records in place: seen where the kernel wrote them, and given back all at once."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free, realloc

from .feed cimport ring_record
from .handle cimport fork_generation
from .ndarray cimport array_over
from .reader cimport Reader
from .record cimport StructType, numpy
from .ring cimport (
    Mapping, Ring, ring_begin, ring_commit, ring_look, ring_rounded, ring_run, ring_step, ring_steps, ring_walk,
)

cdef enum:
    HEADER = 8


cdef Py_ssize_t look_run(Ring ring, size_t size, size_t limit, ring_walk *walk, unsigned long *begin) noexcept nogil:
    """Walk over records of one size with none discarded between them; return how many."""
    cdef ring_record record
    cdef size_t count
    ring_begin(&ring.memory, walk)
    if not ring_look(&ring.memory, walk, &record) or record.size != size:
        return 0
    begin[0] = walk.position
    count = ring_run(&ring.memory, walk, <unsigned int>size, limit)
    ring_steps(walk, <unsigned int>size, count)
    return count


@cython.final
@cython.no_gc_clear
cdef class Lease:
    """Records of one ring where the kernel wrote them, read-only, for the length of a ``with`` block.

    At its end, or when it is dropped, all of them are consumed, and their room is the producers' again. What is asked of the batch afterwards is
    a ValueError. An array or memoryview of it that lives longer stays as it was: it gets a copy at that moment, which
    costs about what read_batch() does. So drop it, or do without a name for it, where speed counts.

    A typed batch has ``array``, a structured array over the ring itself, and ends where a record was discarded or has
    another size, so that one array can show it. Any batch is a sequence of memoryviews.
    """

    def __init__(self):
        raise TypeError("records are borrowed by RingBuffer.borrow()")

    def __dealloc__(self):
        if self.active:         # dropped without an end of its block; nobody looks any more, for views keep it
            self.owner.loan = NULL
            if self.owner.generation == fork_generation():
                ring_commit(&self.ring.memory, &self.walk)
        free(self.offsets)
        free(self.sizes)

    def __enter__(self):
        if self.owner is None or self.active:
            raise ValueError("records are borrowed once: call borrow() again")
        self.owner._lend(self)
        return self

    def __exit__(self, *_):
        self.release()

    def __repr__(self):
        return f"<Lease: {self.count} records>" if self.active else "<Lease: released>"

    def __len__(self):
        self.check()
        return self.count

    cdef int check(self) except -1:
        if not self.active:
            raise ValueError("the records were given back")
        return 0

    cdef int look(self, Ring ring, StructType type) except -1:
        """Take hold of the records that wait."""
        cdef bint found
        self.count = 0
        self.ring = ring
        self.type = type
        if type is not None:
            with nogil:
                self.count = look_run(ring, type.size, self.limit, &self.walk, &self.begin)
            self.stride = ring_rounded(<unsigned int>type.size)
        else:
            with nogil:
                found = self.look_any(ring)
            if not found:
                raise MemoryError()
        if self.count == 0:
            return 0
        self.mapping = ring.mapping
        self.start = ring.memory.data + (self.begin & (ring.memory.size - 1))
        return 0

    cdef bint look_any(self, Ring ring) noexcept nogil:
        """Walk over records of any size and note where they are; false if there is no memory for that."""
        cdef ring_record record
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t slots
        cdef void *grown
        ring_begin(&ring.memory, &self.walk)
        while <size_t>count < self.limit and ring_look(&ring.memory, &self.walk, &record):
            if count == 0:
                self.begin = self.walk.position
            if count == self.slots:
                slots = 2 * self.slots + 64
                grown = realloc(self.offsets, slots * sizeof(int))
                if grown == NULL:
                    return False
                self.offsets = <unsigned int *>grown
                grown = realloc(self.sizes, slots * sizeof(int))
                if grown == NULL:
                    return False
                self.sizes = <unsigned int *>grown
                self.slots = slots
            self.offsets[count] = <unsigned int>(self.walk.position - self.begin)
            self.sizes[count] = record.size
            count += 1
            ring_step(&self.walk, &record)
        self.count = count
        return True

    cdef int finish(self, bint commit) except -1:
        """Give the records back, first keeping what is still looked at."""
        if not self.active:
            return 0
        if self.exports and commit and self.count:
            self.ring.keep(self.begin, self.walk.position)
        self.active = False
        self.owner.loan = NULL
        if commit:
            ring_commit(&self.ring.memory, &self.walk)
        if not self.exports:
            self.mapping = None
        return 0

    def release(self):
        """Give the records back, as the end of the ``with`` block does; twice does nothing."""
        if self.active:
            self.owner._take_back(self)
        self.owner = None

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.check()
        if self.count:
            PyBuffer_FillInfo(buffer, self, <void *>self.start, self.walk.position - self.begin, True, flags)
        else:
            PyBuffer_FillInfo(buffer, self, <void *>b"", 0, True, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.exports == 0 and not self.active and self.mapping is not None:
            self.ring.give_back(self.mapping)
            self.mapping = None

    @property
    def array(self):
        """A read-only structured array over the records, which lie ``array.strides`` bytes apart in the ring."""
        self.check()
        if self.type is None:
            raise ValueError("the ring buffer has no type: open it with one")
        if self.count == 0:
            return numpy().empty(0, self.type.dtype)
        return array_over(memoryview(self), self.start + HEADER, self.count, self.stride, self.type.dtype, False)

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(len(self)):
            yield self[at]

    def __getitem__(self, Py_ssize_t index):
        cdef unsigned long offset
        cdef size_t size
        self.check()
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            raise IndexError(f"record {index} of {self.count}")
        if self.type is not None:
            offset = index * self.stride
            size = self.type.size
        else:
            offset = self.offsets[index]
            size = self.sizes[index]
        return memoryview(self)[offset + HEADER:offset + HEADER + size]


cdef Lease make_lease(Reader owner, size_t limit, object timeout):
    cdef Lease lease = Lease.__new__(Lease)
    lease.owner = owner
    lease.limit = limit
    lease.timeout = timeout
    return lease
