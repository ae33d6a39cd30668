"""User ring buffers: records to BPF programs."""
import errno as _errno
from _weakref import ref as _ref

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
    PyThread_type_lock, WAIT_LOCK,
)
cimport cython
from libc.errno cimport EINTR, ENOSPC, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd, usleep, write

from .c cimport bpf, libbpf, uapi
from .c.system cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLET, EPOLLIN, EPOLLOUT, epoll_create1, epoll_ctl,
    epoll_event, epoll_wait, eventfd,
)
from .call cimport Call, enter, note_missing
from .deadline cimport deadline_of, milliseconds
from .errors cimport fail, finish
from .handle cimport Handle, fork_generation
from .map cimport Map
from .targets cimport descriptor_of, duplicate_fd

from .errors import BpfError, StateError, error_class

libbpf.pylbpf_on_missing = note_missing

cdef const char *FORMAT = b"B"

cdef enum:
    USER_RINGBUF = 31
    HEADER = 8                  # in front of each sample, which begins at a multiple of 8
    # What a struct bpf_dynptr can hold. The kernel stops for ever at a longer sample.
    LONGEST = (1 << 24) - 1
    BURST = 4096                # samples sent without the GIL in one go
    LONGEST_PAUSE = 64          # ms; a program may drain without a wake-up


@cython.final
@cython.no_gc_clear     # what is reserved must be given back to the ring buffer
cdef class UserSample:
    """One reserved place of a user ring buffer: made by reserve(), filled by you, then submitted or discarded.

    ``with ring.reserve(64) as data:`` gives a writable memoryview of the place in the ring itself, format ``B`` and
    zeroed; with ``type=`` a numpy array of shape () of that dtype instead, which is copied into the ring in the end.
    The block submits, or discards if an exception leaves it. After that the memoryview is released (ValueError) and
    the array read-only (ValueError). While another view of the place is in use, such as a slice or an array, it can be
    neither submitted nor discarded: BufferError.

    Programs see samples in the order of reservation: one that is not finished holds back all behind it. A sample that
    is dropped is discarded. ``size`` is its length in bytes. It keeps its ring buffer.
    """

    cdef UserRingBuffer ring
    cdef void *data             # NULL: finished
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t exports
    cdef object view            # weak reference to the memoryview that `with` gave
    cdef object record          # of a type
    cdef bint doomed            # to be discarded when the last view goes

    def __init__(self):
        raise TypeError("samples come from UserRingBuffer.reserve()")

    def __dealloc__(self):
        if self.data != NULL:
            self.commit(True)

    def __repr__(self):
        return f"<UserSample: {self.size} bytes, {'finished' if self.data == NULL else 'reserved'}>"

    cdef void commit(self, bint discard) noexcept:
        cdef void *data = self.data
        self.data = NULL
        self.ring.samples -= 1
        if self.ring.generation != fork_generation():
            return      # it is the parent's
        if discard:
            libbpf.user_ring_buffer__discard(self.ring.ptr, data)
        else:
            self.ring.sent += 1
            libbpf.user_ring_buffer__submit(self.ring.ptr, data)

    cdef int check(self, str operation) except -1:
        if self.data == NULL:
            raise ValueError("the sample was submitted or discarded already")
        self.ring.check()
        return 0

    cdef int finish(self, bint discard, str operation) except -1:
        """Let the program have it, unless somebody could still write into it."""
        cdef Py_buffer buffer
        cdef bint fits
        self.check(operation)
        view = None if self.view is None else self.view()
        if view is not None:
            view.release()      # BufferError if there is a view of the view
        if self.exports:
            raise BufferError(f"cannot {operation} the sample: {self.exports} views of it are in use")
        if self.record is not None:
            self.record.flags.writeable = False
            if not discard:
                PyObject_GetBuffer(self.record, &buffer, PyBUF_SIMPLE)
                fits = buffer.len == self.size
                if fits:
                    memcpy(self.data, buffer.buf, self.size)
                PyBuffer_Release(&buffer)
                if not fits:
                    raise BufferError(f"cannot {operation} the sample: its array was resized")
        self.commit(discard)
        return 0

    def submit(self):
        """Let the program see it; BufferError while views of it are in use. Source: user_ring_buffer__submit()."""
        self.finish(False, "submit")

    def discard(self):
        """Give it up: the program skips it; BufferError as submit(). Source: user_ring_buffer__discard()."""
        self.finish(True, "discard")

    def __enter__(self):
        self.check("use")
        if self.record is not None:
            return self.record
        view = memoryview(self)
        self.view = _ref(view)
        return view

    def __exit__(self, kind, value, traceback):
        if self.data == NULL:
            return
        if kind is None:
            self.finish(False, "submit")
            return
        try:
            self.finish(True, "discard")
        except BufferError:
            self.doomed = True      # and the exception of the block is the one to tell of

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.check("use")
        if self.record is not None:
            raise BufferError("the memory of a sample with a type is that of its array")
        buffer.buf = self.data
        buffer.obj = self
        buffer.len = self.size
        buffer.itemsize = 1
        buffer.readonly = False
        buffer.ndim = 1
        buffer.format = <char *>FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = &self.size if flags & PyBUF_ND else NULL
        buffer.strides = &buffer.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.doomed and self.exports == 0 and self.data != NULL:
            self.commit(True)


