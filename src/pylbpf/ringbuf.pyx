"""Ring buffers: records from BPF programs."""
import errno as _errno

cimport cython
from libc.errno cimport errno
from posix.unistd cimport close as close_fd

from .c.system cimport EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, epoll_create1, epoll_ctl, epoll_event
from .delivery cimport Source, deliver as call_back
from .dispatch cimport TaggedType
from .errors cimport fail
from .feed cimport ring_record
from .handle cimport fork_generation
from .lease cimport end_lease, make_lease
from .map cimport Map
from .reader cimport Reader, check_callback, rotated, type_of
from .record cimport RecordType, StructType, plain
from .recordbatch cimport read_any, read_structs
from .ring cimport (
    Ring, open_ring, ring_begin, ring_commit, ring_look, ring_memory, ring_step, ring_walk,
)

from .errors import StateError

cdef enum:
    ARRAY = 2
    PERCPU_ARRAY = 6


@cython.final
@cython.no_gc_clear     # finalizers of what is collected with it may still call it
cdef class RingBuffer(Reader):
    """Reads the records of one ring buffer map, or of several.

    Records are ``bytes``, or typed: ``type`` is a numpy dtype, a ctypes structure, what numpy makes a dtype of, or the name
    of a structure in the BTF of the map's object, and ``dispatch`` with ``tag`` tells several types apart, ``{number: type}``
    by the member of that name. ``tail`` allows
    records to be longer than their type. ``callback`` is called with each record by poll() and consume(), or with
    ``batches`` with what read_batch() would return; a NativeCallback is called without the GIL. ``drops`` is a map with a
    count of records that found no room, for stats().

    One thread at a time: a second one, and a call from inside a callback, get StateError. An exception of a callback ends
    the call and comes out of it; that record counts as consumed, those behind it come with the next call. The map, with
    its object, is kept; closing the object closes its ring buffers. Minimum kernel 5.8. Source: ring_buffer__new(),
    ring_buffer__consume(), of which this does the same on the mapped memory.
    """

    def __cinit__(self):
        self.what = "ring buffer"
        self.sources = []

    def __init__(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, drops=None):
        if self.opened:
            raise StateError(_errno.EINVAL, "the ring buffer is open already", None, str(self))
        self.open_wake()
        if self.epoll_fd < 0:
            self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            fail(errno, "open", self.what)
        self.add(map, callback, type=type, dispatch=dispatch, tag=tag, batches=batches, tail=tail, drops=drops)

    def __dealloc__(self):
        self.free_all()

    cdef void free_all(self) noexcept:
        if self.epoll_fd >= 0:
            close_fd(self.epoll_fd)
        self.epoll_fd = -1

    def __repr__(self):
        if self.is_closed or not self.opened:
            return "<RingBuffer: closed>"
        if self.generation != fork_generation():
            return "<RingBuffer: of the parent process>"
        return f"<RingBuffer: {', '.join([str(ring) for ring in self.feeds])}>"

    def add(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, drops=None):
        """Read another map too, a Map or descriptor, with a callback and types of its own. Source: ring_buffer__add()."""
        cdef Source source = Source.__new__(Source)
        cdef epoll_event event
        check_callback(callback, "callback")
        if drops is not None and not counts_drops(drops):
            raise TypeError(f"drops must be a map of the type PERCPU_ARRAY or ARRAY with values of 8 bytes, not {drops}")
        source.type = type_of(map, type, dispatch, tag, tail)
        source.callback = callback
        source.batches = batches
        source.drops = drops
        if self.opened or self.is_closed:
            self.check()
        self.hold()
        try:
            source.ring = open_ring(map)
            event.events = EPOLLIN
            if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, source.ring.fd, &event) < 0:
                fail(errno, "wait for", map)
            self.belong(map)
            self.sources.append(source)
            self.feeds.append(source.ring)
            self.opened = True
        finally:
            self.release()

    cdef int shut(self) except -1:
        cdef Ring ring
        cdef bint ours = self.generation == fork_generation()
        end_lease(self, ours)
        for ring in self.feeds:
            self.leave(ring.map)
            ring.close()
        self.feeds = []
        self.sources = []
        self.free_all()
        return 0

    def stats(self):
        """Positions, fill level and counters, as RingStats. Any thread may ask, even while another reads."""
        from .readerstats import RingState, RingStats
        cdef Source source
        cdef ring_memory *memory
        cdef ring_walk walk
        cdef list states = []
        self.check()
        for item in list(self.sources):
            source = <Source>item
            dropped = None if source.drops is None else sum_of(source.drops)
            self.check()
            memory = &source.ring.memory
            ring_begin(memory, &walk)
            states.append(RingState(str(source.ring), walk.position, walk.end, walk.end - walk.position, memory.size,
                                    memory.records, memory.bytes, memory.discarded, dropped))
        return RingStats(tuple(states), self.callback_seconds)

    # As a Reader

    cdef Py_ssize_t deliver(self, Py_ssize_t at, size_t limit, double until) except -1:
        return call_back(self.sources[at], limit, until, self.pool)

    cdef object take(self, Py_ssize_t at):
        cdef Source source = <Source>self.sources[at]
        cdef Ring ring = source.ring
        cdef ring_walk walk
        cdef ring_record record
        ring_begin(&ring.memory, &walk)
        if <long>(ring.seen - walk.position) <= 0:
            return None
        if <long>(walk.end - ring.seen) > 0:
            walk.end = ring.seen
        if not ring_look(&ring.memory, &walk, &record):
            ring_commit(&ring.memory, &walk)
            return None
        ring_step(&walk, &record)
        try:
            return source.type.make(ring, &record)
        finally:
            ring_commit(&ring.memory, &walk)

    cdef object read(self, size_t limit, size_t limit_bytes, object into):
        cdef Source source = <Source>self.sources[0]
        cdef Source other
        for item in self.sources:
            other = <Source>item
            if other.type is not source.type and not same(other.type, source.type):
                raise ValueError("the maps have records of different types: open a ring buffer for each")
        if plain(source.type):
            return read_structs(rotated(self), <StructType>source.type, limit, limit_bytes, into, self.pool)
        if into is not None and isinstance(source.type, TaggedType):
            raise TypeError("records of several types cannot go into one array")
        return read_any(rotated(self), source.type, limit, limit_bytes, into, self.pool)

    cdef StructType only_type(self):
        cdef Source source = <Source>self.sources[0]
        for item in self.sources:
            if not plain((<Source>item).type) or not same((<Source>item).type, source.type):
                return None
        return <StructType>source.type

    cdef StructType type_of_feed(self, Py_ssize_t at):
        cdef Source source = <Source>self.sources[at]
        return <StructType>source.type if plain(source.type) else None

    # In place

    def borrow(self, max_records=None, timeout=None):
        """Records where they lie in the ring, for a ``with`` block: see Lease. Nothing else reads meanwhile.

        Waits up to ``timeout`` seconds (None: for ever) when the block is entered; the batch is empty when time is up. It
        is of one map only, the next that has records. Source: ring_buffer__consume().
        """
        return make_lease(self, max_records, timeout)


