"""Ring buffers: records from BPF programs."""
import errno as _errno
from _weakref import ref as _ref
from time import monotonic as _monotonic

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident,
    PyThread_release_lock, PyThread_type_lock, WAIT_LOCK,
)
cimport cython
from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd, write

from .attach cimport duplicate_fd
from .c cimport libbpf
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish
from .handle cimport Handle, fork_generation
from .map cimport Map

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    short POLLIN

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    int EFD_CLOEXEC
    int EFD_NONBLOCK

cdef enum:
    RINGBUF = 27
    # One fill of the block: enough to make the GIL's cost small, little enough to stay in a cache.
    BLOCK_RECORDS = 4096
    BLOCK_BYTES = 1 << 18


cdef struct Record:
    size_t offset
    size_t size
    int source


cdef struct Block:
    # Records copied out of the rings, waiting to be delivered.
    char *data
    size_t used, capacity
    Record *records
    size_t count, slots
    size_t next             # first that is not delivered yet
    size_t limit            # stop consuming at this many
    size_t consumed         # bytes, since the last poll or consume began


cdef struct Source:
    Block *block
    int index


cdef int on_sample(void *context, void *data, size_t size) noexcept nogil:
    cdef Source *source = <Source *>context
    cdef Block *block = source.block
    cdef size_t capacity
    cdef void *grown
    if block.used + size > block.capacity:
        capacity = (block.used + size) * 2
        grown = realloc(block.data, capacity)
        if grown == NULL:
            return -ENOMEM
        block.data = <char *>grown
        block.capacity = capacity
    if block.count == block.slots:
        capacity = block.slots * 2 if block.slots else 256
        grown = realloc(block.records, capacity * sizeof(Record))
        if grown == NULL:
            return -ENOMEM
        block.records = <Record *>grown
        block.slots = capacity
    memcpy(block.data + block.used, data, size)
    block.records[block.count].offset = block.used
    block.records[block.count].size = size
    block.records[block.count].source = source.index
    block.count += 1
    block.used += size
    block.consumed += size + 8
    # A negative result stops libbpf after this record, which counts as consumed.
    return -ECANCELED if block.count >= block.limit or block.used >= BLOCK_BYTES else 0


