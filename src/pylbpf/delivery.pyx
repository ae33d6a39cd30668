"""Callbacks for records: in Python with each record or with batches, or in C without the GIL.

A record is consumed when it was copied, or when the C function has seen it. So an exception loses nothing behind the
record in hand, and nothing comes twice.
"""
import errno as _errno

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from .block cimport Pool
from .deadline cimport now
from .dispatch cimport TaggedType, split
from .errors cimport fail
from .feed cimport ring_record
from .handle cimport fork_generation
from .handlers cimport address_of
from .record cimport RecordType, StructType, plain
from .recordbatch cimport RecordBatch, read_any, read_structs
from .ring cimport Ring, ring_begin, ring_commit, ring_look, ring_memory, ring_step, ring_walk
from .errors import StateError

cdef enum:
    SIGNALS = 64                # records between two looks for signals: callbacks in C do not look themselves
    SHORT = 1000000             # nanoseconds between two looks for signals and at the clock
    MANY = 1 << 16              # records


@cython.final
cdef class NativeCallback:
    """A C function that gets each record where it lies in the ring, without the GIL.

    ``callback`` is an ``int (*)(void *ctx, void *data, size_t size)``, libbpf's ring_buffer_sample_fn: a PyCapsule, ctypes
    or cffi function pointer, numba cfunc or address. ``context``, an address or a ctypes object, is its ``ctx``. A
    negative result stops the call after this record and becomes a BpfError of that number. Both are kept alive. A pointer
    to anything but such a function crashes the process, as in C.
    """

    def __init__(self, callback, context=0):
        cdef size_t address
        if callback is None:
            raise TypeError("callback must be a C function, not None")
        address = address_of(callback, "callback")
        if isinstance(context, int):
            self.pointer = <void *><size_t>context
        else:
            import ctypes
            if isinstance(context, ctypes.c_void_p):
                self.pointer = <void *><size_t>(context.value or 0)
            elif isinstance(context, ctypes._Pointer):
                self.pointer = <void *><size_t>(ctypes.cast(context, ctypes.c_void_p).value or 0)
            else:
                self.pointer = <void *><size_t>ctypes.addressof(context)
        self.function = <int (*)(void *, void *, size_t) noexcept nogil>address
        self.callback = callback
        self.context = context


@cython.final
cdef class Source:
    def __init__(self):
        raise TypeError("sources belong to ring buffers")


cdef size_t next_slice(size_t slice, double *begun) noexcept:
    cdef double before = begun[0]
    begun[0] = now()
    if begun[0] - before < SHORT * 1e-9:
        return min(2 * slice, <size_t>MANY)
    return slice // 2 if slice > <size_t>FEW else slice


cdef object noted(object error, object source, Py_ssize_t count):
    if hasattr(error, "add_note"):      # Python 3.11
        error.add_note(f"from the callback for record {count} that this call took from {source}; those behind it wait")
    return error


cdef Py_ssize_t deliver(Source source, size_t limit, double until, Pool pool) except -1:
    if isinstance(source.callback, NativeCallback):
        return deliver_native(source.ring, source.callback, limit, until)
    if source.callback is None:
        if first_waits(&source.ring.memory):
            raise TypeError(f"{source.ring.map} has no callback; give one, or iterate over the ring buffer")
        return 0
    if source.batches:
        return deliver_batch(source, limit, pool)
    return deliver_each(source, limit, until)


cdef int check_child(unsigned int generation) except -1:
    if fork_generation() != generation:
        raise StateError(_errno.EPERM, "a callback of the parent process does not go on in a child", None, "ring buffer")
    return 0


cdef bint first_waits(ring_memory *ring) noexcept nogil:
    cdef ring_walk walk
    cdef ring_record record
    ring_begin(ring, &walk)
    return ring_look(ring, &walk, &record)


cdef Py_ssize_t deliver_each(Source source, size_t limit, double until) except -1:
    cdef ring_memory *ring = &source.ring.memory
    cdef ring_walk walk
    cdef ring_record record
    cdef Py_ssize_t count = 0
    cdef bint copied = True
    cdef unsigned int generation = fork_generation()
    cdef RecordType type = source.type
    callback = source.callback
    made = None
    ring_begin(ring, &walk)
    try:
        while <size_t>count < limit and ring_look(ring, &walk, &record):
            if until and count and now() >= until:
                break
            ring_step(&walk, &record)
            count += 1
            copied = False
            made = type.remake(made, source.ring, &record)
            ring_commit(ring, &walk)
            copied = True
            callback(made)
            if count % SIGNALS == 0:
                PyErr_CheckSignals()
            check_child(generation)
        if fork_generation() == generation:
            ring_commit(ring, &walk)        # discarded ones at the end
    except BaseException as error:
        if not copied:
            ring_commit(ring, &walk)
        noted(error, source.ring, count)
        raise
    return count


cdef Py_ssize_t deliver_batch(Source source, size_t limit, Pool pool) except -1:
    cdef Py_ssize_t count
    if plain(source.type):
        batch = read_structs([source.ring], source.type, limit, <size_t>-1, None, pool)
    else:
        batch = read_any([source.ring], source.type, limit, <size_t>-1, None, pool)
    count = len(batch)
    if count:
        if isinstance(source.type, TaggedType):
            batch = split(<RecordBatch>batch, <TaggedType>source.type, pool)
        try:
            source.callback(batch)
        except BaseException as error:
            noted(error, source.ring, count)
            raise
    return count


cdef Py_ssize_t deliver_native(Ring ring, NativeCallback native, size_t limit, double until) except -1:
    cdef ring_memory *memory = &ring.memory
    cdef ring_walk walk
    cdef ring_record record
    cdef size_t count = 0
    cdef size_t stop
    cdef size_t slice = FEW
    cdef double begun = now()
    cdef int code = 0
    cdef bint more = True
    cdef unsigned int generation = fork_generation()
    ring_begin(memory, &walk)
    while more and code >= 0:
        stop = min(limit, count + slice)
        with nogil:
            while count < stop:
                more = ring_look(memory, &walk, &record)
                if not more:
                    break
                ring_step(&walk, &record)
                count += 1
                code = native.function(native.pointer, <void *>record.data, record.size)
                if fork_generation() != generation:
                    break
                ring_commit(memory, &walk)
                if code < 0:
                    break
        check_child(generation)
        slice = next_slice(slice, &begun)
        if count >= limit or (until and begun >= until):
            break
        PyErr_CheckSignals()
        check_child(generation)
    ring_commit(memory, &walk)
    if code < 0:
        try:
            fail(-code, f"call back for record {count} of", ring.map)
        except BaseException as error:
            noted(error, ring, count)
            raise
    return count