@cython.final
@cython.no_gc_clear
cdef class UserRingBuffer:
    """Sends records to BPF programs, which take them with bpf_user_ringbuf_drain().

    ``map`` is a Map of the type USER_RINGBUF, or a descriptor of one. Several threads may send: each call has the ring
    for itself while it copies, none while it waits for room. A forked child may only drop it. close() wakes threads
    that wait for room; while samples are reserved, close() and Object.close() raise BufferError. The map, with its
    object, is kept; closing the object closes it. One process at a time may send to a map: the kernel does not
    arbitrate. ``sent`` counts the samples submitted, ``capacity`` is the size of the ring in bytes, of which each sample
    takes 8 more than its length, rounded up to a multiple of 8. Minimum kernel 6.1. Source: user_ring_buffer__new().
    """

    cdef libbpf.user_ring_buffer *ptr
    cdef object map
    cdef int fd, wake_fd
    cdef readonly size_t capacity
    cdef readonly uint64_t sent
    cdef unsigned int generation
    cdef PyThread_type_lock lock        # for what happens in the ring; short
    cdef size_t samples                 # reserved and not finished
    cdef size_t waiting                 # threads that wait for room
    cdef bint closing
    cdef object __weakref__

    def __cinit__(self):
        self.fd = self.wake_fd = -1
        self.generation = fork_generation()
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError()

    def __init__(self, map):
        cdef Call call
        cdef uapi.bpf_map_info info
        cdef uapi.__u32 length = sizeof(info)
        cdef Handle handle
        cdef int fd, code = 0
        if self.ptr != NULL or self.closing:
            raise StateError(_errno.EINVAL, "the user ring buffer is open already", None, str(self))
        if isinstance(map, Map):
            if (<Map>map).kind() != USER_RINGBUF:
                raise ValueError(f"{map} is a {map.type.name}, not a USER_RINGBUF")
            fd = (<Map>map).descriptor()
        else:
            fd = map if isinstance(map, int) else descriptor_of(map, "map")
        # libbpf keeps the number only: ours stays valid whatever happens to the map's.
        self.free_all()
        self.fd = duplicate_fd(fd)
        memset(&info, 0, sizeof(info))
        if bpf.bpf_obj_get_info_by_fd(self.fd, &info, &length) < 0:
            fail(errno, "open user ring buffer on", map)
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            fail(errno, "open user ring buffer on", map)
        enter(&call, NULL)
        self.ptr = libbpf.user_ring_buffer__new(self.fd, NULL)
        if self.ptr == NULL:
            code = -errno
        finish(&call, code, "open user ring buffer on", map)
        self.capacity = info.max_entries
        self.map = map
        handle = (<Map>map).handle if isinstance(map, Map) else None
        if handle is not None:
            # Be closed with the object.
            if handle.rings is None:
                handle.rings = {}
            handle.rings[id(self)] = _ref(self)

    def __dealloc__(self):
        self.free_all()
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef void free_all(self) noexcept:
        if self.ptr != NULL:
            libbpf.user_ring_buffer__free(self.ptr)     # unmaps; in a forked child that is its own mapping
            self.ptr = NULL
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        if self.fd >= 0:
            close_fd(self.fd)
        self.fd = self.wake_fd = -1

    def __repr__(self):
        if self.ptr == NULL:
            return "<UserRingBuffer: closed>"
        if self.generation != fork_generation():
            return "<UserRingBuffer: of the parent process>"
        return f"<UserRingBuffer: {self.map}>"

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, value, traceback):
        try:
            self.close()
        except BufferError:
            if kind is None:
                raise

    cdef int check(self) except -1:
        if self.ptr == NULL or self.closing:
            raise ValueError("the user ring buffer is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None,
                             "user ring buffer")
        return 0

    @property
    def closed(self):
        """True after close()."""
        return self.ptr == NULL

    def _check_outside(self, operation):
        """BufferError while samples are reserved."""
        if self.samples and self.generation == fork_generation():
            raise BufferError(f"cannot {operation} the user ring buffer: {self.samples} samples of it are not finished")

    def close(self):
        """Free it and wake the threads that wait for room, which get ValueError; twice does nothing.

        BufferError while samples are reserved. What was sent stays in the map. Source: user_ring_buffer__free().
        """
        cdef uint64_t one = 1
        cdef Handle handle
        if self.ptr == NULL:
            return
        self._check_outside("close")
        if self.generation == fork_generation():
            if not self.closing:
                self.closing = True
                write(self.wake_fd, &one, sizeof(one))
            while self.waiting:
                with nogil:
                    usleep(100)
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
            self.free_all()
            PyThread_release_lock(self.lock)
        else:
            self.free_all()
        handle = (<Map>self.map).handle if isinstance(self.map, Map) else None
        if handle is not None and handle.rings is not None:
            handle.rings.pop(id(self), None)
        self.map = None

    # Room

    cdef int check_size(self, Py_ssize_t size) except -1:
        cdef size_t longest = min(self.capacity - HEADER, <size_t>LONGEST)
        if size < 0:
            raise ValueError(f"a sample has 0 bytes or more, not {size}")
        if <size_t>size > longest:
            raise ValueError(f"a sample of {size} bytes is too long: at most {longest} in a ring of {self.capacity}")
        return 0

    cdef int acquire(self) except -1:
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        if self.ptr == NULL or self.closing:
            PyThread_release_lock(self.lock)
        return self.check()

    cdef void *try_take(self, Py_ssize_t size) except? NULL:
        """Reserve if there is room; NULL if not."""
        cdef void *data
        cdef int code
        self.acquire()
        data = libbpf.user_ring_buffer__reserve(self.ptr, <uint32_t>size)
        code = errno
        PyThread_release_lock(self.lock)
        if data == NULL and code != ENOSPC:
            fail(code, "reserve in", "user ring buffer")
        return data

    cdef void *take(self, Py_ssize_t size, double deadline) except? NULL:
        """Reserve, and wait for room until the deadline; NULL if there is none by then.

        Nothing may happen between this and the use of the result: close() does not know of it yet.
        """
        cdef epoll_event event
        cdef int epoll, ready, left
        cdef int pause = 1
        cdef void *data = self.try_take(size)
        if data != NULL or milliseconds(deadline) == 0:
            return data
        epoll = epoll_create1(EPOLL_CLOEXEC)
        if epoll < 0:
            fail(errno, "wait for", "user ring buffer")
        self.waiting += 1
        try:
            event.events = EPOLLIN
            ready = epoll_ctl(epoll, EPOLL_CTL_ADD, self.wake_fd, &event)
            if ready == 0:
                # By the edge: the map counts as writable as long as there is room for a single byte.
                event.events = EPOLLOUT | EPOLLET
                ready = epoll_ctl(epoll, EPOLL_CTL_ADD, self.fd, &event)
            if ready < 0:
                fail(errno, "wait for", "user ring buffer")
            while True:
                if self.closing:
                    raise ValueError("the user ring buffer was closed while waiting")
                data = self.try_take(size)
                left = milliseconds(deadline)
                if data != NULL or left == 0:
                    return data
                left = min(left, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                with nogil:
                    ready = epoll_wait(epoll, &event, 1, left)
                    if ready < 0:
                        ready = -errno
                if ready < 0 and ready != -EINTR:
                    fail(-ready, "wait for", "user ring buffer")
                PyErr_CheckSignals()
        finally:
            self.waiting -= 1
            close_fd(epoll)

    cdef int full(self, object timeout) except -1:
        if timeout is None or timeout > 0:
            raise error_class(_errno.ETIMEDOUT)(_errno.ETIMEDOUT, f"no room within {timeout} s", "reserve in",
                                                "user ring buffer")
        raise BpfError(_errno.ENOSPC, "no room: no program has drained it", "reserve in", "user ring buffer")

    # Samples

    def reserve(self, size=None, *, type=None, timeout=0):
        """Reserve ``size`` bytes, or a record of ``type``; return a UserSample, to be used with ``with``.

        ``type`` is a numpy dtype or what makes one, such as a ctypes structure. Without room it raises BpfError
        (ENOSPC) at once, or with a ``timeout`` in seconds (None: for ever) TimeoutError after that; signals are
        handled meanwhile. ValueError if it could never fit: a sample has at most 8 bytes less than the ring, and
        16 MiB - 1. Source: user_ring_buffer__reserve().
        """
        cdef UserSample sample
        cdef Py_ssize_t length
        cdef double deadline = deadline_of(timeout)
        record = None
        if type is not None:
            if size is not None:
                raise TypeError("give either the size of a sample or its type")
            import numpy
            record = numpy.zeros((), type)
            if record.dtype.hasobject:
                raise TypeError(f"{record.dtype} has Python objects in it: a program cannot read them")
            length = record.nbytes
        elif size is None:
            raise TypeError("give the size of a sample, or its type")
        else:
            length = size
        self.check()
        self.check_size(length)
        sample = UserSample.__new__(UserSample)
        sample.ring = self
        sample.size = length
        sample.record = record
        sample.data = self.take(length, deadline)
        if sample.data == NULL:
            self.full(timeout)
        self.samples += 1
        memset(sample.data, 0, length)
        return sample

    def send(self, data, *, timeout=0):
        """Copy ``data``, any bytes-like object, into a sample and submit it; errors as reserve().

        Source: user_ring_buffer__reserve(), user_ring_buffer__submit().
        """
        cdef Py_buffer buffer
        cdef void *place
        cdef double deadline = deadline_of(timeout)
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            self.check()
            self.check_size(buffer.len)
            place = self.take(buffer.len, deadline)
            if place == NULL:
                self.full(timeout)
            memcpy(place, buffer.buf, buffer.len)
            libbpf.user_ring_buffer__submit(self.ptr, place)
            self.sent += 1
        finally:
            PyBuffer_Release(&buffer)

    def send_many(self, records, *, size=None, timeout=0):
        """Send each item of an array as a sample of its own; return how many were sent.

        ``records`` is any C-contiguous buffer: of shape (n, ...), one sample for each of the n, such as a structured
        numpy array; or of single bytes with ``size``, cut into samples of that many. Copies without the GIL. When the
        ring is full it waits up to ``timeout`` seconds in all (None: for ever) for more room, and then stops: the
        result is less than n. If a signal handler raises meanwhile, ``sent`` tells how far it came.
        Source: user_ring_buffer__reserve(), user_ring_buffer__submit().
        """
        cdef Py_buffer buffer
        cdef Py_ssize_t length, count, burst
        cdef Py_ssize_t done = 0
        cdef void *place
        cdef double deadline = deadline_of(timeout)
        cdef Py_ssize_t wanted = -1 if size is None else size
        PyObject_GetBuffer(records, &buffer, PyBUF_C_CONTIGUOUS)
        try:
            if wanted >= 0:
                if wanted == 0 or buffer.len % wanted:
                    raise ValueError(f"{buffer.len} bytes cannot be cut into samples of {wanted}")
                length = wanted
                count = buffer.len // wanted
            elif size is not None:
                raise ValueError(f"a sample has 1 byte or more, not {wanted}")
            elif buffer.ndim == 0 or buffer.ndim == 1 and buffer.itemsize == 1:
                raise ValueError("not an array of records: give size= to cut bytes into samples")
            else:
                count = buffer.shape[0]
                length = buffer.len // count if count else 0
            self.check()
            self.check_size(length)
            while done < count:
                self.acquire()
                burst = min(count - done, <Py_ssize_t>BURST)
                with nogil:
                    burst = send_burst(self.ptr, <const char *>buffer.buf + done * length, length, burst)
                self.sent += burst
                done += burst
                PyThread_release_lock(self.lock)
                if done == count:
                    break
                PyErr_CheckSignals()
                place = self.take(length, deadline)
                if place == NULL:
                    break
                memcpy(place, <const char *>buffer.buf + done * length, length)
                libbpf.user_ring_buffer__submit(self.ptr, place)
                self.sent += 1
                done += 1
            return done
        finally:
            PyBuffer_Release(&buffer)


cdef Py_ssize_t send_burst(libbpf.user_ring_buffer *ring, const char *data, Py_ssize_t length,
                           Py_ssize_t count) noexcept nogil:
    """Send until the ring is full; return how many."""
    cdef Py_ssize_t at
    cdef void *place
    for at in range(count):
        place = libbpf.user_ring_buffer__reserve(ring, <uint32_t>length)
        if place == NULL:
            return at
        memcpy(place, data + at * length, length)
        libbpf.user_ring_buffer__submit(ring, place)
    return count
