"""Perf buffers: records from BPF programs, on kernels and in programs that have no ring buffers."""
import errno as _errno

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .deadline cimport limit_of, now
from .delivery cimport FEW, NativeCallback, next_slice, noted
from .dispatch cimport TaggedType
from .errors cimport fail, finish
from .handle cimport fork_generation
from .lease cimport end_lease, make_lease
from .map cimport Map
from .paths cimport number_of
from .perfevent cimport event_attr, online_cpus
from .perfring cimport (
    PerfRing, PERF_LOST, PERF_SAMPLE, perf_begin, perf_commit, perf_event, perf_look, perf_step, perf_walk,
)
from .reader cimport Reader, check_callback, rotated, told_apart, type_of
from .record cimport RecordType, StructType, plain
from .recordbatch cimport read_any, read_structs
from .targets cimport descriptor_of, duplicate_fd

from .errors import StateError
from .perfring import PerfRecord

libbpf.pylbpf_on_missing = note_missing

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


@cython.final
@cython.no_gc_clear     # the collector must not take the rings before __dealloc__ has freed them
cdef class PerfBuffer(Reader):
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
    cdef RecordType type
    cdef object callback, lost_callback
    cdef bint batches, raw
    cdef char *scratch
    cdef int fd

    def __cinit__(self):
        self.what = "perf buffer"
        self.fd = -1

    def __init__(self, map, callback=None, *, type=None, dispatch=None, tag=None, batches=False, tail=False, lost=None,
                 pages=8, cpus=None, keys=None, wakeup_events=1, watermark=None, bint raw=False, attr=None):
        cdef event_attr attributes
        cdef uapi.bpf_map_info info
        cdef uapi.__u32 length = sizeof(info)
        cdef int fd
        if self.opened:
            raise StateError(_errno.EINVAL, "the perf buffer is open already", None, str(self))
        check_callback(callback, "callback")
        if lost is not None and not callable(lost):
            raise TypeError(f"lost must be callable or None, not {type_name(lost)}")
        raw = raw or attr is not None
        if raw and (type is not None or dispatch is not None):
            raise TypeError("raw events have no type")
        if isinstance(pages, bool) or not isinstance(pages, int):
            raise TypeError(f"pages must be a number, not {type_name(pages)}")
        if pages < 1 or pages & (pages - 1) or pages >= 1 << 31:
            raise ValueError(f"pages must be a power of 2, not {pages}")
        self.type = type_of(map, type, dispatch, tag, tail)
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
        self.open_wake()
        self.open(map, &attributes, pages, [*cpus], [*(cpus if keys is None else keys)])
        self.map = map
        self.belong(map)
        self.opened = True

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
        try:
            if numbers == NULL or self.scratch == NULL:
                raise MemoryError()
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
                ring.map_memory(self.ptr, at, self.scratch)
                ring.map = map
                ring.cpu = cpus[at]
                ring.raw = self.raw
                ring.type = self.type
                ring.tagged = self.type if isinstance(self.type, TaggedType) else None
                self.feeds.append(ring)
            self.epoll_fd = libbpf.perf_buffer__epoll_fd(self.ptr)
        finally:
            free(numbers)
        return 0

    def __dealloc__(self):
        self.free_all()

    cdef void free_all(self) noexcept:
        cdef libbpf.perf_buffer *ptr = self.ptr
        cdef size_t at
        self.ptr = NULL
        self.feeds = []
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
        if self.fd >= 0:
            close_fd(self.fd)
        self.fd = self.epoll_fd = -1

    cdef int shut(self) except -1:
        cdef PerfRing ring
        end_lease(self, self.generation == fork_generation())
        for ring in self.feeds:
            ring.lent = None
        self.free_all()
        self.leave(self.map)
        self.map = self.callback = self.lost_callback = None
        return 0

    def __repr__(self):
        if self.ptr == NULL:
            return "<PerfBuffer: closed>"
        if self.generation != fork_generation():
            return "<PerfBuffer: of the parent process>"
        return f"<PerfBuffer: {self.map}, {len(self.feeds)} CPUs>"

    def stats(self):
        """Positions, fill levels, counters and lost records of each CPU, as PerfStats. Any thread may ask."""
        from .readerstats import PerfCpu, PerfStats
        cdef PerfRing ring
        cdef perf_walk walk
        cdef list cpus = []
        self.check()
        for ring in self.feeds:
            self.check()                # what comes next may let another thread close it
            perf_begin(&ring.memory, &walk)
            cpus.append(PerfCpu(ring.cpu, walk.position, walk.end, walk.end - walk.position, ring.memory.size,
                                ring.memory.records, ring.memory.bytes, ring.memory.lost, ring.memory.others))
        return PerfStats(tuple(cpus), self.callback_seconds)

    cdef int pause_output(self, int on) except -1:
        cdef PerfRing ring
        self.check()
        for ring in self.feeds:
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

    # As a Reader

    cdef object take(self, Py_ssize_t at):
        cdef PerfRing ring = self.feeds[at]
        cdef perf_walk walk
        cdef perf_event event
        perf_begin(&ring.memory, &walk)
        if ring.seen < walk.end:
            walk.end = max(ring.seen, walk.position)
        try:
            while perf_look(&ring.memory, &walk, self.raw, &event):
                perf_step(&walk, &event)
                if self.raw or event.kind == PERF_SAMPLE:
                    return ring.make(None, &event)
            return None
        finally:
            perf_commit(&ring.memory, &walk)

    cdef object read(self, size_t limit, size_t limit_bytes, object into):
        if not self.raw and plain(self.type):
            return read_structs(rotated(self), <StructType>self.type, limit, limit_bytes, into, self.pool)
        if into is not None and isinstance(self.type, TaggedType):
            raise TypeError("records of several types cannot go into one array")
        return read_any(rotated(self), self.type, limit, limit_bytes, into, self.pool)

    cdef StructType only_type(self):
        return <StructType>self.type if not self.raw and plain(self.type) else None

    def borrow(self, max_records=None, timeout=None):
        """Records where they lie in the buffer, for a ``with`` block: see Lease. Nothing else reads meanwhile.

        Waits up to ``timeout`` seconds (None: for ever) when the block is entered; the batch is empty when time is up. It
        is of one CPU only, the next that has records, and ends where its buffer ends; a record that is in two pieces there
        is a batch of its own, a copy. A forked child finds zeros in views, for the kernel does not give it that memory.
        Source: mmap() of perf_event_open().
        """
        return make_lease(self, max_records, timeout)

    cdef Py_ssize_t drain(self, size_t limit, double until) except -1:
        cdef double begun = now()
        if self.callback is None:
            if self.waits():
                raise TypeError(f"{self.map} has no callback; give one, or iterate over the perf buffer")
            return 0
        if not self.batches or isinstance(self.callback, NativeCallback):
            return Reader.drain(self, limit, until)
        batch = self.read(limit, <size_t>-1, None)
        if not len(batch):
            return 0
        try:
            self.callback(told_apart(batch, self.pool))
        except BaseException as error:
            noted(error, self.map, len(batch))
            raise
        finally:
            self.callback_seconds += now() - begun
        self.check_child()
        return len(batch)

    cdef Py_ssize_t deliver(self, Py_ssize_t at, size_t limit, double until) except -1:
        if isinstance(self.callback, NativeCallback):
            return self.deliver_native(self.feeds[at], limit, until)
        return self.deliver_each(self.feeds[at], limit, until)

    cdef Py_ssize_t deliver_each(self, PerfRing ring, size_t limit, double until) except -1:
        cdef perf_walk walk
        cdef perf_event event
        cdef Py_ssize_t count = 0
        cdef uint64_t lost
        cdef bint deliver
        made = None
        perf_begin(&ring.memory, &walk)
        try:
            while <size_t>count < limit and perf_look(&ring.memory, &walk, self.raw, &event):
                if until and count and now() >= until:
                    break
                perf_step(&walk, &event)
                deliver = self.raw or event.kind == PERF_SAMPLE
                count += deliver
                lost = event.lost if event.kind == PERF_LOST else 0
                try:
                    if deliver:
                        made = ring.make(made, &event)
                finally:
                    perf_commit(&ring.memory, &walk)    # consumed, also if it was of the wrong size
                if lost and self.lost_callback is not None:
                    self.lost_callback(ring.cpu, lost)
                    self.check_child()
                if deliver:
                    self.callback(made)
                    self.check_child()
                if count % 64 == 0:
                    PyErr_CheckSignals()
                    self.check_child()
        except BaseException as error:
            noted(error, ring, count)
            raise
        perf_commit(&ring.memory, &walk)
        return count

    cdef Py_ssize_t deliver_native(self, PerfRing ring, size_t limit, double until) except -1:
        cdef NativeCallback native = self.callback
        cdef perf_walk walk
        cdef perf_event event
        cdef size_t count = 0
        cdef size_t stop
        cdef size_t slice = FEW
        cdef double begun = now()
        cdef int code = 0
        cdef bint more = True
        cdef uint64_t lost = 0
        cdef bint raw = self.raw
        perf_begin(&ring.memory, &walk)
        while more and code >= 0 and count < limit and not (until and count and begun >= until):
            stop = min(limit, count + slice)
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
            slice = next_slice(slice, &begun)
            PyErr_CheckSignals()
            self.check_child()
        if lost and self.lost_callback is not None:
            self.lost_callback(ring.cpu, lost)
            self.check_child()
        if code < 0:
            try:
                fail(-code, f"call back for record {count} of", ring)
            except BaseException as error:
                noted(error, ring, count)
                raise
        return count


cdef int fill_attributes(event_attr *attr, object given, object wakeup_events, object watermark) except -1:
    cdef const unsigned char[::1] view
    memset(attr, 0, sizeof(event_attr))
    if given is not None:
        view = memoryview(given).cast("B")
        if len(view) < 64 or len(view) > <Py_ssize_t>sizeof(event_attr):
            raise ValueError(f"attr has {len(view)} bytes, a struct perf_event_attr from 64 to {sizeof(event_attr)}")
        memcpy(attr, &view[0], len(view))
        attr.size = sizeof(event_attr)
        if attr.write_backward:
            raise ValueError("attr asks for write_backward: such a buffer is overwritten while it is read, from its other end")
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
