"""Global variables of an object, typed by its BTF, where they are in memory."""
import errno as _errno
import sys as _sys

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EPERM, errno
from libc.math cimport isinf
from libc.string cimport memcpy

from .btf cimport Btf, bare_type, make_btf
from .c cimport bpf, libbpf, uapi
from .c cimport btf as c_btf
from .errors cimport fail
from .handle cimport FAILED, Handle, LOADED, OPEN, fork_generation, phase_name

from .errors import StateError

cdef extern from "Python.h":
    object PyObject_GenericGetAttr(object self, object name)
    PyObject *PyDict_GetItem(object table, object key)

cdef str BYTE_ORDER = _sys.byteorder

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

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

cdef enum:
    MMAPABLE = 1 << 10


@cython.final
@cython.no_gc_clear
cdef class Section:
    # One map of variables, and where its memory is: before there is a map in the kernel, what libbpf will put into it;
    # then a mapping of ours, or, if it cannot be mapped, none: its element is read and written as a whole.
    cdef Handle handle
    cdef libbpf.bpf_map *map
    cdef unsigned int datasec       # number of its type
    cdef str name
    cdef bint constant              # cannot be written once it is in the kernel
    cdef bint kconfig
    cdef bint settled               # there is a map, and it was mapped if it can be
    cdef void *own                  # the mapping
    cdef size_t own_size

    def __dealloc__(self):
        if self.own != NULL:
            munmap(self.own, self.own_size)

    def __str__(self):
        return f"section {self.name} of {self.handle.name}"

    cdef unsigned char *memory(self, size_t end, bint writing) except? NULL:
        """Where the section is now, at least `end` bytes of it; NULL if it is an element only."""
        cdef Handle handle = self.handle
        cdef size_t size = 0
        cdef unsigned char *start
        if handle.phase != LOADED or handle.generation != fork_generation():
            handle.live()
            if handle.loading:
                handle.settle(NULL)
        if handle.phase == OPEN and not handle.loading:
            if self.kconfig:
                raise StateError(_errno.EINVAL, "known when the object is prepared or loaded", "access", str(self))
            start = <unsigned char *>libbpf.bpf_map__initial_value(self.map, &size)
        else:
            if not self.settled:
                self.find_memory()
            if writing and not self.writable():
                raise StateError(_errno.EINVAL, f"read-only: the object is {phase_name(handle.now())}", "set a variable in",
                                 str(self))
            if self.own == NULL:
                return NULL
            start = <unsigned char *>self.own
            size = self.own_size
        if start == NULL or end > size:
            raise StateError(_errno.EINVAL, f"{end} bytes are wanted of {size}", "access", str(self))
        return start

    cdef bint writable(self) noexcept:
        cdef int phase = self.handle.now()
        return not self.kconfig if phase == OPEN else phase != FAILED and not self.constant

    cdef int find_memory(self) except -1:
        """Once there is a map in the kernel, map it: older libbpf does not, and none does with a map that is older
        than the object."""
        cdef int protection = PROT_READ if self.constant else PROT_READ | PROT_WRITE
        cdef int fd = libbpf.bpf_map__fd(self.map)
        cdef size_t size = libbpf.bpf_map__value_size(self.map)
        cdef void *start
        if self.handle.now() == FAILED or not libbpf.bpf_map__autocreate(self.map) or fd < 0:
            raise StateError(_errno.EINVAL, "there is no map of it in the kernel", "access", str(self))
        if libbpf.bpf_map__map_flags(self.map) & MMAPABLE and size:
            start = mmap(NULL, size, protection, MAP_SHARED, fd, 0)
            if start == MAP_FAILED and errno == EPERM and not self.constant:     # somebody has frozen it
                self.constant = True
                start = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
            if start == MAP_FAILED:
                fail(errno, "map the memory of", self)
            self.own = start
            self.own_size = size
        self.settled = True
        return 0

    cdef bytes element(self, size_t end):
        """A copy of the whole section, of a map that cannot be mapped."""
        cdef unsigned int zero = 0
        cdef size_t size = libbpf.bpf_map__value_size(self.map)
        cdef bytes value = PyBytes_FromStringAndSize(NULL, size)
        cdef int code = bpf.bpf_map_lookup_elem(libbpf.bpf_map__fd(self.map), &zero, PyBytes_AS_STRING(value))
        if code < 0:
            fail(-code, "read", self)
        if end > size:
            raise StateError(_errno.EINVAL, f"{end} bytes are wanted of {size}", "access", str(self))
        return value

    cdef bint hold(self) except -1:
        """Take the object's lock as long as a load may take the memory away, on another thread and without the GIL;
        true if release() is due. A load by several threads makes the maps before these begin."""
        cdef Handle handle = self.handle
        return handle.phase != LOADED and not handle.parallel and handle.enter("access variables of")

    cdef int read(self, size_t offset, size_t size, void *to) except -1:
        cdef bint held = self.hold()
        cdef unsigned char *start
        cdef bytes value
        try:
            start = self.memory(offset + size, False)
            if start != NULL:
                memcpy(to, start + offset, size)
                return 0
        finally:
            if held:
                self.handle.release()
        value = self.element(offset + size)
        memcpy(to, PyBytes_AS_STRING(value) + offset, size)
        return 0

    cdef int write(self, size_t offset, size_t size, const void *what) except -1:
        cdef bint held = self.hold()
        cdef unsigned char *start
        cdef unsigned int zero = 0
        cdef bytes value
        cdef int code
        try:
            start = self.memory(offset + size, True)
            if start != NULL:
                memcpy(start + offset, what, size)
                return 0
        finally:
            if held:
                self.handle.release()
        value = self.element(offset + size)
        memcpy(PyBytes_AS_STRING(value) + offset, what, size)   # nobody else has this one
        code = bpf.bpf_map_update_elem(libbpf.bpf_map__fd(self.map), &zero, PyBytes_AS_STRING(value), 0)
        if code < 0:
            fail(-code, "write", self)
        return 0


