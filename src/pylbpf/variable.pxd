cimport cython

from .btf cimport Btf
from .c cimport uapi
from .datasec cimport Section

cdef enum Kind:
    # How a variable is read. The first ones are numbers of C.
    U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, BOOL, ENUM, WIDE, TEXT, VIEW, SYMBOL

cdef union Number:
    unsigned char u8
    unsigned short u16
    unsigned int u32
    unsigned long long u64
    signed char i8
    short i16
    int i32
    long long i64
    float f32
    double f64


@cython.final
cdef class Variable:
    cdef Section section
    cdef str name                   # interned
    cdef Kind kind
    cdef unsigned int index         # among the variables of its section
    cdef unsigned int type          # its number as a variable
    cdef size_t offset, size
    cdef long long least            # of an integer
    cdef unsigned long long most
    cdef dict members               # of an enum: number -> member, once it was read

    cdef unsigned char *quick(self) noexcept
    cdef object get(self)
    cdef object number(self, const unsigned char *at)
    cdef object member(self, const unsigned char *data)
    cdef int set(self, object value) except -1
    cdef int put_number(self, Number *number, object value) except -1
    cdef int refuse(self, object value) except -1
    cdef Btf btf(self)


cdef Variable make_variable(Btf btf, Section section, unsigned int index, const uapi.btf_var_secinfo *place)
