"""The memory of one CPU's perf buffer, and its events as records."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, mmap, munmap
from posix.unistd cimport _SC_PAGESIZE, sysconf

from .block cimport Block, Pool
from .c cimport libbpf
from .dispatch cimport TaggedType
from .errors cimport fail
from .feed cimport ENDED, FULL, MISFIT, Feed, Loan, Stop, note, replace_pages, ring_record
from .record cimport RecordType, StructType, plain
from .spans cimport forget_span, note_span

cdef enum:
    PIECE = 1 << 16             # the kernel gets room back each time so much was read
    HEADER = 12                 # in front of what a program sent


@cython.final
cdef class PerfRecord:
    """One event of a perf buffer as the kernel wrote it.

    ``cpu`` is whose buffer it is from, ``type`` (PERF_RECORD_SAMPLE is 9, PERF_RECORD_LOST is 2) and ``misc`` are those of
    its header, ``data`` has the bytes behind that. struct perf_event_header of linux/perf_event.h.
    """

    cdef readonly int cpu
    cdef readonly unsigned int type, misc
    cdef readonly bytes data

    def __init__(self):
        raise TypeError("raw records come from a PerfBuffer with raw=True")

    def __repr__(self):
        return f"PerfRecord(cpu={self.cpu}, type={self.type}, misc={self.misc}, {len(self.data)} bytes)"


cdef size_t PAGE = sysconf(_SC_PAGESIZE)


@cython.final
@cython.no_gc
cdef class PerfMapping:
    def __init__(self):
        raise TypeError("mappings are made by perf buffers")

    def __dealloc__(self):
        forget_span(&self.span)
        if self.span.start != NULL:
            munmap(self.span.start, self.span.length)


@cython.final
cdef class PerfRing(Feed):
    def __str__(self):
        return f"CPU {self.cpu} of {self.map}"

    cdef int map_memory(self, libbpf.perf_buffer *buffer, int index, char *scratch) except -1:
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

    cdef void fit(self, ring_record *record) noexcept:
        if self.tagged is not None:
            fit_tagged(self.tagged, record.data, &record.size)
        elif plain(self.type) and record.size == filled((<StructType>self.type).size):
            record.size = <uint32_t>(<StructType>self.type).size

    cdef object make(self, object before, const perf_event *event):
        cdef PerfRecord made
        cdef ring_record record
        if not self.raw:
            record.data = event.data
            record.size = event.size
            self.fit(&record)
            return self.type.remake(before, self, &record)
        made = PerfRecord.__new__(PerfRecord)
        made.cpu = self.cpu
        made.type = event.header.type
        made.misc = event.header.misc
        made.data = PyBytes_FromStringAndSize(event.data + 8, event.size - 8)
        return made

    # As a feed

    cdef size_t waiting(self) noexcept:
        cdef perf_walk walk
        perf_begin(&self.memory, &walk)
        return walk.end - walk.position

    cdef size_t taken(self, size_t size) noexcept:
        return size if self.raw else filled(size) + HEADER

    cdef bint waits(self) noexcept nogil:
        return perf_waits(&self.memory)

    cdef bint first(self, ring_record *record) noexcept:
        cdef perf_walk walk
        cdef perf_event event
        perf_begin(&self.memory, &walk)
        while perf_look(&self.memory, &walk, self.raw, &event):
            if self.raw or event.kind == PERF_SAMPLE:
                record.data = event.data
                record.size = event.size
                if not self.raw:
                    self.fit(record)
                return True
            perf_step(&walk, &event)
        return False

    cdef void skip(self) noexcept nogil:
        cdef perf_walk walk
        cdef perf_event event
        cdef bint found = False
        perf_begin(&self.memory, &walk)
        while not found and perf_look(&self.memory, &walk, self.raw, &event):
            found = self.raw or event.kind == PERF_SAMPLE
            perf_step(&walk, &event)
        perf_commit(&self.memory, &walk)

    cdef void mark(self) noexcept:
        cdef perf_walk walk
        perf_begin(&self.memory, &walk)
        self.seen = walk.end

    cdef size_t copy_structs(self, char *out, size_t size, size_t room, Stop *stop) noexcept nogil:
        cdef perf_walk walk
        cdef perf_event event
        cdef size_t count = 0
        cdef size_t long_size = filled(size)
        cdef uint64_t committed
        stop[0] = FULL
        perf_begin(&self.memory, &walk)
        committed = walk.position
        while count < room:
            if not perf_look(&self.memory, &walk, False, &event):
                stop[0] = ENDED
                break
            if event.kind == PERF_SAMPLE:
                if event.size != long_size and event.size != size:
                    stop[0] = MISFIT
                    break
                memcpy(out + count * size, event.data, size)
                count += 1
            perf_step(&walk, &event)
            if walk.position - committed >= <uint64_t>PIECE:
                perf_commit(&self.memory, &walk)
                committed = walk.position
        perf_commit(&self.memory, &walk)
        return count

    cdef size_t copy_any(self, char *out, size_t used, size_t room, int *ends, size_t slots, Stop *stop) noexcept nogil:
        cdef perf_walk walk
        cdef perf_event event
        cdef size_t count = 0
        cdef uint64_t committed
        stop[0] = FULL
        perf_begin(&self.memory, &walk)
        committed = walk.position
        while count < slots:
            if not perf_look(&self.memory, &walk, self.raw, &event):
                stop[0] = ENDED
                break
            if self.raw or event.kind == PERF_SAMPLE:
                if self.tagged is not None:
                    fit_tagged(self.tagged, event.data, &event.size)
                if event.size > room - used:
                    stop[0] = MISFIT
                    break
                memcpy(out + used, event.data, event.size)
                used += event.size
                ends[count] = <int>used
                count += 1
            perf_step(&walk, &event)
            if walk.position - committed >= <uint64_t>PIECE:
                perf_commit(&self.memory, &walk)
                committed = walk.position
        perf_commit(&self.memory, &walk)
        return count

    # As a feed that lends

    cdef PerfMapping new_mapping(self):
        cdef PerfMapping mapping = PerfMapping.__new__(PerfMapping)
        cdef size_t length = PAGE + self.memory.size
        cdef void *start = mmap(NULL, length, PROT_READ, MAP_SHARED, self.fd, 0)
        if start == MAP_FAILED:
            fail(errno, "map the memory of", self)
        note_span(&mapping.span, start, length)
        return mapping

    cdef bint find(self, Loan *loan, size_t size, size_t limit) noexcept nogil:
        """Walk over records that wait, up to the first in two pieces, or only over that; of one size no other event may be
        between them. False without memory to note where they are."""
        cdef perf_walk walk
        cdef perf_event event
        cdef size_t offset
        cdef bint whole = True
        loan.count = 0
        perf_begin(&self.memory, &walk)
        while whole and loan.count < limit and perf_look(&self.memory, &walk, self.raw, &event):
            if loan.count == 0:
                loan.begin = walk.position
            offset = walk.position - loan.begin
            whole = (loan.begin & (self.memory.size - 1)) + offset + event.header.size <= self.memory.size
            if loan.count and not whole:
                break
            if not self.raw and event.kind != PERF_SAMPLE:
                if loan.count and size:
                    break
                perf_step(&walk, &event)
                whole = True
                continue
            if size and event.size != filled(size):
                break
            loan.length = offset + event.header.size
            if self.tagged is not None:
                fit_tagged(self.tagged, event.data, &event.size)
            if size:
                loan.count += 1
            elif not note(loan, offset + (event.data - <const char *>event.header), event.size):
                return False
            perf_step(&walk, &event)
        if loan.count == 0:
            perf_commit(&self.memory, &walk)    # no records were among them
        loan.position = walk.position
        loan.records, loan.bytes, loan.lost, loan.skipped = walk.records, walk.bytes, walk.lost, walk.others
        return True

    cdef object lend(self, Loan *loan, size_t size, size_t limit):
        cdef size_t at
        cdef bint found
        cdef Block copy
        if self.lent is None:
            self.lent = self.new_mapping()
            self.pool = Pool.__new__(Pool)
        with nogil:
            found = self.find(loan, size, limit)
        if not found:
            raise MemoryError()
        if loan.count == 0:
            return None
        loan.header = HEADER
        loan.stride = filled(size) + HEADER
        at = loan.begin & (self.memory.size - 1)
        if at + loan.length <= self.memory.size:
            loan.start = self.lent.span.start + (self.memory.data - <const char *>self.memory.page) + at
            return self.lent
        copy = self.pool.take(loan.length)
        memcpy(copy.data, self.memory.scratch, loan.length)
        loan.start = copy.data
        return copy

    cdef int keep(self, object memory, Loan *loan) except -1:
        """Put a copy where views see them; the next ones are shown elsewhere."""
        cdef PerfMapping mapping
        cdef size_t first
        cdef int code
        if isinstance(memory, Block):
            return 0
        mapping = memory
        first = loan.start - mapping.span.start
        with nogil:
            # All of it: the kernel does not let go of a part.
            code = replace_pages(mapping.span.start, mapping.span.length, first, loan.length)
        if code:
            fail(code, "keep records of", self)
        self.lent = None
        return 0

    cdef void commit(self, Loan *loan) noexcept:
        cdef perf_walk walk
        walk.position = loan.position
        walk.records, walk.bytes, walk.lost, walk.others = loan.records, loan.bytes, loan.lost, loan.skipped
        perf_commit(&self.memory, &walk)


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
