"""Ring buffers: records from BPF programs."""
import errno as _errno
from _weakref import ref as _ref

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from posix.time cimport timespec
from posix.unistd cimport close as close_fd, write

from .block cimport Pool
from .deadline cimport deadline_of, limit_of, now
from .delivery cimport NativeCallback, Source, deliver
from .dispatch cimport TaggedType, split, tagged_type
from .errors cimport fail
from .handle cimport Handle, fork_generation
from .lease cimport Lease, make_lease
from .map cimport Map
from .record cimport RecordType, StructType, plain, record_type
from .recordbatch cimport RecordBatch, raise_misfit, read_any, read_structs
from .ring cimport (
    Ring, open_ring, ring_begin, ring_commit, ring_look, ring_memory, ring_record, ring_step, ring_waits, ring_walk,
)

from .errors import StateError

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int ppoll(pollfd *fds, unsigned long count, const timespec *timeout, const void *mask)
    short POLLIN

cdef extern from "<semaphore.h>" nogil:
    int sem_init(sem_t *semaphore, int shared, unsigned int value)
    int sem_post(sem_t *semaphore)
    int sem_wait(sem_t *semaphore)
    int sem_destroy(sem_t *semaphore)

cdef extern from "<sys/epoll.h>" nogil:
    struct epoll_event:
        unsigned int events
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event *event)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    int EFD_CLOEXEC, EFD_NONBLOCK

CONSUMER = <unsigned long>-1


