"""What ring buffers and perf buffers have in common: who reads, how one waits, and the ways to read."""
import errno as _errno
from _weakref import ref as _ref

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from posix.time cimport timespec
from posix.unistd cimport close as close_fd, usleep, write

from .block cimport Pool
from .c.system cimport EFD_CLOEXEC, EFD_NONBLOCK, POLLIN, eventfd, pollfd, ppoll
from .deadline cimport deadline_of, limit_of, now
from .delivery cimport NativeCallback
from .dispatch cimport TaggedType, split, tagged_type
from .errors cimport fail
from .feed cimport Feed
from .handle cimport Handle, fork_generation
from .map cimport Map
from .record cimport StructType, record_type
from .recordbatch cimport RecordBatch

from .errors import StateError
from .record import named_type

cdef enum:
    LONGEST_NAP = 1000          # microseconds, where there is nothing to be woken by

CONSUMER = <unsigned long>-1


@cython.no_gc_clear     # finalizers of what is collected with it may still call it
cdef class Reader:
    """What RingBuffer and PerfBuffer have in common."""

    def __cinit__(self):
        self.epoll_fd = self.wake_fd = -1
        self.generation = fork_generation()
        self.feeds = []
        self.pool = Pool.__new__(Pool)
        self._interval = 1e-3

    def __init__(self, *_, **__):
        raise TypeError("make a RingBuffer or a PerfBuffer")

    def __dealloc__(self):
        self.close_wake()

    cdef void close_wake(self) noexcept:
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        self.wake_fd = -1

    cdef int open_wake(self) except -1:
        if self.wake_fd < 0:
            self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            fail(errno, "open", self.what)
        return 0

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    async def __aenter__(self):
        from .aio import AsyncReader
        self.check()
        return AsyncReader(self)

    async def __aexit__(self, *_):
        self.close()

    # Who reads

    cdef int check(self) except -1:
        if self.is_closed or self.closing or not self.opened:
            raise ValueError(f"the {self.what} is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None, self.what)
        return 0

    cdef int check_child(self) except -1:
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "a callback of the parent process does not go on in a child", None, self.what)
        return 0

    cdef int hold(self) except -1:
        if self.holder == 0 and self.loan == NULL:
            self.holder = PyThread_get_thread_ident()
            return 0
        self.check_outside(None)
        if self.holder == CONSUMER:
            raise StateError(_errno.EBUSY, "a consumer is reading it: stop that first", None, self.what)
        if self.holder:
            raise StateError(_errno.EBUSY, "another thread is reading it", None, self.what)
        raise StateError(_errno.EBUSY, "its records are borrowed: give them back first", None, self.what)

    cdef int acquire(self) except -1:
        self.check()
        return self.hold()

    cdef void release(self) noexcept:
        self.holder = 0

    def _check_outside(self, operation):
        """StateError if this is inside a callback of it."""
        self.check_outside(operation)

    cdef int check_outside(self, object operation) except -1:
        if self.holder == PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, f"called from inside a callback of the same {self.what}", operation, self.what)
        return 0

    # Its end

    cdef int belong(self, object map) except -1:
        """Be closed with the object."""
        cdef Handle handle = (<Map>map).handle if isinstance(map, Map) else None
        if handle is not None:
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

    def close(self):
        """Free it. A thread that waits for records gets ValueError; one that is in a callback is waited for.

        What was not consumed stays in a ring buffer's map for the next one, and is lost with a perf buffer, which is taken
        out of its map. Arrays and views of borrowed records live on. Signals are handled while it waits; if their handler
        raises, what is left to do is done by another close(). Twice does nothing.
        """
        cdef uint64_t one = 1
        cdef unsigned int nap = 50
        if self.is_closed or not self.opened:
            return
        if self.generation == fork_generation():
            self.check_outside("close")
            self.closing = True
            self.halt()
            while self.holder and self.generation == fork_generation():
                write(self.wake_fd, &one, sizeof(one))
                with nogil:
                    usleep(nap)
                nap = min(2 * nap, <unsigned int>LONGEST_NAP)
                PyErr_CheckSignals()
        if self.is_closed:              # another thread was faster
            return
        self.is_closed = True
        parked = self.parked
        self.parked = None
        self.holder = PyThread_get_thread_ident()       # a lease that another thread gives back now has to wait
        try:
            self.shut()
        finally:
            self.release()
        self.close_wake()
        if parked is not None:
            parked()

    cdef int halt(self) except -1:
        """End the Consumer."""
        consumer = None if self.consumer is None else self.consumer()
        if consumer is not None:
            consumer._halt()
        return 0

    cdef int shut(self) except -1:
        return 0

    # Waiting

    def fileno(self):
        """An epoll descriptor, readable when records wait, which stays ours.

        Of a perf buffer it is readable once for each wake-up: read until nothing is left before you wait for it again.
        Source: ring_buffer__epoll_fd(), perf_buffer__epoll_fd().
        """
        self.check()
        return self.epoll_fd

    cdef bint waits(self) noexcept:
        cdef Feed feed
        for feed in self.feeds:
            if feed.waits():
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
                raise ValueError(f"the {self.what} was closed while waiting")
            if ready < 0 and ready != -EINTR:
                fail(-ready, "wait for", self.what)
            PyErr_CheckSignals()
            self.check_child()
            rest = ready > 0
        return True

    # Callbacks

    cdef Py_ssize_t deliver(self, Py_ssize_t at, size_t limit, double until) except -1:
        return 0

    cdef Py_ssize_t drain(self, size_t limit, double until) except -1:
        """Call back for what waits now: producers may be faster than we are."""
        cdef Py_ssize_t count = len(self.feeds)
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t at
        cdef Py_ssize_t first = self.first
        cdef double begun = now()
        try:
            for at in range(count):
                # Where the last call had to stop, the next one has its turn.
                self.first = (first + at) % count
                total += self.deliver(self.first, limit - total, until)
                self.check_child()
                if <size_t>total >= limit or (until and now() >= until):
                    self.first = (self.first + 1) % count
                    break
            else:
                self.first = 0
        except BaseException:
            self.callback_seconds += now() - begun
            raise
        if total:
            self.callback_seconds += now() - begun
        return total

    def consume(self, max_records=None, *, max_time=None):
        """Call the callbacks with all records that wait, at most ``max_records``; return their number. Never sleeps.

        Records that come meanwhile are left for the next call, but for those of maps whose turn comes later, and so is what
        waits after ``max_time`` seconds. Source: ring_buffer__consume(), perf_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double until = 0 if max_time is None else deadline_of(max_time, "max_time")
        self.acquire()
        try:
            return self.drain(limit, until)
        finally:
            self.release()

    def poll(self, timeout=None, max_records=None, *, max_time=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, call the callbacks, return their number.

        Returns at once if records wait, including those sent without a wake-up; signals are handled while it waits.
        ``max_records`` and ``max_time``, seconds from the first record on, are as for consume(). Source:
        ring_buffer__poll(), perf_buffer__poll().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double deadline = deadline_of(timeout)
        cdef Py_ssize_t total
        if max_time is not None:
            deadline_of(max_time, "max_time")
            max_time = float(max_time)
        self.acquire()
        try:
            while True:
                total = self.drain(limit, 0 if max_time is None else deadline_of(max_time, "max_time"))
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
        iterator.reader = self
        return iterator

    def __iter__(self):
        return self.records()

    cdef object take(self, Py_ssize_t at):
        return None

    cdef object next_record(self, RecordIterator iterator):
        """The next record, or None when time is up: what waits then still comes, but not what is sent meanwhile."""
        cdef Feed feed
        self.acquire()
        try:
            while True:
                while iterator.at < len(self.feeds):
                    record = self.take(iterator.at)
                    if record is not None:
                        return record
                    iterator.at += 1
                if iterator.begun and now() >= iterator.deadline:
                    return None
                if not self.wait(iterator.deadline):
                    return None
                for feed in self.feeds:
                    feed.mark()
                iterator.at = 0
                iterator.begun = True
        finally:
            self.release()

    # Batches

    cdef object read(self, size_t limit, size_t limit_bytes, object into):
        return None

    def read_batch(self, max_records=None, max_bytes=None, timeout=None, into=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, and return all that wait, copied at once.

        A structured numpy array where there is a type, else a RecordBatch; empty when time is up. With dispatch it is a dict
        of these by tag, where None stands for records that are of none of the types. ``max_records`` and
        ``max_bytes``, of records without headers, say how much at most. The array is the caller's; with ``into``, an array
        of the type or any writable buffer, it is the part of that which was filled. A record of another size than the
        type's ends the batch before it, and is a RecordError when it comes first. Runs without the GIL. Source:
        ring_buffer__consume(), perf_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef size_t limit_bytes = limit_of(max_bytes, "max_bytes")
        cdef double deadline = deadline_of(timeout)
        self.acquire()
        try:
            while True:
                batch = self.read(limit, limit_bytes, into)
                if len(batch) or not self.wait(deadline):
                    break
        finally:
            self.release()
        return told_apart(batch, self.pool)

    # By a thread of its own

    cdef StructType only_type(self):
        return None

    def start(self, target=None, *, block_records=4096, blocks=16, policy="wait"):
        """Start a Consumer: a thread that drains the buffer without the GIL into up to ``blocks`` arrays of records.

        ``target`` is called with each array, on a Python thread; without one, iterate over the Consumer. When all blocks are
        full, the policy "wait" leaves records where they are, until programs find no room, and "overwrite" gives up the oldest
        block. Until it is stopped nobody else reads. Needs a type. Source: ring_buffer__consume(), perf_buffer__consume().
        """
        from .consumer import start
        self.check()
        return start(self, target, block_records, blocks, policy)

    cdef StructType type_of_feed(self, Py_ssize_t at):
        return self.only_type()

    # In an event loop

    def read_batch_async(self, max_records=None, max_bytes=None, timeout=None, into=None):
        """read_batch() to be awaited in the running event loop, asyncio's or another with add_reader().

        One task at a time waits. Cancelled while it waits, it has taken nothing.
        """
        from .aio import read_batch
        limit_of(max_records, "max_records")
        limit_of(max_bytes, "max_bytes")
        deadline_of(timeout)
        self.check()
        return read_batch(self, max_records, max_bytes, timeout, into)

    def __aiter__(self):
        from .aio import AsyncRecords
        self.check()
        return AsyncRecords(self)

    def _waits(self):
        """Whether records wait. True also if there is somebody in the way: who reads then is told."""
        self.check()
        return self.holder != 0 or self.loan != NULL or self.waits()

    def _park(self, wake):
        """Have `wake` called by close(), while someone waits in an event loop; None: no one does."""
        if wake is not None and self.parked is not None:
            raise StateError(_errno.EBUSY, "another task is waiting for it", None, self.what)
        self.parked = wake


cdef object told_apart(object batch, Pool pool):
    if isinstance(batch, RecordBatch) and isinstance((<RecordBatch>batch).type, TaggedType):
        return split(<RecordBatch>batch, <TaggedType>(<RecordBatch>batch).type, pool)
    return batch


cdef object type_of(object map, object type, object dispatch, object tag, bint tail):
    if (dispatch is None) != (tag is None) or (dispatch is not None and type is not None):
        raise TypeError("give a type, or dispatch and tag, or nothing")
    if dispatch is None:
        return record_type(by_name(map, type, tail), tail)
    return tagged_type({number: by_name(map, each, tail) for number, each in dict(dispatch).items()}, tag, tail)


cdef object by_name(object map, object type, bint tail):
    if not isinstance(type, str):
        return type
    from .btf import btf_of
    handle = (<Map>map).handle if isinstance(map, Map) else None
    return named_type(None if handle is None else btf_of(handle), type, tail)


cdef int check_callback(object callback, str what) except -1:
    if callback is not None and not isinstance(callback, NativeCallback) and not callable(callback):
        raise TypeError(f"{what} must be callable or None, not {type(callback).__name__}")
    return 0


cdef list rotated(Reader reader):
    if len(reader.feeds) == 1:
        return reader.feeds
    reader.first = (reader.first + 1) % len(reader.feeds)
    return reader.feeds[reader.first:] + reader.feeds[:reader.first]


@cython.final
cdef class RecordIterator:
    """Iterates over records, with ``for`` or ``async for``."""

    def __init__(self):
        raise TypeError("iterators over records are made by records()")

    def __iter__(self):
        return self

    def __next__(self):
        record = self.reader.next_record(self)
        if record is None:
            raise StopIteration
        return record

    def __aiter__(self):
        from .aio import AsyncRecords
        return AsyncRecords(self.reader, self.deadline)
