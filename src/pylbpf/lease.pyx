"""Records in place: seen where the kernel wrote them, and given back all at once."""
import errno as _errno

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdlib cimport free
from posix.unistd cimport usleep

from .deadline cimport deadline_of, limit_of
from .feed cimport Feed
from .handle cimport fork_generation
from .ndarray cimport array_over
from .reader cimport Reader
from .record cimport StructType, numpy
from .recordbatch cimport raise_misfit

from .errors import StateError


@cython.final
@cython.no_gc_clear
cdef class Lease:
    """Records of one ring, or of one CPU's perf buffer, where the kernel wrote them, read-only, for the length of a ``with`` block.

    At its end, or when it is dropped, all of them are consumed, and their room is the producers' again. What is asked of the batch afterwards is
    a ValueError. An array or memoryview of it that lives longer stays as it was: it gets a copy at that moment, which
    costs about what read_batch() does. So drop it, or do without a name for it, where speed counts.

    A typed batch has ``array``, a structured array over the ring itself, and ends where a record was discarded or lost or
    has another size, so that one array can show it. Any batch is a sequence of memoryviews, and of a perf buffer also ends
    where that ends.
    """

    def __init__(self):
        raise TypeError("records are borrowed by borrow() of a RingBuffer or PerfBuffer")

    def __dealloc__(self):
        if self.active:         # dropped without an end of its block; nobody looks any more, for views keep it
            self.owner.loan = NULL
            if self.loan.count and self.owner.generation == fork_generation():
                self.feed.commit(&self.loan)
        free(self.loan.offsets)
        free(self.loan.sizes)

    def __enter__(self):
        if self.owner is None or self.active:
            raise ValueError("records are borrowed once: call borrow() again")
        self.lend(self.owner)
        return self

    def __exit__(self, *_):
        self.release()

    def __repr__(self):
        return f"<Lease: {self.loan.count} records>" if self.active else "<Lease: released>"

    def __len__(self):
        self.check()
        return self.loan.count

    cdef int check(self) except -1:
        if not self.active:
            raise ValueError("the records were given back")
        return 0

    cdef int look(self, Feed feed, StructType type) except -1:
        """Take hold of the records that wait."""
        self.feed = feed
        self.type = type
        self.memory = feed.lend(&self.loan, 0 if type is None else type.size, self.limit)
        return 0

    cdef int lend(self, Reader owner) except -1:
        cdef double deadline = deadline_of(self.timeout)
        cdef Py_ssize_t turn, at, count
        owner.acquire()
        try:
            while True:
                count = len(owner.feeds)
                for turn in range(count):
                    at = (owner.first + turn) % count
                    self.look(owner.feeds[at], owner.type_of_feed(at))
                    if self.loan.count:
                        owner.first = (at + 1) % count      # the others' turn is next
                        break
                    if self.type is not None:
                        raise_misfit(self.feed, self.type)
                if self.loan.count or not owner.wait(deadline):
                    break
            self.active = True
            owner.loan = <PyObject *>self
        finally:
            owner.release()
        return 0

    cdef int take_back(self, Reader owner) except -1:
        # In a forked child, which shares the records with its parent, nothing is consumed by that.
        if owner.generation != fork_generation():
            return self.finish(False)
        while owner.closing and owner.holder and owner.holder != PyThread_get_thread_ident():
            with nogil:
                usleep(50)      # close() ends the lease
        if owner.holder:
            raise StateError(_errno.EBUSY, "another thread is giving them back", None, owner.what)
        owner.holder = PyThread_get_thread_ident()
        try:
            self.finish(True)
        finally:
            owner.release()
        return 0

    cdef int finish(self, bint commit) except -1:
        """Give the records back, first keeping what is still looked at."""
        if not self.active:
            return 0
        if self.exports and commit and self.loan.count:
            self.feed.keep(self.memory, &self.loan)
        self.active = False
        self.owner.loan = NULL
        if commit and self.loan.count:
            self.feed.commit(&self.loan)
        if not self.exports:
            self.memory = None
        return 0

    def release(self):
        """Give the records back, as the end of the ``with`` block does; twice does nothing."""
        if self.active:
            self.take_back(self.owner)
        self.owner = None

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.check()
        if self.loan.count:
            PyBuffer_FillInfo(buffer, self, <void *>self.loan.start, self.loan.length, True, flags)
        else:
            PyBuffer_FillInfo(buffer, self, <void *>b"", 0, True, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.exports == 0 and not self.active and self.memory is not None:
            self.feed.give_back(self.memory)
            self.memory = None

    @property
    def array(self):
        """A read-only structured array over the records, which lie ``array.strides`` bytes apart in the ring."""
        self.check()
        if self.type is None:
            raise ValueError(f"the {self.what} has no type: open it with one")
        if self.loan.count == 0:
            return numpy().empty(0, self.type.dtype)
        return array_over(memoryview(self), self.loan.start + self.loan.header, self.loan.count, self.loan.stride,
                          self.type.dtype, False)

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(len(self)):
            yield self[at]

    def __getitem__(self, Py_ssize_t index):
        cdef size_t offset, size
        self.check()
        if index < 0:
            index += self.loan.count
        if not 0 <= index < <Py_ssize_t>self.loan.count:
            raise IndexError(f"record {index} of {self.loan.count}")
        if self.type is not None:
            offset = self.loan.header + index * self.loan.stride
            size = self.type.size
        else:
            offset = self.loan.offsets[index]
            size = self.loan.sizes[index]
        return memoryview(self)[offset:offset + size]


cdef Lease make_lease(Reader owner, object max_records, object timeout):
    cdef Lease lease = Lease.__new__(Lease)
    owner.check()
    if timeout is not None:
        deadline_of(timeout)
    lease.owner = owner
    lease.what = owner.what
    lease.limit = limit_of(max_records, "max_records")
    lease.timeout = timeout
    return lease


cdef int end_lease(Reader owner, bint commit) except -1:
    cdef Lease lease = None if owner.loan == NULL else <Lease>owner.loan
    if lease is not None:
        try:
            lease.finish(commit)
        except Exception:
            lease.finish(False)     # no memory for a copy: what they show is not consumed, and stays
    return 0
