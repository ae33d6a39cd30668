"""Many records at once: copied out of the rings without the GIL, into one block."""
cimport cython
from cpython.buffer cimport (
    PyBUF_CONTIG_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from .block cimport Block, Pool
from .record cimport RecordType, StructType, numpy
from .ring cimport (
    Ring, ring_begin, ring_commit, ring_look, ring_memory, ring_record, ring_rounded, ring_run, ring_step, ring_steps,
    ring_walk,
)

cdef enum:
    # The producers get room back each time so much was read: not with each record, for that slows them down.
    PIECE = 1 << 16
    MOST = 0x7fffffff           # bytes of a batch: offsets are 32 bits wide


cdef size_t waiting(list rings):
    """Bytes that the rings are filled with, headers included."""
    cdef ring_walk walk
    cdef size_t total = 0
    cdef Ring ring
    for ring in rings:
        ring_begin(&ring.memory, &walk)
        total += walk.end - walk.position
    return total


cdef size_t copy_structs(ring_memory *ring, char *out, size_t size, size_t room, Stop *stop) noexcept nogil:
    """Copy records of one size; return how many."""
    cdef unsigned long stride = ring_rounded(<uint32_t>size)
    cdef size_t piece = <size_t>PIECE // stride + 1
    cdef ring_walk walk
    cdef ring_record record
    cdef size_t count = 0
    cdef size_t run, at
    stop[0] = FULL
    ring_begin(ring, &walk)
    while count < room:
        if not ring_look(ring, &walk, &record):
            stop[0] = ENDED
            break
        if record.size != size:
            stop[0] = MISFIT
            break
        run = ring_run(ring, &walk, <uint32_t>size, min(room - count, piece))
        if run == 0:                # another reader of the map has given it back meanwhile
            stop[0] = ENDED
            break
        for at in range(run):
            memcpy(out + (count + at) * size, record.data + at * stride, size)
        ring_steps(&walk, <uint32_t>size, run)
        ring_commit(ring, &walk)
        count += run
    ring_commit(ring, &walk)
    return count


cdef size_t copy_any(ring_memory *ring, char *out, size_t used, size_t room, int *ends, size_t slots, Stop *stop) noexcept nogil:
    """Copy records of any size one behind the other, from `used` on; return how many."""
    cdef ring_walk walk
    cdef ring_record record
    cdef size_t count = 0
    cdef unsigned long committed
    stop[0] = FULL
    ring_begin(ring, &walk)
    committed = walk.position
    while count < slots:
        if not ring_look(ring, &walk, &record):
            stop[0] = ENDED
            break
        if record.size > room - used:
            stop[0] = MISFIT
            break
        memcpy(out + used, record.data, record.size)
        used += record.size
        ends[count] = <int>used
        ring_step(&walk, &record)
        count += 1
        if walk.position - committed >= <unsigned long>PIECE:
            ring_commit(ring, &walk)
            committed = walk.position
    ring_commit(ring, &walk)
    return count


cdef bint first_record(Ring ring, ring_record *record) noexcept:
    cdef ring_walk walk
    ring_begin(&ring.memory, &walk)
    return ring_look(&ring.memory, &walk, record)


cdef int raise_misfit(Ring ring, StructType type) except -1:
    """Take the record that does not fit, for it would be in the way for ever, and raise with it."""
    cdef ring_walk walk
    cdef ring_record record
    ring_begin(&ring.memory, &walk)
    if not ring_look(&ring.memory, &walk, &record) or type.fits(record.size):
        return 0
    error = type.wrong(ring, &record)
    ring_step(&walk, &record)
    ring_commit(&ring.memory, &walk)
    raise error


cdef object read_structs(list rings, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A structured array of the records that wait: a new one, or the first part of `into`."""
    cdef Py_buffer buffer
    cdef Block block
    cdef Ring ring
    cdef char *out
    cdef size_t size = <size_t>type.size
    cdef size_t room = waiting(rings) // ring_rounded(<uint32_t>type.size) + 1
    cdef size_t count = 0
    cdef Stop stop
    if limit_bytes // size < limit:
        limit = limit_bytes // size
        if limit == 0:
            raise ValueError(f"max_bytes is {limit_bytes}, but each record has {size} bytes")
    if into is None:
        room = min(room, limit)
        block = pool.take(room * size)
        out = block.data
        array = numpy().frombuffer(block, type.dtype, room)
    else:
        array = into if hasattr(into, "dtype") else numpy().frombuffer(into, type.dtype, memoryview(into).nbytes // size)
        if array.dtype != type.dtype or array.ndim != 1:
            raise TypeError(f"into must be an array of one dimension of {type.dtype}, not {array.ndim} of {array.dtype}")
        PyObject_GetBuffer(into, &buffer, PyBUF_WRITABLE)
        out = <char *>buffer.buf
        room = min(<size_t>buffer.len // size, <size_t>len(array), limit)
    try:
        if room == 0:
            raise ValueError(f"into has no room for a record of {size} bytes")
        for ring in rings:
            with nogil:
                count += copy_structs(&ring.memory, out + count * size, size, room - count, &stop)
            if stop == MISFIT:
                if count == 0:
                    raise_misfit(ring, type)
                break
            if stop == FULL:
                break
    finally:
        if into is not None:
            PyBuffer_Release(&buffer)
    return array if count == <size_t>len(array) else array[:count]


cdef RecordBatch read_any(list rings, RecordType type, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A batch of the records that wait, in new memory or in what the caller gave."""
    cdef RecordBatch batch = RecordBatch.__new__(RecordBatch)
    cdef Py_buffer buffer
    cdef ring_record record
    cdef Block ends, more
    cdef Ring ring
    cdef char *out
    cdef size_t most = min(limit_bytes, <size_t>MOST)
    cdef size_t room = min(waiting(rings), most)
    cdef size_t slots = 0
    cdef size_t count = 0
    cdef size_t copied
    cdef Stop stop = ENDED
    for ring in rings:
        if first_record(ring, &record):
            slots = waiting(rings) // ring_rounded(record.size) + 1
            break
    slots = min(slots, limit)
    ends = pool_of_offsets.take((slots + 1) * sizeof(int))
    (<int *>ends.data)[0] = 0
    if into is None:
        batch.memory = pool.take(room)
        out = (<Block>batch.memory).data
    else:
        batch.memory = memoryview(into).cast("B")
        PyObject_GetBuffer(into, &buffer, PyBUF_WRITABLE)
        out = <char *>buffer.buf
        room = most = min(<size_t>buffer.len, most)
    try:
        for ring in rings:
            while count < limit:
                if count == slots:
                    # Records are smaller than the first: make room for as many again.
                    slots = min(2 * slots + 16, limit)
                    more = pool_of_offsets.take((slots + 1) * sizeof(int))
                    memcpy(more.data, ends.data, (count + 1) * sizeof(int))
                    ends = more
                with nogil:
                    copied = copy_any(&ring.memory, out, (<int *>ends.data)[count], room, <int *>ends.data + count + 1,
                                      slots - count, &stop)
                    count += copied
                if stop != FULL:
                    break
            if stop != ENDED:
                break
        if count == 0 and stop == MISFIT:
            # Without a limit it only came after we had looked how much there is.
            if first_record(ring, &record) and record.size > most:
                raise ValueError(f"{ring.map}: the next record has {record.size} bytes, and there is room for {most}; "
                                 f"it is still there")
    finally:
        if into is not None:
            PyBuffer_Release(&buffer)
    if into is None:
        (<Block>batch.memory).length = (<int *>ends.data)[count]
    ends.length = (count + 1) * sizeof(int)
    batch.start = out
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
        return f"<RecordBatch: {self.count} records, {self.ends[self.count]} bytes>"

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