@cython.final
@cython.no_gc_clear
cdef class Memory:
    """The bytes of a variable as a buffer. While one is in use, what would move the memory raises BufferError."""

    cdef Section section
    cdef size_t offset, size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Section section = self.section
        cdef bint held = section.hold()
        cdef unsigned char *start
        try:
            start = section.memory(self.offset + self.size, False)
            if start == NULL:
                raise BufferError("this section cannot be mapped into memory")
            PyBuffer_FillInfo(buffer, self, start + self.offset, self.size, not section.writable(), flags)
            section.handle.mapped += 1
        finally:
            if held:
                section.handle.release()

    def __releasebuffer__(self, Py_buffer *buffer):
        self.section.handle.mapped -= 1


@cython.final
cdef class Variable:
    # One variable: where it is, and how it is read.
    cdef Section section
    cdef str name
    cdef Kind kind
    cdef unsigned int index         # among the variables of its section
    cdef unsigned int type          # its number as a variable
    cdef size_t offset, size
    cdef dict members               # of an enum: number -> member, once it was read

    cdef unsigned char *quick(self) noexcept:
        """Where a number of a loaded object is, without asking anybody; NULL if somebody must be asked."""
        cdef Section section = self.section
        if section is not None and section.own != NULL and section.handle.phase == LOADED \
                and section.handle.generation == fork_generation() and self.offset + self.size <= section.own_size:
            return <unsigned char *>section.own + self.offset
        return NULL

    cdef object get(self):
        cdef const unsigned char *at
        cdef Number number
        cdef Number copy
        cdef Kind kind = self.kind
        if kind <= ENUM:
            at = self.quick()
            if at == NULL:
                self.section.read(self.offset, self.size, &copy)
                at = <const unsigned char *>&copy
            # The compiler makes one instruction of each.
            if kind == U32:
                memcpy(&number.u32, at, 4)
                return number.u32
            if kind == U64:
                memcpy(&number.u64, at, 8)
                return number.u64
            if kind == I32:
                memcpy(&number.i32, at, 4)
                return number.i32
            if kind == I64:
                memcpy(&number.i64, at, 8)
                return number.i64
            if kind == BOOL:
                return at[0] != 0
            if kind == U8:
                return at[0]
            if kind == U16:
                memcpy(&number.u16, at, 2)
                return number.u16
            if kind == I8:
                return <signed char>at[0]
            if kind == I16:
                memcpy(&number.i16, at, 2)
                return number.i16
            if kind == F64:
                memcpy(&number.f64, at, 8)
                return number.f64
            if kind == F32:
                memcpy(&number.f32, at, 4)
                return number.f32
            memcpy(&number, at, self.size)
            return self.member(&number.u8)
        if kind == SYMBOL:
            from .globalvalues import symbol_address
            self.section.handle.live()
            return symbol_address(self.name)
        from . import globalvalues
        return globalvalues.read(self)

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
        at = NULL if self.section is None or self.section.constant else self.quick()
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
        cdef int bits = 8 * <int>self.size
        cdef bint signed = self.kind >= I8
        cdef long long small
        cdef unsigned long long whole = 0
        if not isinstance(value, int):
            if not hasattr(value, "__index__"):
                self.refuse(value)
            value = value.__index__()
        try:
            if signed:
                small = value
                whole = <unsigned long long>small
                fits = bits == 64 or -(1LL << (bits - 1)) <= small < 1LL << (bits - 1)
            else:
                whole = value
                fits = bits == 64 or not whole >> bits
        except OverflowError:
            fits = False
        if not fits:
            half = <object>1 << (bits - 1)
            least, most = (-half, half - 1) if signed else (0, 2 * half - 1)
            raise ValueError(f"{self.describe()} is from {least} to {most}, not {value}")
        if bits == 64:
            number.u64 = whole
        elif bits == 32:
            number.u32 = <unsigned int>whole
        elif bits == 16:
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
        cdef Memory memory
        offset, size = self.place()
        if section.memory(offset + size, False) == NULL or not section.writable():
            return None
        memory = Memory.__new__(Memory)
        memory.section = section
        memory.offset = offset
        memory.size = size
        return memory

    def is_text(self):
        return self.kind == TEXT


