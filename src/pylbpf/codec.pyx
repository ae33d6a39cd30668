"""How the bytes of a key or a value become something of Python's, and back."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_FromLongLong, PyLong_FromUnsignedLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isinf
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from sys import byteorder as _byteorder

from .btf cimport Btf
from .c cimport btf as c_btf
from .c cimport uapi
from .paths cimport get_buffer

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *value)
    bint PyLong_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? 0xffffffffffffffff

cdef extern from *:
    ctypedef struct PyVarObject:
        pass

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t most)

cdef extern from *:
    ctypedef struct PyObjectHead "PyObject":
        pass

ctypedef object (*make_scalar_t)(void *data, PyObject *dtype, PyObject *base)
ctypedef object (*make_array_t)(int dimensions, Py_ssize_t *shape, PyObject *dtype, int fortran)

cdef enum:
    # In numpy's table of functions, which only ever grows:
    MAKE_SCALAR = 60        # PyArray_Scalar
    MAKE_ARRAY = 184        # PyArray_Empty, which takes over a reference to the dtype
    MAX_MODIFIERS = 64      # typedefs, const and the like in front of a type

cdef make_scalar_t make_scalar = NULL
cdef make_array_t make_array = NULL
cdef bint memory_known = False      # where a struct of numpy's keeps its bytes
cdef frozenset SHORT = frozenset(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])


cdef int find_make_scalar() except -1:
    """numpy is imported when a struct is first seen, and needed neither to build nor to import."""
    global make_scalar, make_array
    try:
        from numpy._core._multiarray_umath import _ARRAY_API as table
    except ImportError:
        from numpy.core._multiarray_umath import _ARRAY_API as table
    make_scalar = <make_scalar_t>(<void **>PyCapsule_GetPointer(table, NULL))[MAKE_SCALAR]
    make_array = <make_array_t>(<void **>PyCapsule_GetPointer(table, NULL))[MAKE_ARRAY]
    import numpy
    check_memory(numpy.void(b"a struct"))
    return 0


cdef inline char *memory_of(object scalar) noexcept:
    """PyVoidScalarObject.obval, which stands behind the head and the size that all objects of this sort have."""
    return (<char **>(<char *><PyObject *>scalar + sizeof(PyVarObject)))[0]


cdef inline char *array_data(object array) noexcept:
    """PyArrayObject_fields.data, which stands behind the head of any object."""
    return (<char **>(<char *><PyObject *>array + sizeof(PyObjectHead)))[0]


cdef int check_memory(object scalar) except -1:
    global memory_known
    cdef Py_buffer buffer
    PyObject_GetBuffer(scalar, &buffer, PyBUF_SIMPLE)
    memory_known = memory_of(scalar) == buffer.buf
    PyBuffer_Release(&buffer)
    return 0


cdef class Codec:
    """What one side of a map is made of. Bytes of the right size are taken for anything."""

    def __init__(self):
        raise TypeError("made by maps")

    def __repr__(self):
        names = {RAW: "bytes", UNSIGNED: "unsigned", SIGNED: "signed", BOOL: "bool", FLOAT: "float", TEXT: "text",
                 WIDE: "unsigned", SIGNED_WIDE: "signed"}
        return f"<Codec: {self.what}, {names.get(self.form) or self.dtype}, {self.size} bytes>"

    cdef object decode(self, const char *data):
        cdef unsigned long long number = 0
        cdef Form form = self.form
        cdef Py_ssize_t length, at
        cdef float single
        cdef double double_
        if form == UNSIGNED:
            if self.size == 4:
                return (<const unsigned int *>data)[0]
            memcpy(&number, data, self.size)        # the low bytes, where they come first
            return PyLong_FromUnsignedLongLong(number >> native_shift(self.size))
        if form == STRUCT:
            return self.key(data) if self.is_key else self.scalar(data)
        if form == SIGNED:
            if self.size == 8:
                return PyLong_FromLongLong((<const long long *>data)[0])
            if self.size == 4:
                return (<const int *>data)[0]
            return <int>(<const short *>data)[0] if self.size == 2 else <int>(<const signed char *>data)[0]
        if form == BOOL:
            return data[0] != 0
        if form == TEXT:
            length = strnlen(data, self.size)
            if self.is_key:
                for at in range(length, self.size):
                    if data[at]:    # two keys may differ in what comes after a NUL
                        return PyBytes_FromStringAndSize(data, self.size)
            return data[:length].decode("utf-8", "surrogateescape")
        if form == FLOAT:
            if self.size == 4:
                memcpy(&single, data, 4)
                return single
            memcpy(&double_, data, 8)
            return double_
        if form == ARRAY:
            import numpy
            array = numpy.frombuffer(PyBytes_FromStringAndSize(data, self.size), self.dtype.base).reshape(self.dtype.shape)
            return hashable(array.tolist()) if self.is_key else array
        found = PyBytes_FromStringAndSize(data, self.size)
        return found if form == RAW else int.from_bytes(found, _byteorder, signed=form == SIGNED_WIDE)

    cdef object scalar(self, const char *data):
        """A struct; the one that was made last, if nobody has it any more: to make one takes as long as many a system call."""
        if (self.last is not None and Py_REFCNT(<PyObject *>self.last) == 1
                and Py_REFCNT(<PyObject *>self.last_memory) == 2):      # ours, and the struct's
            memcpy(memory_of(self.last), data, self.size)
            return self.last
        # What lies in no array forgets what is assigned to its fields.
        Py_INCREF(self.dtype)
        array = make_array(0, NULL, <PyObject *>self.dtype, 0)
        memcpy(array_data(array), data, self.size)
        made = make_scalar(array_data(array), <PyObject *>self.dtype, <PyObject *>array)
        if self.reuses:
            self.last = made
            self.last_memory = array
        return made

    cdef object key(self, const char *data):
        """A struct that cannot be changed, and so has a hash."""
        import numpy
        if self.key_dtype is None:
            from .fields import key_dtype
            self.key_dtype = key_dtype(self.dtype)
        return numpy.frombuffer(PyBytes_FromStringAndSize(data, self.size), self.key_dtype)[0]

    cdef int encode(self, object value, char *out) except -1:
        if PyLong_CheckExact(value):
            return self.encode_int(value, out)
        return self.encode_other(value, out)

    cdef int encode_int(self, object value, char *out) except -1:
        cdef int overflow = 0
        cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
        cdef unsigned long long large
        cdef Py_ssize_t size = self.size
        cdef Form form = self.form
        if form == RAW and (size == 1 or size == 2 or size == 4 or size == 8):
            form = UNSIGNED
        if form == UNSIGNED:
            if overflow == 0 and number >= 0 and (size == 8 or number >> 8 * size == 0):
                large = <unsigned long long>number << native_shift(size)
                memcpy(out, &large, size)
                return 0
            if overflow > 0 and size == 8 and value < 1 << 64:
                large = PyLong_AsUnsignedLongLong(value)
                memcpy(out, &large, size)
                return 0
        elif form == SIGNED:
            if overflow == 0 and (size == 8 or -(1LL << (8 * size - 1)) <= number < 1LL << (8 * size - 1)):
                large = <unsigned long long>number << native_shift(size)
                memcpy(out, &large, size)
                return 0
        elif form == BOOL:
            if number == 0 or number == 1:
                out[0] = <char>number
                return 0
        else:
            return self.encode_other(value, out)
        raise self.misfit(value)

    cdef object misfit(self, object value):
        sign = " with a sign" if self.form == SIGNED or self.form == SIGNED_WIDE else ""
        return ValueError(f"{value} does not fit {self.what}, {self.size} bytes{sign}")

    cdef int encode_other(self, object value, char *out) except -1:
        cdef Form form = self.form
        cdef bytes text
        cdef float single
        cdef double number
        if form == TEXT and isinstance(value, (str, bytes)):
            if isinstance(value, str):
                text = (<str>value).encode("utf-8", "surrogateescape")
            else:       # of bytes' subclasses too, as numpy's
                text = PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            if PyBytes_GET_SIZE(text) > self.size:
                raise ValueError(f"{self.what} has {self.size} bytes, not {len(text)}")
            if isinstance(value, str) and b"\0" in text:
                raise ValueError(f"NUL in {self.what}: {value!r}")
            memset(out, 0, self.size)
            memcpy(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            return 0
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.copy(value, out)
        if form == UNSIGNED or form == SIGNED or form == BOOL or form == FLOAT:
            # Numbers of numpy are buffers too; what is none that fits must not be taken for one.
            kind = getattr(getattr(value, "dtype", None), "kind", None)
            if kind == "b" and form != FLOAT and value.ndim == 0:
                return self.encode_int(1 if value else 0, out)
            if isinstance(value, float) and form != FLOAT or kind is not None and (
                    kind not in "biuf" or kind == "f" and form != FLOAT or value.ndim):
                raise TypeError(f"{self.what} is {self.kind()}, not {type(value).__name__}")
        if form == UNSIGNED or form == SIGNED or form == BOOL or form == RAW and not PyObject_CheckBuffer(value):
            if hasattr(value, "__index__") and not isinstance(value, int):
                return self.encode_int(value.__index__(), out)
            if isinstance(value, int):
                if form != RAW or self.size in (1, 2, 4, 8):
                    return self.encode_int(int(value), out)
        elif (form == WIDE or form == SIGNED_WIDE) and hasattr(value, "__index__") and not getattr(value, "shape", ()):
            try:
                return self.copy(value.__index__().to_bytes(self.size, _byteorder, signed=form == SIGNED_WIDE), out)
            except OverflowError:
                raise self.misfit(value) from None
        elif form == FLOAT:
            if isinstance(value, (int, float)) or hasattr(value, "__float__"):
                try:
                    number = float(value)
                except OverflowError:
                    raise ValueError(f"{type(value).__name__} of this size does not fit {self.what}, "
                                     f"a float of {self.size} bytes") from None
                if self.size == 4:
                    single = <float>number
                    if isinf(single) and not isinf(number):
                        raise ValueError(f"{value} does not fit {self.what}, a float of 4 bytes")
                    memcpy(out, &single, 4)
                else:
                    memcpy(out, &number, 8)
                return 0
        elif form != RAW and form != TEXT:
            if form == STRUCT and self.dtype.names is not None and getattr(value, "dtype", None) is not None:
                from .fields import as_bytes
                return self.copy(as_bytes(self.dtype, value, self.what, self.is_key), out)
            if isinstance(value, (dict, tuple, list)) or form != STRUCT or self.dtype.kind != "V" or hasattr(value, "__dataclass_fields__"):
                from .fields import pack
                return self.copy(pack(self.dtype, value, self.what), out)
        if PyObject_CheckBuffer(value):
            return self.copy(value, out)
        raise TypeError(f"{self.what} is {self.kind()}, not {type(value).__name__}")

    def kind(self):
        """What it is, in words."""
        if self.form in (UNSIGNED, SIGNED, WIDE, SIGNED_WIDE):
            return f"a number of {self.size} bytes"
        return {RAW: f"{self.size} bytes", BOOL: "a bool", FLOAT: "a float", TEXT: f"a str of at most {self.size} bytes",
                STRUCT: "a struct: a dict, a tuple, a dataclass, numpy.void or bytes" if self.form == STRUCT and self.dtype.names is not None
                else str(self.dtype), ARRAY: "an array"}[self.form]

    cdef int copy(self, object source, char *out) except -1:
        """From a bytes-like object of exactly the right size."""
        cdef Py_buffer buffer
        cdef Py_ssize_t length
        get_buffer(source, &buffer, False, self.what)
        length = buffer.len
        if length == self.size:
            memcpy(out, buffer.buf, length)
        PyBuffer_Release(&buffer)
        if length != self.size:
            raise ValueError(f"{self.what} has {self.size} bytes, not {length}")
        return 0

    cdef object numpy_dtype(self):
        if self.dtype is not None:
            return self.dtype
        letter = {UNSIGNED: "u", SIGNED: "i", BOOL: "b", FLOAT: "f", TEXT: "S"}.get(self.form, "V")
        return dtype_of(f"{letter}{self.size}")

    cdef int close_opened(self) except -1:
        cdef int fd = self.opened
        self.opened = -1
        close_fd(fd)
        return 0


cdef object hashable(object items):
    """Lists within lists as tuples within tuples."""
    return tuple([hashable(item) for item in items]) if isinstance(items, list) else items


cdef inline int native_shift(Py_ssize_t size) noexcept nogil:
    """Bits that stand between a number of so many bytes and where memcpy() finds it in one of eight."""
    cdef unsigned short probe = 1
    return 0 if (<unsigned char *>&probe)[0] else <int>(64 - 8 * size)


cdef Codec make(Form form, Py_ssize_t size, str what, object dtype=None):
    cdef Codec codec = Codec.__new__(Codec)
    codec.form = form
    codec.size = size
    codec.opened = -1
    codec.plain = size if form == UNSIGNED and (size == 4 or size == 8) else 0
    codec.what = what
    codec.dtype = dtype
    if form == STRUCT:
        if make_scalar == NULL:
            find_make_scalar()
        import numpy
        codec.reuses = memory_known and size and dtype.names is not None and dtype.type in (numpy.void, numpy.record)
    return codec


cdef Codec raw_codec(Py_ssize_t size, str what):
    return make(RAW, size, what)


cdef Codec int_codec(Py_ssize_t size, bint signed, str what):
    return make(SIGNED if signed else UNSIGNED, size, what)


cdef object dtype_of(object type):
    """As numpy has it, but one array of all dimensions for an array of arrays, as of ctypes, which numpy cannot index."""
    import numpy
    dtype = numpy.dtype(type)
    while dtype.base.subdtype is not None:
        dtype = numpy.dtype((dtype.base.base, (*dtype.shape, *dtype.base.shape)))
    return dtype


cdef Py_ssize_t size_of(object type, str what) except -1:
    if isinstance(type, str) and type in SHORT:
        return int(type[1])
    if type in (bytes, str, int):
        raise TypeError(f"{what} needs a size beside {type.__name__}")
    return dtype_of(type).itemsize


cdef Codec codec_of(object type, Py_ssize_t size, str what):
    if type is bytes:
        return make(RAW, size, what)
    if type is str:
        return make(TEXT, size, what)
    if type is int:
        if size not in (1, 2, 4, 8):
            raise ValueError(f"{what} has {size} bytes, too many or too few for an int")
        return make(UNSIGNED, size, what)
    if size_of(type, what) != size:
        raise ValueError(f"{what} has {size} bytes, {type!r} has {size_of(type, what)}")
    if isinstance(type, str) and type in SHORT:
        return make(SIGNED if type[0] == "i" else UNSIGNED, size, what)
    return codec_of_dtype(dtype_of(type), size, what)


cdef bint has_unicode(object dtype) except -1:
    """Whether there are strings of numpy's in it, whose bytes need not be characters."""
    dtype = dtype.base
    if dtype.names is None:
        return dtype.kind in "UT"
    for field in dtype.fields.values():
        if has_unicode(field[0]):
            return True
    return False