@cython.final
@cython.no_gc_clear     # finalizers of what is collected with it may still call it
cdef class RingBuffer:
    """Reads the records of one ring buffer map, or of several.

    Records are ``bytes``, or typed: ``type`` is a numpy dtype, a ctypes structure or what numpy makes a dtype of, and
    ``dispatch`` with ``tag`` tells several types apart, ``{number: type}`` by the member of that name. ``tail`` allows
    records to be longer than their type. ``callback`` is called with each record by poll() and consume(), or with
    ``batches`` with what read_batch() would return; a NativeCallback is called without the GIL. ``drops`` is a map with a
    count of records that found no room, for stats().

    One thread at a time: a second one, and a call from inside a callback, get StateError. An exception of a callback ends
    the call and comes out of it; that record counts as consumed, those behind it come with the next call. The map, with
    its object, is kept; closing the object closes its ring buffers. Minimum kernel 5.8. Source: ring_buffer__new(),
    ring_buffer__consume(), of which this does the same on the mapped memory.
    """

    def __cinit__(self):
        self.epoll_fd = self.wake_fd = -1
        self.generation = fork_generation()
        self.sources = []
        self.rings = []
        self.pool = Pool.__new__(Pool)
        self._interval = 1e-3
        sem_init(&self.left, 0, 0)

    def __init__(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, drops=None):
        if self.opened:
            raise StateError(_errno.EINVAL, "the ring buffer is open already", None, str(self))
        if self.wake_fd < 0:
            self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.epoll_fd < 0:
            self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.wake_fd < 0 or self.epoll_fd < 0:
            fail(errno, "open", "ring buffer")
        self.add(map, callback, type=type, dispatch=dispatch, tag=tag, batches=batches, tail=tail, drops=drops)

    def __dealloc__(self):
        self.free_all()
        sem_destroy(&self.left)

    cdef void free_all(self) noexcept:
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        if self.epoll_fd >= 0:
            close_fd(self.epoll_fd)
        self.wake_fd = self.epoll_fd = -1

    def __repr__(self):
        if self.is_closed or not self.opened:
            return "<RingBuffer: closed>"
        if self.generation != fork_generation():
            return "<RingBuffer: of the parent process>"
        return f"<RingBuffer: {', '.join([str((<Ring>ring).map) for ring in self.rings])}>"

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check(self) except -1:
        if self.is_closed or self.closing or not self.opened:
            raise ValueError("the ring buffer is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None, "ring buffer")
        return 0

    cdef int acquire(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.holder == me:
            raise StateError(_errno.EBUSY, "called from inside a callback of the same ring buffer", None, "ring buffer")
        if self.holder == CONSUMER:
            raise StateError(_errno.EBUSY, "a consumer is reading it: stop that first", None, "ring buffer")
        if self.holder:
            raise StateError(_errno.EBUSY, "another thread is reading it", None, "ring buffer")
        if self.lease is not None:
            raise StateError(_errno.EBUSY, "its records are borrowed: give them back first", None, "ring buffer")
        self.holder = me
        return 0

    cdef void release(self) noexcept:
        self.holder = 0
        while self.waiters:
            self.waiters -= 1
            sem_post(&self.left)

    def add(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, drops=None):
        """Read another map too, a Map or descriptor, with a callback and types of its own. Source: ring_buffer__add()."""
        cdef Source source = Source.__new__(Source)
        cdef epoll_event event
        if callback is not None and not isinstance(callback, NativeCallback) and not callable(callback):
            raise TypeError(f"callback must be callable or None, not {type_name(callback)}")
        if (dispatch is None) != (tag is None) or (dispatch is not None and type is not None):
            raise TypeError("give a type, or dispatch and tag, or nothing")
        if dispatch is None:
            source.type = record_type(type, tail)
        else:
            source.type = tagged_type(dispatch, tag, tail)
        source.callback = callback
        source.batches = batches
        source.drops = drops
        if self.opened:
            self.check()
        self.acquire()
        try:
            source.ring = open_ring(map)
            event.events = EPOLLIN
            if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, source.ring.fd, &event) < 0:
                fail(errno, "wait for", map)
            if isinstance(map, Map) and (<Map>map).handle is not None:
                self.belong((<Map>map).handle)
            self.sources.append(source)
            self.rings.append(source.ring)
            self.opened = True
        finally:
            self.release()

    cdef int belong(self, Handle handle) except -1:
        """Be closed with the object."""
        if handle.rings is None:
            handle.rings = {}
        handle.rings[id(self)] = _ref(self)
        return 0

    cdef int leave(self, object map) except -1:
        cdef Handle handle = (<Map>map).handle if isinstance(map, Map) else None
        if handle is not None and handle.rings is not None:
            handle.rings.pop(id(self), None)
        return 0

    @property
    def closed(self):
        """True after close()."""
        return self.is_closed or not self.opened

    def fileno(self):
        """An epoll descriptor, readable when records wait, owned by the ring buffer. Source: ring_buffer__epoll_fd()."""
        self.check()
        return self.epoll_fd

    def _check_outside(self, operation):
        """StateError if this is inside a callback of this ring buffer."""
        if self.holder == PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, "called from inside a callback of the same ring buffer", operation, "ring buffer")

    def close(self):
        """Free the ring buffer; wakes a thread that waits for records and waits for it to leave; twice does nothing.

        What was not consumed stays in the map for the next ring buffer. Arrays and views of borrowed records live on.
        """
        cdef uint64_t one = 1
        if self.is_closed or not self.opened:
            return
        self._check_outside("close")
        if self.generation == fork_generation():
            self.closing = True
            consumer = None if self.consumer is None else self.consumer()
            if consumer is not None:
                consumer._halt()
            while self.holder:
                write(self.wake_fd, &one, sizeof(one))
                self.waiters += 1
                with nogil:
                    while sem_wait(&self.left) < 0 and errno == EINTR:
                        pass
            self.close_all(True)
        else:
            self.close_all(False)

    cdef int close_all(self, bint commit) except -1:
        cdef Lease lease = self.lease
        cdef Ring ring
        if self.is_closed:
            return 0
        self.is_closed = True
        self.lease = None
        if lease is not None:
            try:
                lease.finish(commit)
            except Exception:
                lease.finish(False)     # no memory for a copy: what they show stays in the ring
        parked = self.parked
        self.parked = None
        for ring in self.rings:
            self.leave(ring.map)
            ring.close()
        self.rings = []
        self.sources = []
        self.free_all()
        if parked is not None:
            parked()
        return 0

    def stats(self):
        """Positions, fill level and counters, as RingStats. Any thread may ask, even while another reads."""
        from .ringstats import RingState, RingStats
        cdef Source source
        cdef ring_memory *memory
        cdef ring_walk walk
        cdef list states = []
        self.check()
        for item in list(self.sources):
            source = <Source>item
            dropped = None if source.drops is None else counted(source.drops)
            self.check()
            memory = &source.ring.memory
            ring_begin(memory, &walk)
            states.append(RingState(str(source.ring.map), walk.position, walk.end, walk.end - walk.position, memory.size,
                                    memory.records, memory.bytes, memory.discarded, dropped))
        return RingStats(tuple(states), self.callback_seconds)

    # Waiting

    cdef bint waits(self) noexcept:
        cdef Ring ring
        for ring in self.rings:
            if ring_waits(&ring.memory):
                return True
        return False

    cdef bint wait(self, double deadline) except -1:
        """Sleep until records come (true), or the deadline does (false)."""
        cdef pollfd fds[2]
        cdef timespec time
        cdef double left
        cdef int ready
        cdef bint rest = False
        cdef double nap = 25e-6
        fds[0].fd = self.epoll_fd
        fds[1].fd = self.wake_fd
        fds[0].events = fds[1].events = POLLIN
        while not self.waits():
            left = min(3600.0, deadline - now())
            if left <= 0:
                return False
            if rest:
                # A record that is reserved and not yet submitted makes the descriptor readable, and is not there.
                nap = min(2 * nap, 1e-3)
                left = min(left, nap)
            time.tv_sec = <long>left
            time.tv_nsec = <long>((left - <double>time.tv_sec) * 1e9)
            with nogil:
                ready = ppoll(&fds[1], 1, &time, NULL) if rest else ppoll(fds, 2, &time, NULL)
                if ready < 0:
                    ready = -errno
            if self.closing:
                raise ValueError("the ring buffer was closed while waiting")
            if ready < 0 and ready != -EINTR:
                fail(-ready, "wait for", "ring buffer")
            PyErr_CheckSignals()
            rest = ready > 0
        return True

    # Callbacks

    cdef Py_ssize_t drain(self, size_t limit, double until) except -1:
        """Call back for what waits now: producers may be faster than we are."""
        cdef Py_ssize_t count = len(self.sources)
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t at
        cdef Py_ssize_t first = self.first
        cdef double begun = now()
        try:
            for at in range(count):
                # Where the last call had to stop, the next ring has its turn.
                self.first = (first + at) % count
                total += deliver(<Source>self.sources[self.first], limit - total, until, self.pool)
                if <size_t>total >= limit or (until and now() >= until):
                    self.first = (self.first + 1) % count
                    return total
            self.first = 0
        finally:
            if total:
                self.callback_seconds += now() - begun
        return total

    def consume(self, max_records=None, *, max_time=None):
        """Call the callbacks with all records that wait, at most ``max_records``; return their number. Never sleeps.

        Records that come meanwhile are left for the next call, and so is what waits after ``max_time`` seconds. Source:
        ring_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double until = 0 if max_time is None else deadline_of(max_time)
        self.check()
        self.acquire()
        try:
            return self.drain(limit, until)
        finally:
            self.release()

    def poll(self, timeout=None, max_records=None, *, max_time=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, call the callbacks, return their number.

        Returns at once if records wait, including those sent without a wake-up; signals are handled while it waits.
        ``max_records`` and ``max_time``, seconds from the first record on, are as for consume(). Source:
        ring_buffer__poll().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double deadline = deadline_of(timeout)
        cdef Py_ssize_t total
        if max_time is not None:
            deadline_of(max_time)
        self.check()
        self.acquire()
        try:
            while True:
                total = self.drain(limit, 0 if max_time is None else deadline_of(max_time))
                if total or not self.wait(deadline):
                    return total
        finally:
            self.release()

    # Iteration

    def records(self, timeout=None):
        """Iterate over records, for ``timeout`` seconds in all (None: for ever, 0: those that wait)."""
        cdef RecordIterator iterator = RecordIterator.__new__(RecordIterator)
        self.check()
        iterator.deadline = deadline_of(timeout)
        iterator.ring = self
        return iterator

    def __iter__(self):
        return self.records()

    cdef object next_record(self, RecordIterator iterator):
        """The next record, or None when time is up: what waits then still comes, but not what is sent meanwhile."""
        cdef Source source
        cdef Ring ring
        cdef ring_walk walk
        cdef ring_record record
        self.check()
        self.acquire()
        try:
            while True:
                while iterator.at < len(self.sources):
                    source = <Source>self.sources[iterator.at]
                    ring = source.ring
                    ring_begin(&ring.memory, &walk)
                    if <long>(ring.memory.seen - walk.position) > 0:
                        if <long>(walk.end - ring.memory.seen) > 0:
                            walk.end = ring.memory.seen
                        if ring_look(&ring.memory, &walk, &record):
                            ring_step(&walk, &record)
                            try:
                                return source.type.make(ring, &record)
                            finally:
                                ring_commit(&ring.memory, &walk)
                        ring_commit(&ring.memory, &walk)
                    iterator.at += 1
                if iterator.begun and now() >= iterator.deadline:
                    return None
                if not self.wait(iterator.deadline):
                    return None
                for item in self.rings:
                    ring = <Ring>item
                    ring_begin(&ring.memory, &walk)
                    ring.memory.seen = walk.end
                iterator.at = 0
                iterator.begun = True
        finally:
            self.release()

    # Batches

    cdef object read(self, size_t limit, size_t limit_bytes, object into):
        """A batch of what waits now."""
        cdef Source source = <Source>self.sources[0]
        cdef Source other
        cdef list rings = self.rings
        for item in self.sources:
            other = <Source>item
            if other.type is not source.type and not same(other.type, source.type):
                raise ValueError("the maps have records of different types: open a ring buffer for each")
        if len(rings) > 1:
            self.first = (self.first + 1) % len(rings)
            rings = rings[self.first:] + rings[:self.first]
        if plain(source.type):
            return read_structs(rings, <StructType>source.type, limit, limit_bytes, into, self.pool)
        if into is not None and isinstance(source.type, TaggedType):
            raise TypeError("records of several types cannot go into one array")
        return read_any(rings, source.type, limit, limit_bytes, into, self.pool)

    def read_batch(self, max_records=None, max_bytes=None, timeout=None, into=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, and return all that wait, copied at once.

        A structured numpy array where there is a type, else a RecordBatch; empty when time is up. With dispatch it is a dict
        of these by tag, where None stands for records that are of none of the types. ``max_records`` and
        ``max_bytes``, of records without headers, say how much at most. The array is the caller's; with ``into``, an array
        of the type or any writable buffer, it is the part of that which was filled. A record of another size than the
        type's ends the batch before it, and is a RecordError when it comes first. Runs without the GIL. Source:
        ring_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef size_t limit_bytes = limit_of(max_bytes, "max_bytes")
        cdef double deadline = deadline_of(timeout)
        self.check()
        self.acquire()
        try:
            while True:
                batch = self.read(limit, limit_bytes, into)
                if len(batch) or not self.wait(deadline):
                    break
        finally:
            self.release()
        if isinstance(batch, RecordBatch) and isinstance((<RecordBatch>batch).type, TaggedType):
            return split(<RecordBatch>batch, <TaggedType>(<RecordBatch>batch).type, self.pool)
        return batch

    def borrow(self, max_records=None, timeout=None):
        """Records where they lie in the ring, for a ``with`` block: see Lease. Nothing else reads meanwhile.

        Waits up to ``timeout`` seconds (None: for ever) when the block is entered; the batch is empty when time is up. It
        is of one map only, the next that has records. Source: ring_buffer__consume().
        """
        self.check()
        return make_lease(self, limit_of(max_records, "max_records"), timeout)

    # In an event loop

    def read_batch_async(self, max_records=None, max_bytes=None, timeout=None, into=None):
        """read_batch() to be awaited in the running event loop, asyncio's or another with add_reader().

        One task at a time waits. Cancelled while it waits, it has taken nothing.
        """
        from .aio import read_batch
        return read_batch(self, max_records, max_bytes, timeout, into)

    def __aiter__(self):
        from .aio import AsyncRecords
        self.check()
        return AsyncRecords(self)

    def _waits(self):
        """Whether records wait."""
        self.check()
        return self.waits()

    def _park(self, wake):
        """Have `wake` called by close(), while someone waits in an event loop; None: no one does."""
        if wake is not None and self.parked is not None:
            raise StateError(_errno.EBUSY, "another task is waiting for it", None, "ring buffer")
        self.parked = wake

    # By a thread of its own

    def start(self, target=None, *, block_records=4096, blocks=16, policy="wait"):
        """Start a Consumer: a thread that drains the ring without the GIL into up to ``blocks`` arrays of records.

        ``target`` is called with each array, on a Python thread; without one, iterate over the Consumer. When all blocks are
        full, the policy "wait" leaves records in the ring, until programs find no room, and "overwrite" gives up the oldest
        block. Until it is stopped nobody else reads. Needs a type.
        """
        from .consumer import start
        self.check()
        return start(self, target, block_records, blocks, policy)

    def _lend(self, Lease lease):
        """Fill a lease that is being entered."""
        cdef double deadline = deadline_of(lease.timeout)
        cdef Source source
        self.check()
        self.acquire()
        try:
            while True:
                for item in self.sources:
                    source = <Source>item
                    lease.look(source.ring, <StructType>source.type if plain(source.type) else None)
                    if lease.count:
                        break
                    if plain(source.type):
                        raise_misfit(source.ring, <StructType>source.type)
                if lease.count or not self.wait(deadline):
                    break
            lease.active = True
            self.lease = lease
        finally:
            self.release()

    def _take_back(self, Lease lease):
        """End a lease. In a forked child, which shares the ring with its parent, nothing is consumed by that."""
        if self.generation != fork_generation():
            lease.finish(False)
            return
        if self.holder:
            raise StateError(_errno.EBUSY, "another thread is giving them back", None, "ring buffer")
        self.holder = PyThread_get_thread_ident()
        try:
            lease.finish(True)
            self.lease = None
        finally:
            self.release()


cdef bint same(RecordType one, RecordType other):
    if isinstance(one, StructType) and isinstance(other, StructType):
        return plain(one) == plain(other) and (<StructType>one).dtype == (<StructType>other).dtype
    return not isinstance(one, (StructType, TaggedType)) and not isinstance(other, (StructType, TaggedType))


cdef object counted(object drops):
    """The sum over all CPUs."""
    cdef bytes value = drops.lookup(bytes(4))
    return sum(memoryview(value).cast("Q"))


cdef str type_name(object thing):
    return type(thing).__name__


@cython.final
cdef class RecordIterator:
    """Iterates over the records of a ring buffer."""

    def __init__(self):
        raise TypeError("iterators over records are made by RingBuffer.records()")

    def __iter__(self):
        return self

    def __next__(self):
        record = self.ring.next_record(self)
        if record is None:
            raise StopIteration
        return record
