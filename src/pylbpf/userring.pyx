"""User ring buffers: records to BPF programs."""
import errno as _errno
from _weakref import ref as _ref

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memcpy

from .deadline cimport deadline_of
from .handle cimport Handle, fork_generation
from .map cimport Map
from .paths cimport get_buffer
from .usersample cimport UserSample, make_sample
from .usersender cimport UserSender, open_sender

from .errors import BpfError, StateError, error_class

cdef enum:
    BURST = 4096                # samples sent without the GIL in one go


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

    cdef UserSender sender              # None after close()
    cdef object map
    cdef object __weakref__

    def __init__(self, map):
        cdef Handle handle
        if self.sender is not None:
            raise StateError(_errno.EINVAL, "the user ring buffer is open already", None, str(self))
        self.sender = open_sender(map)
        self.map = map
        handle = (<Map>map).handle if isinstance(map, Map) else None
        if handle is not None:
            # Be closed with the object.
            if handle.rings is None:
                handle.rings = {}
            handle.rings[id(self)] = _ref(self)

    def __repr__(self):
        if self.closed:
            return "<UserRingBuffer: closed>"
        if self.sender.generation != fork_generation():
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
        if self.sender is None:
            raise ValueError("the user ring buffer is closed")
        return self.sender.check()

    @property
    def closed(self):
        """True after close()."""
        return self.sender is None or self.sender.ptr == NULL

    @property
    def capacity(self):
        """The size of the ring in bytes; a sample takes 8 more than its length, rounded up to a multiple of 8.

        Source: user_ring_buffer__new().
        """
        return 0 if self.sender is None else self.sender.capacity

    @property
    def sent(self):
        """How many samples were submitted. Source: user_ring_buffer__submit()."""
        return 0 if self.sender is None else self.sender.sent

    def _check_outside(self, operation):
        """BufferError while samples are reserved."""
        if self.sender is not None:
            self.sender.check_outside(operation)

    def close(self):
        """Free it and wake the threads that wait for room, which get ValueError; twice does nothing.

        BufferError while samples are reserved. What was sent stays in the map. Source: user_ring_buffer__free().
        """
        cdef Handle handle
        if self.closed:
            return
        self._check_outside("close")
        self.sender.close()
        handle = (<Map>self.map).handle if isinstance(self.map, Map) else None
        if handle is not None and handle.rings is not None:
            handle.rings.pop(id(self), None)
        self.map = None

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
        cdef void *data
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
        self.sender.check_size(length)
        sample = make_sample(self, self.sender, length, record)
        data = self.sender.take(length, deadline)
        if data == NULL:
            self.full(timeout)
        sample.begin(data)
        return sample

    def send(self, data, *, timeout=0):
        """Copy ``data``, any bytes-like object, into a sample and submit it; errors as reserve().

        Source: user_ring_buffer__reserve(), user_ring_buffer__submit().
        """
        cdef Py_buffer buffer
        cdef void *place
        cdef double deadline = deadline_of(timeout)
        get_buffer(data, &buffer, False, "the sample")
        try:
            self.check()
            self.sender.check_size(buffer.len)
            place = self.sender.take(buffer.len, deadline)
            if place == NULL:
                self.full(timeout)
            memcpy(place, buffer.buf, buffer.len)
            self.sender.submit(place)
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
        cdef Py_ssize_t length, count
        cdef Py_ssize_t done = 0
        cdef void *place
        cdef double deadline = deadline_of(timeout)
        cdef Py_ssize_t wanted = -1 if size is None else size
        get_buffer(records, &buffer, False, "records")
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
            self.sender.check_size(length)
            while done < count:
                done += self.sender.send_burst(<const char *>buffer.buf + done * length, length,
                                               min(count - done, <Py_ssize_t>BURST))
                if done == count:
                    break
                PyErr_CheckSignals()
                place = self.sender.take(length, deadline)
                if place == NULL:
                    break
                memcpy(place, <const char *>buffer.buf + done * length, length)
                self.sender.submit(place)
                done += 1
            return done
        finally:
            PyBuffer_Release(&buffer)
