"""The memory of one ring buffer map, mapped as the kernel lays it out: consumer, producer, and the data twice."""
import errno as _errno

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport _SC_PAGESIZE, close as close_fd, sysconf

from .c cimport bpf, uapi
from .errors cimport fail
from .feed cimport ENDED, FULL, MISFIT, Feed, Loan, Stop, note, replace_pages, ring_record
from .map cimport Map
from .targets cimport descriptor_of, duplicate_fd

cdef enum:
    RINGBUF = 27
    HEADER = 8
    PIECES = 32
    # The producers get room back each time so much was read: not with each record, for that slows them down.
    PIECE = 1 << 16

cdef size_t PAGE = sysconf(_SC_PAGESIZE)


@cython.final
@cython.no_gc
cdef class Mapping:
    def __init__(self):
        raise TypeError("mappings are made by ring buffers")

    def __dealloc__(self):
        if self.start != NULL:
            munmap(self.start, self.length)


cdef inline void copy_record(char *out, const char *data, size_t size) noexcept nogil:
    """Without a call for the usual sizes."""
    if size == 8:
        memcpy(out, data, 8)
    elif size == 16:
        memcpy(out, data, 16)
    elif size == 32:
        memcpy(out, data, 32)
    else:
        memcpy(out, data, size)


@cython.final
@cython.no_gc_clear
cdef class Ring(Feed):
    """One map that is read. The descriptor is a duplicate, so it stays valid whatever happens to the map's."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        if self.memory.consumer != NULL:
            munmap(self.memory.consumer, PAGE)
        memset(&self.memory, 0, sizeof(self.memory))
        if self.fd >= 0:
            close_fd(self.fd)
        self.fd = -1

    cdef int close(self) except -1:
        """Unmap what nobody looks at any more."""
        self.unmap()
        self.mapping = self.spare = None
        return 0

    cdef Mapping new_mapping(self):
        cdef Mapping mapping = Mapping.__new__(Mapping)
        cdef size_t length = PAGE + 2 * self.memory.size
        cdef void *start = mmap(NULL, length, PROT_READ, MAP_SHARED, self.fd, PAGE)
        if start == MAP_FAILED:
            fail(errno, "map the data of", self.map)
        mapping.start = <char *>start
        mapping.length = length
        return mapping

    cdef void use(self, Mapping mapping) noexcept:
        self.mapping = mapping
        self.memory.producer = <const unsigned long *>mapping.start
        self.memory.data = mapping.start + PAGE

    # As a feed

    cdef size_t waiting(self) noexcept:
        cdef ring_walk walk
        ring_begin(&self.memory, &walk)
        return walk.end - walk.position

    cdef size_t taken(self, size_t size) noexcept:
        return ring_rounded(<uint32_t>size)

    cdef bint waits(self) noexcept nogil:
        return ring_waits(&self.memory)

    cdef bint first(self, ring_record *record) noexcept:
        cdef ring_walk walk
        ring_begin(&self.memory, &walk)
        return ring_look(&self.memory, &walk, record)

    cdef void skip(self) noexcept nogil:
        cdef ring_walk walk
        cdef ring_record record
        ring_begin(&self.memory, &walk)
        if ring_look(&self.memory, &walk, &record):
            ring_step(&walk, &record)
        ring_commit(&self.memory, &walk)

    cdef void mark(self) noexcept:
        cdef ring_walk walk
        ring_begin(&self.memory, &walk)
        self.seen = walk.end

    cdef size_t copy_structs(self, char *out, size_t size, size_t room, Stop *stop) noexcept nogil:
        cdef ring_walk walk
        cdef ring_record record
        cdef size_t count = 0
        cdef unsigned long committed
        stop[0] = FULL
        ring_begin(&self.memory, &walk)
        committed = walk.position
        while count < room:
            if not ring_look(&self.memory, &walk, &record):
                stop[0] = ENDED
                break
            if record.size != size:
                stop[0] = MISFIT
                break
            copy_record(out + count * size, record.data, size)
            ring_step(&walk, &record)
            count += 1
            if walk.position - committed >= <unsigned long>PIECE:
                ring_commit(&self.memory, &walk)
                committed = walk.position
        ring_commit(&self.memory, &walk)
        return count

    cdef size_t copy_any(self, char *out, size_t used, size_t room, int *ends, size_t slots, Stop *stop) noexcept nogil:
        cdef ring_walk walk
        cdef ring_record record
        cdef size_t count = 0
        cdef unsigned long committed
        stop[0] = FULL
        ring_begin(&self.memory, &walk)
        committed = walk.position
        while count < slots:
            if not ring_look(&self.memory, &walk, &record):
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
                ring_commit(&self.memory, &walk)
                committed = walk.position
        ring_commit(&self.memory, &walk)
        return count

    # As a feed that lends

    cdef bint find(self, Loan *loan, size_t size, size_t limit) noexcept nogil:
        """Walk over records that wait; of one size none may be discarded between them. False without memory to note where
        they are."""
        cdef ring_walk walk
        cdef ring_record record
        loan.count = 0
        ring_begin(&self.memory, &walk)
        if size:
            if ring_look(&self.memory, &walk, &record) and record.size == size:
                loan.begin = walk.position
                loan.count = ring_run(&self.memory, &walk, <uint32_t>size, limit)
                ring_steps(&walk, <uint32_t>size, loan.count)
        else:
            while loan.count < limit and ring_look(&self.memory, &walk, &record):
                if loan.count == 0:
                    loan.begin = walk.position
                if not note(loan, walk.position - loan.begin + HEADER, record.size):
                    return False
                ring_step(&walk, &record)
        loan.position = walk.position
        loan.length = loan.position - loan.begin
        loan.records, loan.bytes, loan.skipped = walk.records, walk.bytes, walk.discarded
        return True

    cdef object lend(self, Loan *loan, size_t size, size_t limit):
        cdef bint found
        with nogil:
            found = self.find(loan, size, limit)
        if not found:
            raise MemoryError()
        if loan.count == 0:
            return None
        loan.start = self.memory.data + (loan.begin & (self.memory.size - 1))
        loan.header = HEADER
        loan.stride = ring_rounded(<uint32_t>size)
        return self.mapping

    cdef int keep(self, object memory, Loan *loan) except -1:
        """Put a copy where views see them; from then on read in another mapping.

        The kernel may then write there again, and the views do not notice. On failure nothing has changed.
        """
        cdef Mapping mapping = memory
        cdef size_t first = (PAGE + (loan.begin & (self.memory.size - 1))) // PAGE * PAGE
        cdef size_t last = PAGE + (loan.begin & (self.memory.size - 1)) + loan.length
        cdef size_t length = (last + PAGE - 1) // PAGE * PAGE - first
        cdef int code
        if self.spare is None:
            self.spare = self.new_mapping()
        with nogil:
            code = replace_pages(mapping.start + first, length, 0, length)
        if code:
            fail(code, "keep records of", self.map)
        mapping.kept = first
        mapping.kept_length = length
        self.use(self.spare)
        self.spare = None
        return 0

    cdef void commit(self, Loan *loan) noexcept:
        cdef ring_walk walk
        walk.position = loan.position
        walk.records, walk.bytes, walk.discarded = loan.records, loan.bytes, loan.skipped
        ring_commit(&self.memory, &walk)

    cdef void give_back(self, object memory) noexcept:
        cdef Mapping mapping = memory
        cdef void *start
        if self.fd < 0 or self.spare is not None or self.mapping is mapping:
            return
        if mapping.kept_length:
            mapping.pieces += 1
            if mapping.pieces == PIECES:
                # The kernel does not join the pieces again.
                mapping.kept = mapping.pieces = 0
                mapping.kept_length = mapping.length
            # In the file there is one more page before, the consumer's.
            start = mmap(mapping.start + mapping.kept, mapping.kept_length, PROT_READ, MAP_SHARED | MAP_FIXED, self.fd,
                         PAGE + mapping.kept)
            if start == MAP_FAILED:
                return
            mapping.kept_length = 0
        self.spare = mapping


cdef Ring open_ring(object map):
    """Map a ring buffer, given as Map, descriptor or what has a fileno()."""
    cdef Ring ring = Ring.__new__(Ring)
    cdef uapi.bpf_map_info info
    cdef uapi.__u32 length = sizeof(info)
    cdef void *start
    cdef int fd, code
    if isinstance(map, Map):
        if (<Map>map).kind() != RINGBUF:
            raise ValueError(f"{map} is a {map.type.name}, not a RINGBUF")
        fd = (<Map>map).descriptor()
    else:
        fd = map if isinstance(map, int) else descriptor_of(map, "map")
    ring.map = map
    ring.fd = duplicate_fd(fd)
    memset(&info, 0, sizeof(info))
    code = bpf.bpf_obj_get_info_by_fd(ring.fd, &info, &length)
    if code < 0:
        fail(-code, "open ring buffer on", map)
    if info.type != RINGBUF:
        fail(_errno.EINVAL, "open ring buffer on", map)
    ring.memory.size = info.max_entries
    start = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0)
    if start == MAP_FAILED:
        fail(errno, "map the consumer position of", map)
    ring.memory.consumer = <unsigned long *>start
    ring.use(ring.new_mapping())
    return ring