cdef bint same(RecordType one, RecordType other):
    if isinstance(one, StructType) and isinstance(other, StructType):
        return plain(one) == plain(other) and (<StructType>one).dtype == (<StructType>other).dtype
    if isinstance(one, TaggedType) and isinstance(other, TaggedType):
        return same_tags(<TaggedType>one, <TaggedType>other)
    return not isinstance(one, (StructType, TaggedType)) and not isinstance(other, (StructType, TaggedType))


cdef bint same_tags(TaggedType one, TaggedType other):
    if (one.offset, one.size, one.signed, list(one.types), one.others is None) != (
            other.offset, other.size, other.signed, list(other.types), other.others is None):
        return False
    for number, type in one.types.items():
        if not same(type, other.types[number]):
            return False
    return True


def counts_drops(map):
    """Whether a map is one as PYLBPF_COUNT_DROPS() of pylbpf/ringbuf.bpf.h makes it."""
    return isinstance(map, Map) and (<Map>map).kind() in (ARRAY, PERCPU_ARRAY) and map.value_size == 8


def drops_of(maps, map):
    """The map of an object that counts the drops of another one of it, or None."""
    name = getattr(map, "name", None)
    if name is None or maps.get(name) != map:
        return None
    drops = maps.get(f"{name}_drops")
    return drops if counts_drops(drops) else None


cdef object sum_of(object drops):
    """Over all CPUs."""
    cdef bytes value = drops.lookup(bytes(4))
    return sum(memoryview(value).cast("Q"))
