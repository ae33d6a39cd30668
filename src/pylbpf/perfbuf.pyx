"""Perf buffers: records from BPF programs, on kernels and in programs that have no ring buffers."""
import errno as _errno
from _weakref import ref as _ref

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd, usleep, write

from .attach cimport duplicate_fd
from .block cimport Pool
from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .deadline cimport deadline_of, limit_of, milliseconds, now
from .delivery cimport NativeCallback
from .dispatch cimport TaggedType, split, tagged_type
from .errors cimport fail, finish
from .handle cimport Handle, fork_generation
from .map cimport Map
from .paths cimport number_of
from .perfevent cimport event_attr, online_cpus
from .perfring cimport (
    PerfRing, PERF_LOST, PERF_OTHER, PERF_SAMPLE, fit, perf_begin, perf_commit, perf_event, perf_look, perf_step,
    perf_waits, perf_walk, read_any, read_structs,
)
from .record cimport RecordType, StructType, plain, record_type
from .recordbatch cimport RecordBatch
from .ring cimport ring_record
from .targets cimport descriptor_of

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    short POLLIN

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/perf_event.h>" nogil:
    unsigned long PERF_EVENT_IOC_PAUSE_OUTPUT

cdef enum:
    PERF_EVENT_ARRAY = 4
    # What libbpf makes its events of: enum perf_type_id, perf_sw_ids, perf_event_sample_format.
    SOFTWARE = 1
    BPF_OUTPUT = 10
    SAMPLE_RAW = 1 << 10
    SCRATCH = 1 << 16           # the longest event
    SLICE = 4096                # records in C between two looks for signals and at the clock


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


