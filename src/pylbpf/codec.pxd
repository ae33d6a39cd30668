from .btf cimport Btf

cdef enum Form:
    RAW, UNSIGNED, SIGNED, BOOL, FLOAT, TEXT, STRUCT, ARRAY
    WIDE, SIGNED_WIDE   # numbers of 16 bytes


cdef class Codec:
    cdef Form form
    cdef int plain                  # 8 or 4: an unsigned number of so many bytes, and no kind's own; else 0
    cdef Py_ssize_t size
    cdef object dtype               # numpy's, of STRUCT, ARRAY and WIDE ones
    cdef object last                # the STRUCT that was handed out last,
    cdef object last_memory         # ... the array it lies in,
    cdef bint reuses                # ... if it may be handed out again
    cdef object key_dtype           # dtype of STRUCT, of what has a hash
    cdef bint is_key                # shown keys must be hashable, and find their elements again
    cdef bint borrows               # descriptors: to be encoded last
    cdef int opened                 # a descriptor to be closed after the call, or -1
    cdef str what                   # for messages: "a key of map 'starts'"

    # Write exactly `size` bytes. May run code of the user's.
    cdef int encode(self, object value, char *out) except -1
    cdef object decode(self, const char *data)
    cdef object scalar(self, const char *data)
    cdef object key(self, const char *data)
    cdef int encode_int(self, object value, char *out) except -1
    cdef object misfit(self, object value)
    cdef int encode_other(self, object value, char *out) except -1
    cdef int copy(self, object source, char *out) except -1
    cdef int close_opened(self) except -1
    cdef object numpy_dtype(self)


cdef extern from "Python.h":
    object PyLong_FromLong(long value)


cdef inline object shown_number(int size, const void *data):
    """An unsigned number of 8 or 4 bytes."""
    if size == 4:
        return PyLong_FromLong((<const unsigned int *>data)[0])
    if (<const unsigned long long *>data)[0] >> 62 == 0:
        return PyLong_FromLong(<long>(<const unsigned long long *>data)[0])     # faster than without a sign
    return (<const unsigned long long *>data)[0]


cdef inline object shown(Codec codec, const void *data):
    """decode(), without a call for the commonest of all: such numbers."""
    return shown_number(codec.plain, data) if codec.plain else codec.decode(<const char *>data)


cdef Codec raw_codec(Py_ssize_t size, str what)
cdef Codec int_codec(Py_ssize_t size, bint signed, str what)
# Of what a user says: bytes, str, int, "u4" and the like, or anything that numpy.dtype() takes.
cdef Codec codec_of(object type, Py_ssize_t size, str what)
cdef Py_ssize_t size_of(object type, str what) except -1
# Of a type of BTF; raw if it is 0, has another size or nothing that could be shown.
cdef Codec codec_of_btf(Btf btf, unsigned int id, Py_ssize_t size, str what)
