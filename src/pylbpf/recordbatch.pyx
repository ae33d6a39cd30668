"""Many records at once: copied out of the rings without the GIL, into one block."""
cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from .block cimport Block, Pool
from .feed cimport ENDED, FULL, MISFIT, Feed, Stop, ring_record
from .ndarray cimport array_over
from .paths cimport get_buffer
from .record cimport RecordType, StructType, numpy

cdef enum:
    MOST = 0x7fffffff           # bytes of a batch: offsets are 32 bits wide


cdef size_t waiting(list feeds):
    """Bytes that the feeds are filled with, headers included."""
    cdef size_t total = 0
    cdef Feed feed
    for feed in feeds:
        total += feed.waiting()
    return total


cdef int raise_misfit(Feed feed, StructType type) except -1:
    """Take the record that does not fit, for it would be in the way for ever, and raise with it."""
    cdef ring_record record
    if not feed.first(&record) or type.fits(record.size):
        return 0
    error = type.wrong(feed, &record)
    feed.skip()
    raise error


cdef object read_structs(list feeds, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A structured array of the records that wait: a new one, or the first part of `into`."""
    cdef Py_buffer buffer
    cdef Block block
    cdef Feed feed
    cdef char *out
    cdef size_t size = <size_t>type.size
    cdef size_t room = 1
    cdef size_t count = 0
    cdef size_t length = 0
    cdef Stop stop = ENDED
    if limit_bytes // size < limit:
        limit = limit_bytes // size
        if limit == 0:
            raise ValueError(f"max_bytes is {limit_bytes}, but each record has {size} bytes")
    if into is None:
        for feed in feeds:
            room += feed.waiting() // feed.taken(size)
        room = min(room, limit)
        block = pool.take(room * size)
        out = block.data
    else:
        array = into
        if not hasattr(into, "dtype"):
            array = numpy().frombuffer(into, type.dtype, memoryview(into).nbytes // size)
        inner = type.dtype.shape
        if array.dtype != type.dtype.base or array.ndim != 1 + len(inner) or inner and array.shape[1:] != inner:
            raise TypeError(f"into must be an array of {type.dtype.base} of shape ({', '.join(['n', *map(str, inner)])}), "
                            f"not of {array.dtype} of shape {array.shape}")
        length = len(array)
        get_buffer(into, &buffer, True, "into")
        out = <char *>buffer.buf
        room = min(<size_t>buffer.len // size, length, limit)
    try:
        if room == 0:
            raise ValueError(f"into has no room for a record of {size} bytes")
        for feed in feeds:
            with nogil:
                count += feed.copy_structs(out + count * size, size, room - count, &stop)
            if stop == MISFIT:
                if count == 0:
                    raise_misfit(feed, type)
                break
            if stop == FULL:
                break
    finally:
        if into is not None:
            PyBuffer_Release(&buffer)
    if into is None:
        block.length = count * size
        return array_over(block, out, count, size, type.dtype, True)
    return array if count == length else array[:count]


cdef RecordBatch read_any(list feeds, RecordType type, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A batch of the records that wait, in new memory or in what the caller gave."""
    cdef RecordBatch batch = RecordBatch.__new__(RecordBatch)
    cdef Py_buffer buffer
    cdef ring_record record
    cdef Block ends, more
    cdef Feed feed
    cdef char *out
    cdef size_t most = min(limit_bytes, <size_t>MOST)
    cdef size_t room = min(waiting(feeds), most)
    cdef size_t slots = 0
    cdef size_t count = 0
    cdef size_t copied
    cdef Stop stop = ENDED
    for feed in feeds:
        if feed.first(&record):
            slots = waiting(feeds) // feed.taken(record.size) + 1
            break
    slots = min(slots, limit)
    ends = pool_of_offsets.take((slots + 1) * sizeof(int))
    (<int *>ends.data)[0] = 0
    if into is None:
        batch.memory = pool.take(room)
        out = (<Block>batch.memory).data
    else:
        batch.memory = memoryview(into).cast("B")
        get_buffer(into, &buffer, True, "into")
        out = <char *>buffer.buf
        room = most = min(<size_t>buffer.len, most)
    try:
        for feed in feeds:
            while count < limit:
                if count == slots:
                    # Records are smaller than the first: make room for as many again.
                    slots = min(2 * slots + 16, limit)
                    more = pool_of_offsets.take((slots + 1) * sizeof(int))
                    memcpy(more.data, ends.data, (count + 1) * sizeof(int))
                    ends = more
                with nogil:
                    copied = feed.copy_any(out, (<int *>ends.data)[count], room, <int *>ends.data + count + 1,
                                           slots - count, &stop)
                    count += copied
                if stop != FULL:
                    break
            if stop != ENDED:
                break
        if count == 0 and stop == MISFIT:
            # Without a limit it only came after we had looked how much there is.
            if feed.first(&record) and record.size > most:
                raise ValueError(f"{feed}: the next record has {record.size} bytes, and there is room for {most}; "
                                 f"it is still there")
    finally:
        if into is not None:
            PyBuffer_Release(&buffer)
    if into is None:
        (<Block>batch.memory).length = (<int *>ends.data)[count]
    ends.length = (count + 1) * sizeof(int)
    batch.start = out
    ends.readonly = True        # the batch trusts them
    batch.offsets_block = ends
    batch.ends = <const int *>ends.data
    batch.count = count
    batch.type = type
    return batch


cdef RecordBatch empty_batch(RecordType type, size_t bytes, size_t count, Pool pool):
    cdef RecordBatch batch = RecordBatch.__new__(RecordBatch)
    cdef Block memory = pool.take(bytes)
    cdef Block ends = pool_of_offsets.take((count + 1) * sizeof(int))
    (<int *>ends.data)[0] = 0
    batch.memory = memory
    batch.start = memory.data
    ends.readonly = True        # the batch trusts them
    batch.offsets_block = ends
    batch.ends = <const int *>ends.data
    batch.count = count
    batch.type = type
    return batch


cdef Pool pool_of_offsets = Pool.__new__(Pool)


@cython.final
cdef class RecordBatch:
    """Records of any size, in the order in which they came: one buffer, and the offsets of the records in it.

    A sequence of what iteration gives: bytes, or typed records. ``data`` and ``offsets`` are buffers that numpy and Arrow
    can use as they are: record i is ``data[offsets[i]:offsets[i + 1]]``. The memory belongs to the batch, or to the
    caller where it was given by ``into``.
    """

    def __init__(self):
        raise TypeError("batches are made by RingBuffer.read_batch()")

    def __len__(self):
        return self.count

    def __repr__(self):
        return f"<RecordBatch: {self.count} records, {self.ends[self.count] if self.ends != NULL else 0} bytes>"

    cdef object at(self, Py_ssize_t index):
        cdef ring_record record
        record.data = self.start + self.ends[index]
        record.size = <uint32_t>(self.ends[index + 1] - self.ends[index])
        return self.type.make(None, &record)

    def __getitem__(self, index):
        cdef Py_ssize_t at
        if isinstance(index, slice):
            return [self.at(at) for at in range(*index.indices(self.count))]
        at = index
        if at < 0:
            at += self.count
        if not 0 <= at < self.count:
            raise IndexError(f"record {index} of {self.count}")
        return self.at(at)

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(self.count):
            yield self.at(at)

    def view(self, Py_ssize_t index):
        """A memoryview of one record, without a copy."""
        if not 0 <= index < self.count:
            raise IndexError(f"record {index} of {self.count}")
        return self.data[self.ends[index]:self.ends[index + 1]]

    @property
    def array(self):
        """A structured array of what is of fixed length in each record, copied; ValueError for untyped records."""
        cdef StructType type
        cdef Py_ssize_t at
        cdef char *out
        if not isinstance(self.type, StructType):
            raise ValueError("the records have no type")
        type = self.type
        array = numpy().empty(self.count, type.dtype)
        if self.count:
            out = <char *><size_t>array.ctypes.data
            for at in range(self.count):
                if not type.fits(self.ends[at + 1] - self.ends[at]):
                    raise ValueError(f"record {at} has {self.ends[at + 1] - self.ends[at]} bytes")
                memcpy(out + at * type.size, self.start + self.ends[at], type.size)
        return array

    @property
    def data(self):
        """A memoryview of all records, one behind the other."""
        return memoryview(self.memory)[:self.ends[self.count]]

    @property
    def offsets(self):
        """A memoryview of int32: where each record begins, and at last where the last one ends."""
        return memoryview(self.offsets_block).cast("i")
