"""One reserved place of a user ring buffer: filled, then submitted or discarded."""
from _weakref import ref as _ref

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy, memset

from .c cimport libbpf
from .handle cimport fork_generation
from .usersender cimport UserSender

cdef const char *FORMAT = b"B"


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

    def __init__(self):
        raise TypeError("samples come from UserRingBuffer.reserve()")

    def __dealloc__(self):
        if self.data != NULL:
            self.commit(True)

    def __repr__(self):
        return f"<UserSample: {self.size} bytes, {'finished' if self.data == NULL else 'reserved'}>"

    cdef void begin(self, void *data) noexcept:
        self.data = data
        self.sender.samples += 1
        memset(data, 0, self.size)

    cdef void commit(self, bint discard) noexcept:
        cdef void *data = self.data
        self.data = NULL
        self.sender.samples -= 1
        if self.sender.generation != fork_generation():
            return      # it is the parent's
        if discard:
            libbpf.user_ring_buffer__discard(self.sender.ptr, data)
        else:
            self.sender.submit(data)

    cdef int check(self, str operation) except -1:
        if self.data == NULL:
            raise ValueError("the sample was submitted or discarded already")
        self.sender.check()
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


cdef UserSample make_sample(object ring, UserSender sender, Py_ssize_t size, object record):
    cdef UserSample sample = UserSample.__new__(UserSample)
    sample.ring = ring
    sample.sender = sender
    sample.size = size
    sample.record = record
    return sample