@cython.final
cdef class Globals:
    """Global variables of an object by name: ``obj.globals.rate = 5``, or ``obj.globals["rate"]``; dir() lists them.

    They are read and written where they are, in libbpf's memory before load and in the kernel's afterwards: no call is
    made. Numbers are int and float, ``bool`` is bool, an enum is a member of an IntEnum (set it by number or name), ``char[N]``
    is bytes without the NULs at the end (set it with bytes or str). Arrays and structs are live numpy views; while one
    is in use, load, close and resizing of the object raise BufferError. They are set as a whole with arrays, lists,
    dicts or bytes. Constants (``.rodata``) can be set before load only, kconfig externs are known after it, a ksym extern
    is its address.

    A name that is in several sections is ``obj.globals[".data", "name"]``. An unknown one is an AttributeError or KeyError,
    a wrong type is a TypeError, what is out of range a ValueError, what is read-only a StateError.
    Source: bpf_map__initial_value().
    """

    cdef Handle handle
    cdef dict table                 # name -> Variable, or a list of them
    cdef dict sections              # (section, name[, number]) -> Variable

    def __init__(self):
        raise TypeError("global variables come from Object.globals")

    def __getattribute__(self, name):
        cdef PyObject *found = PyDict_GetItem(self.table, name)
        if found != NULL and type(<object>found) is Variable:
            return (<Variable>found).get()
        if found == NULL and name[:2] == "__":
            return PyObject_GenericGetAttr(self, name)
        return self.find(name, AttributeError).get()

    def __setattr__(self, name, value):
        cdef PyObject *found = PyDict_GetItem(self.table, name)
        if found != NULL and type(<object>found) is Variable:
            (<Variable>found).set(value)
        else:
            self.find(name, AttributeError).set(value)

    def __getitem__(self, name):
        return self.find(name, KeyError).get()

    def __setitem__(self, name, value):
        self.find(name, KeyError).set(value)

    def __contains__(self, name):
        return name in self.table or name in self.sections

    def __iter__(self):
        return iter(self.table)

    def __len__(self):
        return len(self.table)

    def __dir__(self):
        return sorted(self.table)

    def __repr__(self):
        return f"<Globals of {self.handle.name}: {', '.join(self.table) or 'none'}>"

    cdef Variable find(self, name, error):
        found = self.table.get(name) if isinstance(name, str) else self.sections.get(name)
        if type(found) is Variable:
            return found
        if found is not None:
            places = " or ".join(repr(key) for key, variable in self.sections.items() if variable in found)
            raise error(f"{self.handle.name} has {len(found)} global variables {name!r}: ask for {places}")
        if not isinstance(name, (str, tuple)):
            raise TypeError(f"global variables have names, not {name!r}")
        from difflib import get_close_matches
        close = get_close_matches(name if isinstance(name, str) else str(name[-1:]), self.table, 3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise error(f"{self.handle.name} has no global variable {name!r}{hint}")


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
    variable.name = btf.name(place.type)
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
    return variable


cdef int add_section(Globals globals, Btf btf, Section section) except -1:
    cdef c_btf.btf *types = btf.live()
    cdef const uapi.btf_type *datasec = c_btf.btf__type_by_id(types, section.datasec)
    cdef const uapi.btf_var_secinfo *places
    cdef Variable variable
    cdef unsigned int i
    if datasec == NULL or not c_btf.btf_is_datasec(datasec):
        return 0
    for i in range(c_btf.btf_vlen(datasec)):
        places = c_btf.btf_var_secinfos(datasec)
        if not c_btf.btf_is_var(c_btf.btf__type_by_id(types, places[i].type)):
            continue
        variable = make_variable(btf, section, i, &places[i])
        if variable.name == "" or variable.kind == SYMBOL and variable.name == "dummy_ksym":
            continue
        key = (section.name, variable.name)
        number = 0
        while key in globals.sections:
            number += 1
            key = (section.name, variable.name, number)
        globals.sections[key] = variable
        others = globals.table.get(variable.name)
        if others is None:
            globals.table[variable.name] = variable
        else:
            globals.table[variable.name] = [*(others if type(others) is list else [others]), variable]
    return 0


cdef Section make_section(Handle handle, libbpf.bpf_map *map, str name, unsigned int datasec):
    cdef Section section = Section.__new__(Section)
    section.handle = handle
    section.map = map
    section.name = name
    section.datasec = datasec
    section.kconfig = name == ".kconfig"
    section.constant = section.kconfig or name.startswith(".rodata")
    return section


def make_globals(object):
    """Object.globals when it is asked for the first time."""
    cdef Btf btf = object.btf
    cdef Globals globals = Globals.__new__(Globals)
    cdef libbpf.bpf_map *map
    cdef bytes raw
    cdef Handle handle
    globals.table = {}
    globals.sections = {}
    if btf is None:
        raise ValueError(f"{object.name} has no BTF, which says where its global variables are")
    globals.handle = handle = btf.handle
    btf.made()
    for number in btf:
        if btf.kind(number) != uapi.BTF_KIND_DATASEC:
            continue
        name = btf.name(number)
        if name == ".ksyms":
            add_section(globals, btf, make_section(handle, NULL, name, number))
            continue
        # By the section's name, which a map keeps when it takes name and types of one that was there before.
        raw = name.encode("utf-8", "surrogateescape")
        map = libbpf.bpf_object__find_map_by_name(handle.live(), raw) if name else NULL
        if map != NULL and libbpf.bpf_map__is_internal(map):
            add_section(globals, btf, make_section(handle, map, name, number))
    return globals
