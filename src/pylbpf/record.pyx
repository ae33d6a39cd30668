"""Records as Python sees them: bytes, or structures with a field for each member.

A structure is a numpy dtype, whether it was given as that, as a ctypes structure or by its name in BTF. A record of it
is copied once, and its members are read when they are asked for.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject_GenericGetAttr
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from .feed cimport Feed, ring_record

cdef extern from *:
    """
    /* No one else has it; with no GIL others could be about to. A bytes object may have been asked for its hash. */
    #ifdef Py_GIL_DISABLED
    #define pylbpf_mine(thing) 0
    #else
    #define pylbpf_mine(thing) (Py_REFCNT(thing) == 1)
    #endif
    static inline void pylbpf_forget_hash(PyObject *bytes)
    {
        #pragma GCC diagnostic push
        #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        ((PyBytesObject *)bytes)->ob_shash = -1;
        #pragma GCC diagnostic pop
    }
    """
    bint mine "pylbpf_mine"(object thing)
    void forget_hash "pylbpf_forget_hash"(object bytes)

cdef enum:
    ARENA = 1 << 14
    LARGE = 1 << 10             # has an arena of its own

cdef enum Kind:
    INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOL, STRING, OTHER

cdef union Value:
    uint16_t u2
    int16_t i2
    uint32_t u4
    int32_t i4
    uint64_t u8
    int64_t i8
    float f4
    double f8

cdef dict KINDS = {
    "i1": INT8, "i2": INT16, "i4": INT32, "i8": INT64, "u1": UINT8, "u2": UINT16, "u4": UINT32, "u8": UINT64,
    "f4": FLOAT, "f8": DOUBLE, "b1": BOOL,
}
cdef object _numpy = None


cdef object numpy():
    """numpy, imported when the first typed record is."""
    global _numpy
    if _numpy is None:
        import numpy
        _numpy = numpy
    return _numpy


class RecordError(ValueError):
    """A record is not of the type that its ring buffer was opened with.

    ``record`` has its bytes: it counts as consumed, and those behind it come with the next call.
    """

    def __init__(self, message, record=b""):
        super().__init__(message)
        self.record = record


@cython.final
@cython.no_gc
cdef class Arena:
    def __init__(self):
        raise TypeError("arenas are made by ring buffers")

    def __dealloc__(self):
        free(self.data)


cdef Arena make_arena(size_t size):
    cdef Arena arena = Arena.__new__(Arena)
    arena.data = <char *>malloc(size)
    if arena.data == NULL:
        raise MemoryError()
    arena.size = size
    return arena


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Record:
    """One record of a typed ring buffer: an attribute for each member of the structure, and the buffer of its bytes.

    It is a copy. Integers, floats and character arrays are Python's, other members numpy's. Names that Python cannot
    spell are reached as ``record["name"]``. ``len(record)`` is its size in bytes, which is more than the structure's where
    that ends in an array of no fixed length; ``dtype`` is the structure.
    """

    def __init__(self, *_, **__):
        raise TypeError("records come from ring buffers")

    def __getattribute__(self, name):
        cdef Field field
        if self.type is not None:
            field = self.type.attributes.get(name)
            if field is not None:
                return field.read(self)
        return PyObject_GenericGetAttr(self, name)

    def __getitem__(self, name):
        cdef Field field = self.structure().fields[name]
        return field.read(self)

    cdef StructType structure(self):
        if self.type is None:
            raise TypeError("it is not a record of any ring buffer")
        return self.type

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.data, self.size, True, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass

    def __len__(self):
        return self.size

    def __bytes__(self):
        return PyBytes_FromStringAndSize(self.data, self.size)

    def __eq__(self, other):
        cdef Record that
        if not isinstance(other, Record):
            return NotImplemented
        that = <Record>other
        return (self.size == that.size and memcmp(self.data, that.data, self.size) == 0
                and (self.type is that.type or self.dtype == that.dtype))

    def __hash__(self):
        return hash(bytes(self))

    def __dir__(self):
        return [*object.__dir__(self), *self.structure().attributes]

    def __repr__(self):
        fields = ", ".join([f"{name}={value!r}" for name, value in self.asdict().items()])
        return f"{self.structure().name}({fields})"

    @property
    def dtype(self):
        """The structure as a numpy.dtype."""
        return self.structure().dtype

    def asdict(self):
        """Members and their values."""
        cdef Field field
        return {name: field.read(self) for name, field in self.structure().fields.items()}


@cython.final
cdef class Field:
    """A member of a structure."""
    cdef Py_ssize_t offset, size
    cdef Kind kind
    cdef readonly str name
    cdef object dtype           # of the whole, for what only numpy can read

    def __init__(self):
        raise TypeError("fields belong to the types of records")

    cdef object read(self, Record record):
        cdef const char *at = record.data + self.offset
        cdef Py_ssize_t length
        cdef Value value
        # Copied, because structures may be packed.
        if self.kind == UINT32:
            memcpy(&value.u4, at, 4)
            return value.u4
        if self.kind == UINT64:
            memcpy(&value.u8, at, 8)
            return value.u8
        if self.kind == INT32:
            memcpy(&value.i4, at, 4)
            return value.i4
        if self.kind == INT64:
            memcpy(&value.i8, at, 8)
            return value.i8
        if self.kind == STRING:
            length = self.size
            while length and at[length - 1] == 0:
                length -= 1
            return PyBytes_FromStringAndSize(at, length)
        if self.kind == UINT16:
            memcpy(&value.u2, at, 2)
            return value.u2
        if self.kind == UINT8:
            return (<const uint8_t *>at)[0]
        if self.kind == INT16:
            memcpy(&value.i2, at, 2)
            return value.i2
        if self.kind == INT8:
            return (<const int8_t *>at)[0]
        if self.kind == FLOAT:
            memcpy(&value.f4, at, 4)
            return value.f4
        if self.kind == DOUBLE:
            memcpy(&value.f8, at, 8)
            return value.f8
        if self.kind == BOOL:
            return (<const uint8_t *>at)[0] != 0
        return numpy().frombuffer(record, self.dtype, 1)[0][self.name]


cdef Field make_field(str name, object dtype):
    cdef Field member = Field.__new__(Field)
    field, offset = dtype.fields[name][:2]
    member.name = name
    member.offset = offset
    member.size = field.itemsize
    member.dtype = dtype
    member.kind = OTHER
    if field.kind == "S":
        member.kind = STRING
    # What is in the other byte order, or an array, is numpy's business.
    elif field.isnative and field.subdtype is None:
        member.kind = KINDS.get(f"{field.kind}{field.itemsize}", OTHER)
    return member


cdef str prefix(Feed feed):
    return "" if feed is None else f"{feed}: "


cdef class RecordType:
    """Records of any size, as bytes."""

    def __init__(self, *_):
        raise TypeError("types of records are made by ring buffers")

    cdef object make(self, Feed feed, const ring_record *record):
        return PyBytes_FromStringAndSize(record.data, record.size)

    cdef object remake(self, object before, Feed feed, const ring_record *record):
        if type(before) is not bytes or not mine(before) or PyBytes_GET_SIZE(before) != record.size:
            return PyBytes_FromStringAndSize(record.data, record.size)
        memcpy(PyBytes_AS_STRING(before), record.data, record.size)
        forget_hash(before)
        return before


@cython.final
cdef class StructType(RecordType):
    """Records of one structure."""

    cdef bint fits(self, size_t size) noexcept nogil:
        return size == <size_t>self.size or (self.tail and size > <size_t>self.size)

    cdef object wrong(self, Feed feed, const ring_record *record):
        return RecordError(
            f"{prefix(feed)}a record has {record.size} bytes, and {self.name} "
            f"{'at least ' if self.tail else ''}{self.size}",
            PyBytes_FromStringAndSize(record.data, record.size))

    cdef object make(self, Feed feed, const ring_record *record):
        if not self.fits(record.size):
            raise self.wrong(feed, record)
        return self.copy(record)

    cdef object remake(self, object before, Feed feed, const ring_record *record):
        cdef Record last
        if type(before) is not Record or not mine(before):
            return self.make(feed, record)
        last = <Record>before
        if last.type is not self or last.size != record.size:
            return self.make(feed, record)
        memcpy(<char *>last.data, record.data, record.size)
        return before

    cdef object copy(self, const ring_record *record):
        cdef size_t room = (<size_t>record.size + 15) & ~<size_t>15
        cdef Arena arena = self.arena
        cdef Record made
        if arena is None or arena.used + room > arena.size:
            arena = make_arena(room if room > LARGE else ARENA)
            if room <= LARGE:
                self.arena = arena
        made = Record.__new__(Record)
        made.type = self
        made.data = arena.data + arena.used
        made.size = record.size
        made.arena = arena
        memcpy(arena.data + arena.used, record.data, record.size)
        arena.used += room
        return made


cdef StructType struct_type(object dtype, str name, bint tail):
    cdef StructType made = StructType.__new__(StructType)
    if dtype.hasobject:
        raise TypeError(f"records cannot hold Python objects, as {dtype} would")
    if dtype.itemsize == 0:
        raise TypeError(f"records of {dtype} would be empty")
    made.fields = {field: make_field(field, dtype) for field in dtype.names or ()}
    made.attributes = {field: place for field, place in made.fields.items() if not hasattr(Record, field)}
    made.name = name
    made.dtype = dtype
    made.size = dtype.itemsize
    made.tail = tail
    return made


cdef RecordType record_type(object type, bint tail):
    """From what users give: None or bytes for bytes, else a dtype, what numpy makes one of, or a ctypes structure."""
    if isinstance(type, RecordType):
        return type
    if type is None or type is bytes:
        return RecordType.__new__(RecordType)
    try:
        dtype = numpy().dtype(type)
    except TypeError as error:
        raise TypeError(f"records cannot be of type {type!r}: {error}") from None
    return struct_type(dtype, str(getattr(type, "__name__", "record")), tail)


def named_type(btf, str name not None, tail):
    """The type of a structure that an object's BTF knows by name, or of numpy's where it knows none of it."""
    try:
        dtype = None if btf is None else btf.dtype(name)
    except KeyError:
        dtype = None
    if dtype is None:
        try:
            dtype = numpy().dtype(name)     # a number, as "u8"
        except TypeError:
            where = "the object has no BTF: compile it with -g" if btf is None else "the object's BTF has no such type"
            raise ValueError(f"{where}, and {name!r} is none of numpy's either") from None
    return struct_type(dtype, name, tail)


cdef bint plain(RecordType type):
    return isinstance(type, StructType) and not (<StructType>type).tail
