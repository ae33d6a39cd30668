"""The memory of one CPU's perf buffer, and records copied out of many of them at once."""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from .block cimport Block, Pool
from .c cimport libbpf
from .dispatch cimport TaggedType
from .errors cimport fail
from .record cimport RecordType, StructType, numpy, plain
from .recordbatch cimport RecordBatch
from .ring cimport ring_record

cdef enum:
    PIECE = 1 << 16             # the kernel gets room back each time so much was read
    MOST = 0x7fffffff           # bytes of a batch: offsets are 32 bits wide
    HEADER = 12                 # in front of what a program sent


cdef enum Stop:
    ENDED, FULL, MISFIT


@cython.final
@cython.no_gc
cdef class PerfRing:
    def __init__(self):
        raise TypeError("the rings of a perf buffer are made by it")

    cdef int map(self, libbpf.perf_buffer *buffer, int index, char *scratch) except -1:
        """Look at the memory that libbpf has mapped."""
        cdef void *base
        cdef size_t size
        cdef int code = libbpf.perf_buffer__buffer(buffer, index, &base, &size)
        if code < 0:
            fail(-code, "look at", "perf buffer")
        self.memory.page = <metadata *>base
        self.memory.data = <const char *>base + self.memory.page.data_offset
        self.memory.size = size
        self.memory.scratch = scratch
        self.fd = libbpf.perf_buffer__buffer_fd(buffer, index)
        return 0


cdef size_t filled(size_t size) noexcept nogil:
    """As long as the kernel makes a sample of so many bytes: the next event begins at a multiple of 8."""
    return ((size + 4 + 7) & ~<size_t>7) - 4


cdef void fit_tagged(TaggedType type, const char *data, uint32_t *size) noexcept nogil:
    cdef int64_t tag
    cdef int at
    if type.read_tag(data, size[0], &tag):
        for at in range(type.count):
            if type.choices[at].tag == tag and type.choices[at].size and size[0] == filled(type.choices[at].size):
                size[0] = type.choices[at].size


cdef void fit(RecordType type, ring_record *record) noexcept:
    if isinstance(type, TaggedType):
        fit_tagged(<TaggedType>type, record.data, &record.size)
    elif plain(type) and record.size == filled((<StructType>type).size):
        record.size = <uint32_t>(<StructType>type).size


cdef size_t waiting(list rings):
    """Bytes that the rings are filled with, headers included."""
    cdef perf_walk walk
    cdef PerfRing ring
    cdef size_t total = 0
    for ring in rings:
        perf_begin(&ring.memory, &walk)
        total += walk.end - walk.position
    return total


cdef size_t copy_structs(perf_memory *memory, char *out, size_t size, size_t room, Stop *stop) noexcept nogil:
    """Copy samples of one size; return how many."""
    cdef perf_walk walk
    cdef perf_event event
    cdef size_t count = 0
    cdef size_t long_size = filled(size)
    cdef unsigned long long committed
    stop[0] = FULL
    perf_begin(memory, &walk)
    committed = walk.position
    while count < room:
        if not perf_look(memory, &walk, False, &event):
            stop[0] = ENDED
            break
        if event.kind == PERF_SAMPLE:
            if event.size != long_size and event.size != size:
                stop[0] = MISFIT
                break
            memcpy(out + count * size, event.data, size)
            count += 1
        perf_step(&walk, &event)
        if walk.position - committed >= <unsigned long long>PIECE:
            perf_commit(memory, &walk)
            committed = walk.position
    perf_commit(memory, &walk)
    return count


cdef size_t copy_any(perf_memory *memory, bint raw, TaggedType tagged, char *out, size_t used, size_t room, int *ends, size_t slots,
                     Stop *stop) noexcept nogil:
    """Copy records of any size one behind the other, from `used` on; return how many."""
    cdef perf_walk walk
    cdef perf_event event
    cdef size_t count = 0
    cdef unsigned long long committed
    stop[0] = FULL
    perf_begin(memory, &walk)
    committed = walk.position
    while count < slots:
        if not perf_look(memory, &walk, raw, &event):
            stop[0] = ENDED
            break
        if raw or event.kind == PERF_SAMPLE:
            if tagged is not None:
                fit_tagged(tagged, event.data, &event.size)
            if event.size > room - used:
                stop[0] = MISFIT
                break
            memcpy(out + used, event.data, event.size)
            used += event.size
            ends[count] = <int>used
            count += 1
        perf_step(&walk, &event)
        if walk.position - committed >= <unsigned long long>PIECE:
            perf_commit(memory, &walk)
            committed = walk.position
    perf_commit(memory, &walk)
    return count


cdef int raise_misfit(PerfRing ring, StructType type) except -1:
    """Take the record that does not fit, for it would be in the way for ever, and raise with it."""
    cdef perf_walk walk
    cdef perf_event event
    cdef ring_record record
    perf_begin(&ring.memory, &walk)
    if not perf_look(&ring.memory, &walk, False, &event):
        return 0
    record.data = event.data
    record.size = event.size
    error = type.wrong(None, &record)
    perf_step(&walk, &event)
    perf_commit(&ring.memory, &walk)
    raise error


cdef object read_structs(list rings, StructType type, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A structured array of the records that wait: a new one, or the first part of `into`."""
    cdef Py_buffer buffer
    cdef Block block
    cdef PerfRing ring
    cdef char *out
    cdef size_t size = <size_t>type.size
    cdef size_t room = waiting(rings) // (filled(size) + HEADER) + 1
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


cdef RecordBatch read_any(list rings, RecordType type, bint raw, size_t limit, size_t limit_bytes, object into, Pool pool):
    """A batch of the records that wait, in new memory or in what the caller gave."""
    cdef RecordBatch batch = RecordBatch.__new__(RecordBatch)
    cdef Py_buffer buffer
    cdef Block ends, more
    cdef PerfRing ring
    cdef char *out
    cdef perf_walk walk
    cdef perf_event event
    cdef size_t bytes = waiting(rings)
    cdef size_t most = min(limit_bytes, <size_t>MOST)
    cdef size_t room = min(bytes, most)
    cdef size_t slots = min(bytes // 64 + 16, limit)
    cdef size_t count = 0
    cdef size_t copied
    cdef Stop stop = ENDED
    cdef TaggedType tagged = <TaggedType>type if isinstance(type, TaggedType) else None
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
                    slots = min(2 * slots + 16, limit)
                    more = pool_of_offsets.take((slots + 1) * sizeof(int))
                    memcpy(more.data, ends.data, (count + 1) * sizeof(int))
                    ends = more
                with nogil:
                    copied = copy_any(&ring.memory, raw, tagged, out, (<int *>ends.data)[count], room,
                                      <int *>ends.data + count + 1, slots - count, &stop)
                    count += copied
                if stop != FULL:
                    break
            if stop != ENDED:
                break
        if count == 0 and stop == MISFIT:
            # Without a limit it only came after we had looked how much there is.
            perf_begin(&ring.memory, &walk)
            if perf_look(&ring.memory, &walk, raw, &event) and event.size > most:
                raise ValueError(f"the next record of CPU {ring.cpu} has {event.size} bytes, and there is room for {most}; "
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


cdef Pool pool_of_offsets = Pool.__new__(Pool)