@cython.final
@cython.no_gc_clear     # the collector must not take the rings before __dealloc__ has freed them
cdef class PerfBuffer:
    """Reads what programs send with bpf_perf_event_output(): one buffer for each CPU, behind one PERF_EVENT_ARRAY map.

    It is used as RingBuffer is. ``pages`` (a power of 2) is the size of each buffer. Records are ``bytes``, or of a
    ``type``, or of several with ``dispatch`` and ``tag``; ``tail`` allows them to be longer than their type. The kernel
    fills samples up: as bytes they end in up to 7 more of any value, which a type cuts off. ``callback`` is called with each
    record by poll() and consume(), or with ``batches`` with what read_batch() would return; a NativeCallback without the
    GIL. ``lost``, called as ``lost(cpu, count)``, is told by the same of records for which there was no room; stats()
    counts them in any case.

    ``cpus`` are all that are online, as far as the map has room, unless you name them; ``keys`` are their places in
    the map, else their numbers. CPUs that come later are not read. A wake-up comes with each ``wakeup_events`` records,
    or with ``watermark`` bytes; those that wait without are there for the next call. ``raw`` gives each event as a
    PerfRecord. ``attr`` is a whole struct perf_event_attr, as bytes, to open other events than those of programs:
    their samples are raw.

    One thread at a time: a second one, and a call from inside a callback, get StateError. An exception of a callback ends
    the call and comes out of it; that record counts as consumed, those behind it come with the next call. Records come
    CPU by CPU, not in order of time. The map, with its object, is kept; closing the object closes it, and closing it
    takes it out of the map. Minimum kernel 4.4. Source: perf_buffer__new_raw(), perf_buffer__buffer(), which maps
    the memory that this reads.
    """

    cdef libbpf.perf_buffer *ptr
    cdef object map
    cdef list rings                 # PerfRing, one for each CPU
    cdef RecordType type
    cdef object callback, lost_callback
    cdef bint batches, raw
    cdef Pool pool
    cdef char *scratch
    cdef int fd, wake_fd
    cdef unsigned int generation
    cdef unsigned long holder       # the thread that reads, 0 for none; changed with the GIL only
    cdef bint closing
    cdef double callback_seconds
    cdef Py_ssize_t first           # which CPU comes first next time
    cdef object __weakref__

    def __cinit__(self):
        self.fd = self.wake_fd = -1
        self.generation = fork_generation()
        self.rings = []
        self.pool = Pool.__new__(Pool)

    def __init__(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, lost=None,
                 pages=8, cpus=None, keys=None, wakeup_events=1, watermark=None, bint raw=False, attr=None):
        cdef event_attr attributes
        cdef uapi.bpf_map_info info
        cdef uapi.__u32 length = sizeof(info)
        cdef int fd
        if self.ptr != NULL or self.closing:
            raise StateError(_errno.EINVAL, "the perf buffer is open already", None, str(self))
        for function, what in ((callback, "callback"), (lost, "lost")):
            if function is not None and not callable(function) and not (
                    isinstance(function, NativeCallback) and function is callback):
                raise TypeError(f"{what} must be callable or None, not {type_name(function)}")
        if (dispatch is None) != (tag is None) or (dispatch is not None and type is not None):
            raise TypeError("give a type, or dispatch and tag, or nothing")
        raw = raw or attr is not None
        if raw and (type is not None or dispatch is not None):
            raise TypeError("raw events have no type")
        if isinstance(pages, bool) or not isinstance(pages, int):
            raise TypeError(f"pages must be a number, not {type_name(pages)}")
        if pages < 1 or pages & (pages - 1) or pages >= 1 << 31:
            raise ValueError(f"pages must be a power of 2, not {pages}")
        self.type = record_type(type, tail) if dispatch is None else tagged_type(dispatch, tag, tail)
        self.callback = callback
        self.lost_callback = lost
        self.batches = batches
        self.raw = raw
        fill_attributes(&attributes, attr, wakeup_events, watermark)
        if isinstance(map, Map):
            if (<Map>map).kind() != PERF_EVENT_ARRAY:
                raise ValueError(f"{map} is a {map.type.name}, not a PERF_EVENT_ARRAY")
            fd = (<Map>map).descriptor()
        else:
            fd = map if isinstance(map, int) else descriptor_of(map, "map")
        # libbpf keeps the number only, and deletes from the map in the end: ours stays valid whatever happens to the map's.
        self.free_all()
        self.fd = duplicate_fd(fd)
        memset(&info, 0, sizeof(info))
        if bpf.bpf_obj_get_info_by_fd(self.fd, &info, &length) < 0:
            fail(errno, "open perf buffer on", map)
        if cpus is None:
            cpus = [cpu for cpu in online_cpus() if cpu < info.max_entries]
        self.open(map, &attributes, pages, [*cpus], [*(cpus if keys is None else keys)])
        self.map = map
        if isinstance(map, Map) and (<Map>map).handle is not None:
            self.belong((<Map>map).handle)

    cdef int open(self, object map, event_attr *attr, size_t pages, list cpus, list keys) except -1:
        cdef libbpf.perf_buffer_raw_opts opts
        cdef Call call
        cdef PerfRing ring
        cdef int code = 0
        cdef int at
        cdef int count = <int>len(cpus)
        cdef int *numbers
        if count == 0:
            raise ValueError("cpus is empty: there would be no buffer")
        if len(keys) != count or len(set(keys)) != count:
            raise ValueError(f"{count} cpus need as many different keys, not {keys}")
        numbers = <int *>malloc(2 * count * sizeof(int))
        self.scratch = <char *>malloc(SCRATCH)
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        try:
            if numbers == NULL or self.scratch == NULL:
                raise MemoryError()
            if self.wake_fd < 0:
                fail(errno, "open", "perf buffer")
            for at in range(count):
                numbers[at], numbers[count + at] = cpus[at], keys[at]
                if numbers[at] < 0 or numbers[count + at] < 0:
                    raise ValueError(f"CPU {cpus[at]} at {keys[at]}: such numbers cannot be negative")
            memset(&opts, 0, sizeof(opts))
            opts.sz = sizeof(opts)
            opts.cpu_cnt = count
            opts.cpus = numbers
            opts.map_keys = numbers + count
            enter(&call, NULL)
            with nogil:
                self.ptr = libbpf.perf_buffer__new_raw(
                    self.fd, pages, <libbpf.perf_event_attr *>attr, never, NULL, &opts)
                if self.ptr == NULL:
                    code = -errno
            finish(&call, code, "open perf buffer on", map)
            for at in range(count):
                ring = PerfRing.__new__(PerfRing)
                ring.map(self.ptr, at, self.scratch)
                ring.cpu = cpus[at]
                self.rings.append(ring)
        finally:
            free(numbers)
        return 0

    def __dealloc__(self):
        self.free_all()

    cdef void free_all(self) noexcept:
        cdef libbpf.perf_buffer *ptr = self.ptr
        cdef size_t at
        self.ptr = NULL
        self.rings = []
        if ptr != NULL and self.generation == fork_generation():
            with nogil:
                libbpf.perf_buffer__free(ptr)
        elif ptr != NULL:
            # To free it would take the parent's buffers out of the map. Its memory is not mapped here; it stays allocated.
            for at in range(libbpf.perf_buffer__buffer_cnt(ptr)):
                close_fd(libbpf.perf_buffer__buffer_fd(ptr, at))
            close_fd(libbpf.perf_buffer__epoll_fd(ptr))
        free(self.scratch)
        self.scratch = NULL
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        if self.fd >= 0:
            close_fd(self.fd)
        self.fd = self.wake_fd = -1

    cdef int belong(self, Handle handle) except -1:
        """Be closed with the object."""
        if handle.rings is None:
            handle.rings = {}
        handle.rings[id(self)] = _ref(self)
        return 0

    def __repr__(self):
        if self.ptr == NULL:
            return "<PerfBuffer: closed>"
        if self.generation != fork_generation():
            return "<PerfBuffer: of the parent process>"
        return f"<PerfBuffer: {self.map}, {len(self.rings)} CPUs>"

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check(self) except -1:
        if self.ptr == NULL or self.closing:
            raise ValueError("the perf buffer is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None, "perf buffer")
        return 0

    cdef int acquire(self) except -1:
        self.check()
        self._check_outside(None)
        if self.holder:
            raise StateError(_errno.EBUSY, "another thread is reading it", None, "perf buffer")
        self.holder = PyThread_get_thread_ident()
        return 0

    cdef void release(self) noexcept:
        self.holder = 0

    def _check_outside(self, operation):
        """StateError if this is inside a callback of this perf buffer."""
        if self.holder == PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, "called from inside a callback of the same perf buffer", operation, "perf buffer")

    @property
    def closed(self):
        """True after close()."""
        return self.ptr == NULL

    def fileno(self):
        """An epoll descriptor, owned by the perf buffer, for asyncio and select. Source: perf_buffer__epoll_fd().

        It is readable once for each wake-up: read until nothing is left before you wait for it again.
        """
        self.check()
        return libbpf.perf_buffer__epoll_fd(self.ptr)

    def close(self):
        """Free it and take it out of the map; a thread that waits for records gets ValueError; twice does nothing.

        Records that were not read are lost. Source: perf_buffer__free().
        """
        cdef uint64_t one = 1
        cdef Handle handle
        if self.ptr == NULL:
            return
        if self.generation == fork_generation():
            self._check_outside("close")
            self.closing = True
            write(self.wake_fd, &one, sizeof(one))
            while self.holder:
                with nogil:
                    usleep(100)
            if self.ptr == NULL:        # another thread was faster
                return
        self.free_all()
        handle = (<Map>self.map).handle if isinstance(self.map, Map) else None
        if handle is not None and handle.rings is not None:
            handle.rings.pop(id(self), None)
        self.map = self.callback = self.lost_callback = None

    def stats(self):
        """Positions, fill levels, counters and lost records of each CPU, as PerfStats. Any thread may ask."""
        from .perfstats import PerfCpu, PerfStats
        cdef PerfRing ring
        cdef perf_walk walk
        cdef list cpus = []
        self.check()
        for ring in self.rings:
            self.check()                # what comes next may let another thread close it
            perf_begin(&ring.memory, &walk)
            cpus.append(PerfCpu(ring.cpu, walk.position, walk.end, walk.end - walk.position, ring.memory.size,
                                ring.memory.records, ring.memory.bytes, ring.memory.lost, ring.memory.others))
        return PerfStats(tuple(cpus), self.callback_seconds)

    cdef int pause_output(self, int on) except -1:
        cdef PerfRing ring
        self.check()
        for ring in self.rings:
            if ioctl(ring.fd, PERF_EVENT_IOC_PAUSE_OUTPUT, on) < 0:
                fail(errno, "pause", self.map)
        return 0

    def pause(self):
        """Let programs send no more; they are told ENOENT. Minimum kernel 4.7. Source: PERF_EVENT_IOC_PAUSE_OUTPUT
        of perf_event_open()."""
        self.pause_output(1)

    def resume(self):
        """Let programs send again. Source: PERF_EVENT_IOC_PAUSE_OUTPUT of perf_event_open()."""
        self.pause_output(0)

    # Waiting

    cdef bint waits(self) noexcept:
        cdef PerfRing ring
        for ring in self.rings:
            if perf_waits(&ring.memory):
                return True
        return False

    cdef bint wait(self, double deadline) except -1:
        """Sleep until records come (true), or the deadline does (false)."""
        cdef pollfd fds[2]
        cdef int left, ready
        fds[0].fd = libbpf.perf_buffer__epoll_fd(self.ptr)
        fds[1].fd = self.wake_fd
        fds[0].events = fds[1].events = POLLIN
        while not self.waits():
            left = milliseconds(deadline)
            if left == 0:
                return False
            with nogil:
                ready = poll(fds, 2, left)
                if ready < 0:
                    ready = -errno
            if self.closing:
                raise ValueError("the perf buffer was closed while waiting")
            if ready < 0 and ready != -EINTR:
                fail(-ready, "wait for", "perf buffer")
            PyErr_CheckSignals()
        return True

    # Callbacks

    cdef object make(self, PerfRing ring, const perf_event *event):
        """What Python sees of one event."""
        cdef PerfRecord made
        cdef ring_record record
        if not self.raw:
            record.data = event.data
            record.size = event.size
            fit(self.type, &record)
            return self.type.make(None, &record)
        made = PerfRecord.__new__(PerfRecord)
        made.cpu = ring.cpu
        made.type = event.header.type
        made.misc = event.header.misc
        made.data = PyBytes_FromStringAndSize(event.data + 8, event.size - 8)
        return made

    cdef Py_ssize_t deliver_each(self, PerfRing ring, size_t limit, double until) except -1:
        cdef perf_walk walk
        cdef perf_event event
        cdef Py_ssize_t count = 0
        cdef uint64_t lost
        cdef bint deliver
        perf_begin(&ring.memory, &walk)
        while <size_t>count < limit and perf_look(&ring.memory, &walk, self.raw, &event):
            if until and count and now() >= until:
                break
            perf_step(&walk, &event)
            deliver = self.raw or event.kind == PERF_SAMPLE
            lost = event.lost if event.kind == PERF_LOST else 0
            try:
                made = self.make(ring, &event) if deliver else None
            finally:
                perf_commit(&ring.memory, &walk)    # consumed, also if it was of the wrong size
            if lost and self.lost_callback is not None:
                self.lost_callback(ring.cpu, lost)
                self.check_child()
            if deliver:
                count += 1
                self.callback(made)
                self.check_child()
            if count % 64 == 0:
                PyErr_CheckSignals()
        perf_commit(&ring.memory, &walk)
        return count

    cdef int check_child(self) except -1:
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "a callback of the parent process does not go on in a child", None, "perf buffer")
        return 0

    cdef Py_ssize_t deliver_native(self, PerfRing ring, size_t limit, double until) except -1:
        cdef NativeCallback native = self.callback
        cdef perf_walk walk
        cdef perf_event event
        cdef size_t count = 0
        cdef size_t stop
        cdef int code = 0
        cdef bint more = True
        cdef uint64_t lost = 0
        cdef bint raw = self.raw
        perf_begin(&ring.memory, &walk)
        while more and code >= 0 and count < limit and not (until and count and now() >= until):
            stop = min(limit, count + <size_t>SLICE)
            with nogil:
                while count < stop:
                    more = perf_look(&ring.memory, &walk, raw, &event)
                    if not more:
                        break
                    perf_step(&walk, &event)
                    if event.kind == PERF_LOST:
                        lost += event.lost
                    if raw or event.kind == PERF_SAMPLE:
                        count += 1
                        code = native.function(native.pointer, <void *>event.data, event.size)
                        if fork_generation() != self.generation:
                            break
                        perf_commit(&ring.memory, &walk)
                        if code < 0:
                            break
                if fork_generation() == self.generation:    # else the memory is not there
                    perf_commit(&ring.memory, &walk)
            self.check_child()
            PyErr_CheckSignals()
        if lost and self.lost_callback is not None:
            self.lost_callback(ring.cpu, lost)
            self.check_child()
        if code < 0:
            fail(-code, f"call back for record {count} of CPU {ring.cpu} of", self.map)
        return count

    cdef Py_ssize_t drain(self, size_t limit, double until) except -1:
        """Call back for what waits now: producers may be faster than we are."""
        cdef Py_ssize_t count = len(self.rings)
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t at
        cdef Py_ssize_t first = self.first
        cdef double begun = now()
        cdef bint native = isinstance(self.callback, NativeCallback)
        if self.callback is None:
            if self.waits():
                raise TypeError(f"{self.map} has no callback; give one, or iterate over the perf buffer")
            return 0
        try:
            if self.batches and not native:
                batch = self.read(limit, <size_t>-1, None)
                total = len(batch)
                if total:
                    self.callback(self.told_apart(batch))
                return total
            for at in range(count):
                # Where the last call had to stop, the next CPU has its turn.
                self.first = (first + at) % count
                if native:
                    total += self.deliver_native(self.rings[self.first], limit - total, until)
                else:
                    total += self.deliver_each(self.rings[self.first], limit - total, until)
                if <size_t>total >= limit or (until and now() >= until):
                    self.first = (self.first + 1) % count
                    break
            else:
                self.first = 0
        finally:
            self.callback_seconds += now() - begun
        return total

    def consume(self, max_records=None, *, max_time=None):
        """Call the callbacks with all records that wait, at most ``max_records``; return their number. Never sleeps.

        Records that come meanwhile are left for the next call, and so is what waits after ``max_time`` seconds. Source:
        perf_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double until = 0 if max_time is None else deadline_of(max_time)
        self.acquire()
        try:
            return self.drain(limit, until)
        finally:
            self.release()

    def poll(self, timeout=None, max_records=None, *, max_time=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, call the callbacks, return their number.

        Returns at once if records wait, with or without a wake-up; signals are handled while it waits. ``max_records``
        and ``max_time``, seconds from the first record on, are as for consume(). Source: perf_buffer__poll().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef double deadline = deadline_of(timeout)
        cdef Py_ssize_t total
        if max_time is not None:
            deadline_of(max_time)
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
        cdef PerfIterator iterator = PerfIterator.__new__(PerfIterator)
        self.check()
        iterator.deadline = deadline_of(timeout)
        iterator.buffer = self
        return iterator

    def __iter__(self):
        return self.records()

    cdef object next_record(self, PerfIterator iterator):
        """The next record, or None when time is up: what waits then still comes, but not what is sent meanwhile."""
        cdef PerfRing ring
        cdef perf_walk walk
        cdef perf_event event
        self.acquire()
        try:
            while True:
                while iterator.at < len(self.rings):
                    ring = self.rings[iterator.at]
                    perf_begin(&ring.memory, &walk)
                    if ring.seen < walk.end:
                        walk.end = max(ring.seen, walk.position)
                    while perf_look(&ring.memory, &walk, self.raw, &event):
                        perf_step(&walk, &event)
                        if self.raw or event.kind == PERF_SAMPLE:
                            try:
                                return self.make(ring, &event)
                            finally:
                                perf_commit(&ring.memory, &walk)
                    perf_commit(&ring.memory, &walk)
                    iterator.at += 1
                if iterator.begun and now() >= iterator.deadline:
                    return None
                if not self.wait(iterator.deadline):
                    return None
                for ring in self.rings:
                    perf_begin(&ring.memory, &walk)
                    ring.seen = walk.end
                iterator.at = 0
                iterator.begun = True
        finally:
            self.release()

    # Batches

    cdef object read(self, size_t limit, size_t limit_bytes, object into):
        """A batch of what waits now."""
        cdef list rings = self.rings
        self.first = (self.first + 1) % len(rings)
        rings = rings[self.first:] + rings[:self.first]
        if not self.raw and plain(self.type):
            return read_structs(rings, <StructType>self.type, limit, limit_bytes, into, self.pool)
        if into is not None and isinstance(self.type, TaggedType):
            raise TypeError("records of several types cannot go into one array")
        return read_any(rings, self.type, self.raw, limit, limit_bytes, into, self.pool)

    cdef object told_apart(self, object batch):
        if isinstance(self.type, TaggedType):
            return split(<RecordBatch>batch, <TaggedType>self.type, self.pool)
        return batch

    def read_batch(self, max_records=None, max_bytes=None, timeout=None, into=None):
        """Wait up to ``timeout`` seconds (None: for ever) for records, and return all that wait, copied at once.

        A structured numpy array where there is a type, else a RecordBatch; empty when time is up. With dispatch it is a dict
        of these by tag, and with ``raw`` the records are whole events as bytes, with their headers. ``max_records`` and ``max_bytes``, of records without headers, say
        how much at most. The array is the caller's; with ``into``, an array of the type or any writable buffer, it is the
        part of that which was filled. A record of another size than the type's ends the batch before it, and is a
        RecordError when it comes first. Runs without the GIL. Source: perf_buffer__consume().
        """
        cdef size_t limit = limit_of(max_records, "max_records")
        cdef size_t limit_bytes = limit_of(max_bytes, "max_bytes")
        cdef double deadline = deadline_of(timeout)
        self.acquire()
        try:
            while True:
                batch = self.read(limit, limit_bytes, into)
                if len(batch) or not self.wait(deadline):
                    return self.told_apart(batch)
        finally:
            self.release()


cdef int fill_attributes(event_attr *attr, object given, object wakeup_events, object watermark) except -1:
    cdef const unsigned char[::1] view
    memset(attr, 0, sizeof(event_attr))
    if given is not None:
        view = memoryview(given).cast("B")
        if len(view) < 64 or len(view) > <Py_ssize_t>sizeof(event_attr):
            raise ValueError(f"attr has {len(view)} bytes, a struct perf_event_attr from 64 to {sizeof(event_attr)}")
        memcpy(attr, &view[0], len(view))
        attr.size = sizeof(event_attr)
        return 0
    attr.size = sizeof(event_attr)
    attr.type = SOFTWARE
    attr.config = BPF_OUTPUT
    attr.sample_type = SAMPLE_RAW
    if watermark is None:
        attr.wakeup_events = number_of(limit_of(wakeup_events, "wakeup_events"), "wakeup_events")
    else:
        attr.watermark = 1
        attr.wakeup_watermark = number_of(limit_of(watermark, "watermark"), "watermark")
    return 0


cdef libbpf.bpf_perf_event_ret never(void *context, int cpu, libbpf.perf_event_header *event) noexcept nogil:
    """libbpf reads nothing for us."""
    return libbpf.LIBBPF_PERF_EVENT_ERROR


cdef str type_name(object thing):
    return type(thing).__name__


@cython.final
cdef class PerfIterator:
    """Iterates over the records of a perf buffer."""

    cdef PerfBuffer buffer
    cdef double deadline
    cdef Py_ssize_t at          # which CPU
    cdef bint begun

    def __init__(self):
        raise TypeError("iterators over records are made by PerfBuffer.records()")

    def __iter__(self):
        return self

    def __next__(self):
        record = self.buffer.next_record(self)
        if record is None:
            raise StopIteration
        return record
