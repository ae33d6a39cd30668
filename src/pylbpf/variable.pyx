"""One global variable: where it is, and how it is read and set."""
import errno as _errno
import sys as _sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport isinf
from libc.string cimport memcpy

from .btf cimport Btf, bare_type, make_btf
from .c cimport libbpf, uapi
from .c cimport btf as c_btf
from .datasec cimport Section, make_memory
from .handle cimport LOADED, fork_generation

from .errors import StateError

cdef extern from "Python.h":
    bint PyLong_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1

cdef str BYTE_ORDER = _sys.byteorder


@cython.final
@cython.final
cdef class Variable:
    def __init__(self):
        raise TypeError("variables come from Object.globals")

    cdef unsigned char *quick(self) noexcept:
        """Where a number of a loaded object is, without asking anybody; NULL if somebody must be asked."""
        cdef Section section = self.section
        if section.own != NULL and section.handle.phase == LOADED \
                and section.handle.generation == fork_generation() and self.offset + self.size <= section.own_size:
            return <unsigned char *>section.own + self.offset
        return NULL

    cdef object get(self):
        cdef const unsigned char *at
        cdef Number copy
        if self.kind <= ENUM:
            at = self.quick()
            if at == NULL:
                self.section.read(self.offset, self.size, &copy)
                at = &copy.u8
            return self.number(at)
        if self.kind == SYMBOL:
            from .globalvalues import symbol_address
            self.section.handle.live()
            return symbol_address(self.name)
        from . import globalvalues
        return globalvalues.read(self)

    cdef object number(self, const unsigned char *at):
        """The compiler makes one instruction of each copy."""
        cdef Number number
        cdef Kind kind = self.kind
        if kind == U32:
            memcpy(&number.u32, at, 4)
            return number.u32
        elif kind == U64:
            memcpy(&number.u64, at, 8)
            return number.u64
        elif kind == I32:
            memcpy(&number.i32, at, 4)
            return number.i32
        elif kind == I64:
            memcpy(&number.i64, at, 8)
            return number.i64
        elif kind == BOOL:
            return at[0] != 0
        elif kind == U8:
            return at[0]
        elif kind == U16:
            memcpy(&number.u16, at, 2)
            return number.u16
        elif kind == I8:
            return <signed char>at[0]
        elif kind == I16:
            memcpy(&number.i16, at, 2)
            return number.i16
        elif kind == F64:
            memcpy(&number.f64, at, 8)
            return number.f64
        elif kind == F32:
            memcpy(&number.f32, at, 4)
            return number.f32
        memcpy(&number, at, self.size)
        return self.member(&number.u8)

    cdef object member(self, const unsigned char *data):
        """A member of an enum, or the number if it has no name."""
        from .globalvalues import enum_members
        btf = self.btf()
        if self.members is None:
            self.members = enum_members(btf, self.type)
        signed = bool(c_btf.btf_kflag(bare_type((<Btf>btf).live(), c_btf.btf__type_by_id((<Btf>btf).ptr, self.type).type)))
        number = int.from_bytes(data[:self.size], BYTE_ORDER, signed=signed)
        return self.members.get(number, number)

    cdef int set(self, object value) except -1:
        cdef unsigned char *at
        cdef Number number
        cdef double wide
        cdef Kind kind = self.kind
        # What comes from the caller first: it may run code, which may close the object.
        if kind <= I64:
            self.put_number(&number, value)
        elif kind == BOOL:
            if getattr(getattr(value, "dtype", None), "kind", None) == "b" and value.ndim == 0:
                value = bool(value)     # numpy's
            if not isinstance(value, int) or not 0 <= value <= 1:
                self.refuse(value)
            number.u8 = bool(value)
        elif kind == F64 or kind == F32:
            if not hasattr(value, "__float__") or isinstance(value, (str, bytes)):
                self.refuse(value)
            try:
                wide = value
            except OverflowError as error:
                raise ValueError(f"{self.describe()} cannot be {type(value).__name__} of this size: {error}") from None
            if kind == F64:
                number.f64 = wide
            else:
                number.f32 = <float>wide
                if isinf(number.f32) and not isinf(wide):
                    raise ValueError(f"{self.describe()} is a float of 4 bytes: {value} does not fit")
        elif kind == SYMBOL:
            raise StateError(_errno.EPERM, "read-only: an address in the kernel", "set", self.describe())
        else:
            from . import globalvalues
            globalvalues.write(self, value)
            return 0
        at = NULL if self.section.constant else self.quick()
        if at == NULL:
            return self.section.write(self.offset, self.size, &number)
        if self.size == 4:
            memcpy(at, &number.u32, 4)
        elif self.size == 8:
            memcpy(at, &number.u64, 8)
        elif self.size == 1:
            at[0] = number.u8
        else:
            memcpy(at, &number.u16, 2)
        return 0

    cdef int put_number(self, Number *number, object value) except -1:
        cdef int overflow = 0
        cdef long long small
        cdef unsigned long long whole
        if not PyLong_CheckExact(value):
            if not hasattr(value, "__index__"):
                self.refuse(value)
            value = int(value.__index__())
        small = PyLong_AsLongLongAndOverflow(value, &overflow)
        whole = <unsigned long long>small
        if overflow > 0 and value >> 64 == 0:
            whole = value
        elif overflow or small < self.least:
            whole = self.most
            overflow = -1
        if overflow < 0 or (small >= 0 or overflow) and whole > self.most:
            raise ValueError(f"{self.describe()} is from {self.least} to {self.most}, not {value}")
        if self.size == 4:
            number.u32 = <unsigned int>whole
        elif self.size == 8:
            number.u64 = whole
        elif self.size == 2:
            number.u16 = <unsigned short>whole
        else:
            number.u8 = <unsigned char>whole
        return 0

    cdef int refuse(self, object value) except -1:
        raise TypeError(f"{self.describe()} cannot be {value!r}, a {type(value).__name__}")

    cdef Btf btf(self):
        cdef libbpf.bpf_object *object = self.section.handle.live()
        return make_btf(self.section.handle, <c_btf.btf *>libbpf.bpf_object__btf(object))

    # For globalvalues, which is Python.

    def describe(self):
        return f"variable {self.name!r} in {self.section.name} of {self.section.handle.name}"

    def types(self):
        return self.btf(), self.type

    def place(self):
        """Offset and size now: libbpf changes those of a variable when its map is resized."""
        cdef c_btf.btf *btf = self.btf().live()
        cdef const uapi.btf_type *type = c_btf.btf__type_by_id(btf, self.section.datasec)
        cdef const uapi.btf_var_secinfo *variable = &c_btf.btf_var_secinfos(type)[self.index]
        return variable.offset, c_btf.btf__resolve_size(btf, variable.type)

    def load(self):
        """A copy of the bytes."""
        offset, size = self.place()
        cdef bytes value = PyBytes_FromStringAndSize(NULL, size)
        self.section.read(offset, size, PyBytes_AS_STRING(value))
        return value

    def store(self, bytes value):
        offset, size = self.place()
        if len(value) != size:
            raise ValueError(f"{self.describe()} has {size} bytes, not {len(value)}")
        self.section.write(offset, size, PyBytes_AS_STRING(value))

    def live_memory(self):
        """The bytes as a buffer, or None if they never change or cannot be mapped: then load() is as good."""
        cdef Section section = self.section
        offset, size = self.place()
        if section.memory(offset + size, False) == NULL or not section.writable():
            return None
        return make_memory(section, offset, size)

    def is_text(self):
        return self.kind == TEXT