cdef Codec codec_of_dtype(object dtype, Py_ssize_t size, str what):
    if dtype.hasobject:
        raise TypeError(f"{what} cannot be {dtype}, which holds Python objects")
    if has_unicode(dtype):
        raise TypeError(f"{what} cannot be {dtype}: text is str with a size, or \"S\"")
    if dtype.subdtype is not None:
        return make(ARRAY, size, what, dtype)
    if dtype.isnative and size <= 8:
        if dtype.kind == "b":
            return make(BOOL, size, what)
        if dtype.kind in "iu":
            return make(SIGNED if dtype.kind == "i" else UNSIGNED, size, what)
        if dtype.kind == "f" and size >= 4:
            return make(FLOAT, size, what)
    if dtype.kind == "S":
        return make(TEXT, size, what)
    return make(STRUCT, size, what, dtype)


cdef Codec codec_of_btf(Btf btf, unsigned int id, Py_ssize_t size, str what):
    cdef c_btf.btf *types
    cdef const uapi.btf_type *type
    cdef int left = MAX_MODIFIERS
    cdef int encoding
    if btf is None or id == 0:
        return make(RAW, size, what)
    types = btf.live()
    if c_btf.btf__resolve_size(types, id) != size:
        return make(RAW, size, what)
    type = c_btf.btf__type_by_id(types, id)
    while type != NULL and left and (c_btf.btf_is_mod(type) or c_btf.btf_is_typedef(type)):
        type = c_btf.btf__type_by_id(types, type.type)
        left -= 1
    if type == NULL or left == 0:
        return make(RAW, size, what)
    # Numbers need no numpy.
    if size == 1 or size == 2 or size == 4 or size == 8:
        if c_btf.btf_is_int(type):
            encoding = c_btf.btf_int_encoding(type)
            if encoding & uapi.BTF_INT_BOOL and size == 1:
                return make(BOOL, size, what)
            return make(SIGNED if encoding & uapi.BTF_INT_SIGNED else UNSIGNED, size, what)
        if c_btf.btf_is_any_enum(type):
            return make(SIGNED if c_btf.btf_kflag(type) else UNSIGNED, size, what)
        if c_btf.btf_is_ptr(type):
            return make(UNSIGNED, size, what)
        if c_btf.btf_is_float(type) and size >= 4:
            return make(FLOAT, size, what)
    if size == 16 and c_btf.btf_is_int(type):
        signed = c_btf.btf_int_encoding(type) & uapi.BTF_INT_SIGNED
        return make(SIGNED_WIDE if signed else WIDE, size, what, btf.dtype(id))
    try:
        return codec_of_dtype(btf.dtype(id), size, what)
    except (ValueError, TypeError):     # what cannot be a dtype
        return make(RAW, size, what)