cdef object deadline_of(object timeout):
    """The moment until which a call may wait, or None for ever."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
    if timeout != timeout:
        raise ValueError("timeout is not a number")
    return None if timeout == float("inf") else _monotonic() + timeout


cdef int milliseconds(object deadline) except -2:
    """What is left until a deadline, as poll(2) wants it: rounded up, -1 for ever."""
    if deadline is None:
        return -1
    cdef double left = deadline - _monotonic()
    return 0 if left <= 0 else <int>min(left * 1000 + 1, 86400000.0)


@cython.final
@cython.no_gc_clear     # the collector must not take the list of descriptors before __dealloc__ has closed them
cdef class RingBuffer:
    """Reads the records of one ring buffer map, or of several.

    A record is copied to ``bytes``. Give callables to be called with each record by poll() and consume(), or iterate:
    ``for record in ring``. One thread at a time: a second one, and a call from inside a callback, get StateError. An
    exception of a callback ends the call and comes out of it; that record counts as delivered, those behind it come
    with the next call. The map, with its object, is kept; closing the object closes its ring buffers. Minimum kernel
    5.8. Source: ring_buffer__new(), ring_buffer__consume().
    """

    cdef libbpf.ring_buffer *ptr
    cdef Block block
    cdef Source **sources
    cdef int source_count
    cdef list callbacks
    cdef list maps
    cdef list fds
    cdef size_t capacity            # bytes of all rings: how much one call consumes at most
    cdef int wake_fd
    cdef unsigned int generation
    cdef PyThread_type_lock lock
    cdef unsigned long holder
    cdef bint opened, closing
    cdef object __weakref__

    def __cinit__(self):
        self.wake_fd = -1
        self.generation = fork_generation()
        self.callbacks = []
        self.maps = []
        self.fds = []
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError()

    def __init__(self, map, callback=None):
        if self.opened:
            raise StateError(_errno.EINVAL, "the ring buffer is open already", None, str(self))
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            fail(errno, "open", "ring buffer")
        self.add(map, callback)

    def __dealloc__(self):
        self.free_all()
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef void free_all(self) noexcept:
        cdef libbpf.ring_buffer *ptr = self.ptr
        cdef int at
        self.ptr = NULL
        if ptr != NULL:
            with nogil:
                libbpf.ring_buffer__free(ptr)
        for at in range(self.source_count):
            free(self.sources[at])
        free(self.sources)
        self.sources = NULL
        self.source_count = 0
        free(self.block.data)
        free(self.block.records)
        self.block.data = NULL
        self.block.records = NULL
        self.block.count = self.block.next = self.block.slots = self.block.capacity = self.block.used = 0
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
            self.wake_fd = -1
        if self.fds is not None:
            for fd in self.fds:
                close_fd(fd)
            self.fds = []

    def __repr__(self):
        if self.ptr == NULL:
            return "<RingBuffer: closed>"
        if self.generation != fork_generation():
            return "<RingBuffer: of the parent process>"
        return f"<RingBuffer: {', '.join(map(str, self.maps))}>"

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check(self) except -1:
        if self.ptr == NULL or self.closing:
            raise ValueError("the ring buffer is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None, "ring buffer")
        return 0

    cdef int acquire(self) except -1:
        if self.holder == PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, "called from inside a callback of the same ring buffer", None, "ring buffer")
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            raise StateError(_errno.EBUSY, "another thread is reading it", None, "ring buffer")
        self.holder = PyThread_get_thread_ident()
        return 0

    cdef void release(self) noexcept:
        self.holder = 0
        PyThread_release_lock(self.lock)

    def add(self, map, callback=None):
        """Read another map too, a Map or descriptor, with its own callback. Source: ring_buffer__add()."""
        cdef Call call
        cdef Source *source
        cdef Source **grown
        cdef libbpf.ring_buffer *ptr
        cdef int fd, code = 0
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None, not {type(callback).__name__}")
        if isinstance(map, Map):
            if (<Map>map).kind() != RINGBUF:
                raise ValueError(f"{map} is a {map.type.name}, not a RINGBUF")
            fd = (<Map>map).descriptor()
        else:
            fd = map if isinstance(map, int) else map.fileno()
        if self.opened:
            self.check()
        self.acquire()
        try:
            grown = <Source **>realloc(self.sources, (self.source_count + 1) * sizeof(Source *))
            if grown != NULL:
                self.sources = grown
            source = <Source *>realloc(NULL, sizeof(Source))
            if grown == NULL or source == NULL:
                free(source)
                raise MemoryError()
            source.block = &self.block
            source.index = self.source_count
            self.sources[self.source_count] = source
            # libbpf keeps the number only: ours stays valid whatever happens to the map's.
            try:
                fd = duplicate_fd(fd)
            except BaseException:
                free(source)
                raise
            enter(&call, NULL)
            if self.ptr == NULL:
                ptr = libbpf.ring_buffer__new(fd, on_sample, source, NULL)
                if ptr == NULL:
                    code = -errno
                else:
                    self.ptr = ptr
            else:
                code = libbpf.ring_buffer__add(self.ptr, fd, on_sample, source)
            if code < 0:
                close_fd(fd)
                free(source)
            finish(&call, code, "open ring buffer on", map)
            self.opened = True
            self.source_count += 1
            self.fds.append(fd)
            self.callbacks.append(callback)
            self.maps.append(map)
            self.capacity += map.max_entries if isinstance(map, Map) else 1 << 24
            if isinstance(map, Map) and (<Map>map).handle is not None:
                self.belong((<Map>map).handle)
        finally:
            self.release()

    cdef int belong(self, Handle handle) except -1:
        """Be closed with the object."""
        if handle.rings is None:
            handle.rings = {}
        handle.rings[id(self)] = _ref(self)
        return 0

    @property
    def closed(self):
        """True after close()."""
        return self.ptr == NULL

    def fileno(self):
        """The epoll descriptor, readable when records wait, owned by the ring buffer. Source: ring_buffer__epoll_fd()."""
        self.check()
        return libbpf.ring_buffer__epoll_fd(self.ptr)

    def _check_outside(self, operation):
        """StateError if this is inside a callback of this ring buffer."""
        if self.holder == PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, "called from inside a callback of the same ring buffer", operation, "ring buffer")

    def close(self):
        """Free the ring buffer; wakes a thread that waits for records and waits for it to leave; twice does nothing.

        Records that were taken from the ring and not yet delivered are lost.
        """
        cdef uint64_t one = 1
        if self.ptr == NULL and self.wake_fd < 0:
            return
        self._check_outside("close")
        if self.generation == fork_generation():
            self.closing = True
            write(self.wake_fd, &one, sizeof(one))
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
            self.free_all()
            PyThread_release_lock(self.lock)
        else:
            self.free_all()
        for item in self.maps:
            if isinstance(item, Map) and (<Map>item).handle.rings is not None:
                (<Map>item).handle.rings.pop(id(self), None)
        self.maps = []
        self.callbacks = []

    # Filling the block

    cdef int fill(self, size_t limit) except -1:
        """Copy up to `limit` records out of the rings, when all of the block is delivered."""
        cdef int code
        cdef Block *block = &self.block
        if block.next < block.count:
            return 0
        block.next = block.count = block.used = 0
        block.limit = limit if limit < <size_t>BLOCK_RECORDS else <size_t>BLOCK_RECORDS
        with nogil:
            code = libbpf.ring_buffer__consume(self.ptr)
        if code < 0 and code != -ECANCELED:
            if code == -ENOMEM:
                raise MemoryError("a record was lost for want of memory")
            fail(-code, "consume", "ring buffer")
        return 0

    cdef bint wait(self, object deadline) except -1:
        """Sleep until records come (true), or the deadline does (false)."""
        cdef pollfd fds[2]
        cdef int left, ready
        fds[0].fd = libbpf.ring_buffer__epoll_fd(self.ptr)
        fds[1].fd = self.wake_fd
        fds[0].events = fds[1].events = POLLIN
        while True:
            left = milliseconds(deadline)
            with nogil:
                ready = poll(fds, 2, left)
                if ready < 0:
                    ready = -errno
            if self.closing:
                raise ValueError("the ring buffer was closed while waiting")
            if ready > 0:
                return True
            if ready == 0 and milliseconds(deadline) == 0:
                return False
            if ready == 0:
                continue            # longer than poll(2) can wait at once
            if ready != -EINTR:
                fail(-ready, "wait for", "ring buffer")
            PyErr_CheckSignals()

    cdef object take(self):
        """The next record of the block, and which source it is from."""
        cdef Record *record = &self.block.records[self.block.next]
        self.block.next += 1
        return PyBytes_FromStringAndSize(self.block.data + record.offset, record.size)

    cdef Py_ssize_t deliver(self, size_t limit) except -1:
        """Call callbacks with what the block holds; return how many records that were."""
        cdef Py_ssize_t delivered = 0
        cdef int source
        while self.block.next < self.block.count and <size_t>delivered < limit:
            source = self.block.records[self.block.next].source
            callback = self.callbacks[source]
            if callback is None:
                raise TypeError(f"{self.maps[source]} has no callback; give one, or iterate over the ring buffer")
            callback(self.take())
            delivered += 1
        return delivered

    cdef Py_ssize_t drain(self, size_t limit) except -1:
        """Deliver what is there, but no more than the rings can hold at once: producers may be faster than we are."""
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t delivered
        self.block.consumed = 0
        while <size_t>total < limit:
            self.fill(limit - total)
            delivered = self.deliver(limit - total)
            total += delivered
            if delivered == 0 or self.block.consumed >= self.capacity:
                break
            PyErr_CheckSignals()
        return total

    def consume(self, max_records=None):
        """Call the callbacks with all records that wait, at most ``max_records``; return their number. Never sleeps.

        Stops after as many bytes as the rings can hold, however fast programs produce. Source: ring_buffer__consume().
        """
        if max_records is not None and max_records < 1:
            raise ValueError(f"max_records is 1 or more, not {max_records}")
        cdef size_t limit = <size_t>-1 if max_records is None else max_records
        self.check()
        self.acquire()
        try:
            return self.drain(limit)
        finally:
            self.release()

    def poll(self, timeout=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, call the callbacks, return their number.

        Returns at once if records wait, including those sent without a wake-up; signals are handled while it waits.
        Source: ring_buffer__poll().
        """
        cdef Py_ssize_t total
        deadline = deadline_of(timeout)
        self.check()
        self.acquire()
        try:
            while True:
                total = self.drain(<size_t>-1)
                # A record that is reserved and not yet submitted wakes us, and is not there.
                if total or not self.wait(deadline):
                    return total
        finally:
            self.release()

    def records(self, timeout=None):
        """Iterate over records as bytes, for ``timeout`` seconds in all (None: for ever, 0: those that wait)."""
        self.check()
        deadline = deadline_of(timeout)
        record = self.next_record(deadline)
        while record is not None:
            yield record
            # What waits when time is up still comes, but not what is sent meanwhile.
            if deadline is not None and self.block.next == self.block.count and _monotonic() >= deadline:
                return
            record = self.next_record(deadline)

    def __iter__(self):
        return self.records()

    cdef object next_record(self, object deadline):
        self.check()
        self.acquire()
        try:
            while self.block.next == self.block.count:
                self.fill(BLOCK_RECORDS)
                if self.block.next == self.block.count and not self.wait(deadline):
                    return None
            return self.take()
        finally:
            self.release()