cdef Kind kind_of(c_btf.btf *btf, const uapi.btf_type *type, size_t size) except *:
    cdef int encoding
    if c_btf.btf_is_ptr(type):
        return U64 if size == 8 else U32
    if c_btf.btf_is_any_enum(type):
        return ENUM
    if c_btf.btf_is_float(type):
        return F64 if size == 8 else F32 if size == 4 else VIEW
    if c_btf.btf_is_int(type):
        encoding = c_btf.btf_int_encoding(type)
        if encoding & uapi.BTF_INT_BOOL and size == 1:
            return BOOL
        if size == 16:
            return WIDE
        unsigned = {1: U8, 2: U16, 4: U32, 8: U64}[size]
        return <Kind>(<int>unsigned + (<int>I8 if encoding & uapi.BTF_INT_SIGNED else 0))
    return VIEW


cdef bint is_char(Btf btf, const uapi.btf_type *type) except -1:
    """What text is made of, as in dtypes; that room would bring numpy, which numbers do not need."""
    return c_btf.btf_is_int(type) and type.size == 1 and (
        btf.string(type.name_off) == "char" or bool(c_btf.btf_int_encoding(type) & uapi.BTF_INT_CHAR))


cdef Variable make_variable(Btf btf, Section section, unsigned int index, const uapi.btf_var_secinfo *place):
    cdef c_btf.btf *types = btf.live()
    cdef const uapi.btf_type *type = c_btf.btf__type_by_id(types, place.type)
    cdef Variable variable = Variable.__new__(Variable)
    cdef long long size = c_btf.btf__resolve_size(types, place.type)
    variable.section = section
    variable.index = index
    variable.type = place.type
    variable.name = _sys.intern(btf.name(place.type))
    variable.offset = place.offset
    variable.size = size if size > 0 else 0
    while c_btf.btf_is_mod(type) or c_btf.btf_is_typedef(type) or c_btf.btf_is_var(type):
        type = c_btf.btf__type_by_id(types, type.type)
    if section.map == NULL:
        variable.kind = SYMBOL
    else:
        variable.kind = kind_of(types, type, variable.size)
        if c_btf.btf_is_array(type) and is_char(btf, bare_type(types, c_btf.btf_array(type).type)) and variable.size:
            variable.kind = TEXT
    if variable.kind <= U64:
        variable.most = ~<unsigned long long>0 >> (64 - 8 * variable.size)
    elif variable.kind <= I64:
        variable.most = ~<unsigned long long>0 >> (65 - 8 * variable.size)
        variable.least = -<long long>variable.most - 1
    return variable
