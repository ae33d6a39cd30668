"""BTF: types by number and name, and what they are."""
cimport cython
from libc.errno cimport EINVAL
from libc.string cimport strcmp

from .c cimport btf as c_btf
from .c cimport libbpf, uapi
from .call cimport Call, enter
from .errors cimport fail, finish
from .handle cimport Handle
from .paths cimport name_bytes, number_of

cdef extern from "btf_check.h" nogil:
    int pylbpf_check_types(const c_btf.btf *btf, unsigned int first, char *problem, size_t room)

cdef tuple TAGS = ("struct", "union", "enum", "typedef")

# Which type of several with one name is meant: what C finds without a word before it, what needs one, the rest.
cdef unsigned char RANKS[32]
RANKS[uapi.BTF_KIND_TYPEDEF] = RANKS[uapi.BTF_KIND_INT] = RANKS[uapi.BTF_KIND_FLOAT] = 4
RANKS[uapi.BTF_KIND_STRUCT] = RANKS[uapi.BTF_KIND_UNION] = RANKS[uapi.BTF_KIND_ENUM] = RANKS[uapi.BTF_KIND_ENUM64] = 3
RANKS[uapi.BTF_KIND_DATASEC] = 2
RANKS[uapi.BTF_KIND_FWD] = 1


@cython.final
cdef class Made:
    def __cinit__(self):
        self.numbers = {}
        self.dtypes = {}
        self.classes = {}


@cython.final
cdef class Member:
    """A member of a struct or union, or a variable of a section.

    ``name`` ("" if it has none), ``type`` (a number), ``offset`` in bits, and ``bits``: the width of a bit field, else 0.
    struct btf_member and struct btf_var_secinfo of linux/btf.h.
    """

    cdef readonly str name
    cdef readonly unsigned int type, bits
    cdef readonly unsigned long long offset

    def __repr__(self):
        return f"Member(name={self.name!r}, type={self.type}, offset={self.offset}, bits={self.bits})"


@cython.final
@cython.no_gc_clear     # the base goes after what is on top of it
cdef class Btf:
    """Types, by number from 1; 0 is void.

    ``Object.btf`` is an object's, and keeps the object alive; it ends when that is closed. The others come from
    ``Btf.kernel()``, ``.module()``, ``.from_id()``, ``.parse()`` and ``.from_bytes()``, are plain memory, and may be
    used in forked children too. Where a method takes a type, that is its number or its name: "event", "struct event",
    ".data". Names and numbers that are handed out are copies. What comes from outside is looked through before
    anything follows it: a ValueError says what is wrong with which type.
    """

    def __init__(self):
        raise TypeError("BTF comes from Object.btf, Btf.kernel(), .module(), .from_id(), .parse() or .from_bytes()")

    def __dealloc__(self):
        if self.owned:
            c_btf.btf__free(self.ptr)

    cdef c_btf.btf *live(self) except NULL:
        if self.handle is not None:
            self.handle.live()
        if self.ptr == NULL:
            raise ValueError("this Btf is empty")
        return self.ptr

    cdef Made made(self):
        """What was made of the types, unless they have become others since: a map's resizing adds some.

        To be asked before types are followed: here those of an object are checked.
        """
        cdef unsigned int count = c_btf.btf__type_cnt(self.live())
        if self.kept.count != count:
            check(self.ptr, 1, self.label)
            self.kept.dtypes = {}
            self.kept.numbers = {}
            self.kept.classes = {}
            self.kept.printer = None
            self.kept.count = count
        return self.kept

    @classmethod
    def kernel(cls):
        """Return the types of the running kernel; they are read once, and kept as long as the process lives.

        That takes some 10 ms and 10 MB. BpfError if the kernel has none. Source: btf__load_vmlinux_btf().
        """
        from .btfload import kernel
        return kernel()

    @classmethod
    def module(cls, name):
        """Return the types of a kernel module, on top of the kernel's. Source: btf__load_module_btf()."""
        from .btfload import module
        return module(name)

    @classmethod
    def from_id(cls, id):
        """Return types that the kernel holds, by their number there: ``bpf_map_info.btf_id`` and others tell it.

        Those of modules come with the kernel's as their base. FileNotFoundError if there are none of this number;
        needs CAP_SYS_ADMIN. Source: btf__load_from_kernel_by_id_split().
        """
        from .btfload import from_id
        return from_id(id)

    @classmethod
    def parse(cls, path, *, base=None):
        """Return the types in a file: raw BTF as in /sys/kernel/btf, or an ELF file with a section .BTF.

        ``base`` is a Btf that they continue, as modules do with the kernel's. A module that was built by itself brings a
        small base along (.BTF.base), which is then taken: only for such files may ``base`` not be given, for its numbers
        of types are others. LibbpfError if there are none, ValueError for damaged ones. Source: btf__new().
        """
        from .btfload import parse
        return parse(path, base)

    @classmethod
    def from_bytes(cls, data, *, base=None):
        """Return the types in raw BTF (bytes-like), on top of ``base`` if that is given; the data is copied.

        ValueError for what is damaged, LibbpfError for what is no BTF. Source: btf__new(), btf__parse_raw_split().
        """
        from .btfload import parse_bytes
        return parse_bytes(bytes(memoryview(data)), base, "<memory>")

    def __repr__(self):
        if self.handle is not None and not self.handle.usable():
            return f"<Btf of {self.label}: closed>"
        return f"<Btf of {self.label}: {len(self)} types>"

    def __len__(self):
        """Number of types, without void, with those of the base. Source: btf__type_cnt()."""
        return c_btf.btf__type_cnt(self.live()) - 1

    def __iter__(self):
        """All numbers of types, from 1, or from the first that the base does not have. Source: btf__type_cnt()."""
        first = 1 if self.under is None else len(self.under) + 1
        return iter(range(first, len(self) + 1))

    @property
    def base(self):
        """The Btf that this one continues, or None. Source: btf__base_btf()."""
        return self.under

    def find(self, name, kind=None):
        """Return the number of the first type of this name; KeyError if there is none.

        ``kind`` is a BtfKind or a number as in linux/btf.h. Source: btf__find_by_name(), btf__find_by_name_kind().
        """
        cdef bytes raw = name_bytes(name, "type name")
        cdef int id
        if kind is None:
            id = c_btf.btf__find_by_name(self.live(), raw)
        else:
            id = c_btf.btf__find_by_name_kind(self.live(), raw, number_of(kind, "kind"))
        if id < 0:
            raise KeyError(name)
        return id

    cdef unsigned int resolve(self, object type) except? 0xffffffff:
        if not isinstance(type, str):
            return index_of(self, type, "a number or a name")
        cdef dict known = self.made().numbers
        found = known.get(type)
        if found is None:
            found = known[type] = self.look_up(<str>type)
        return found

    cdef unsigned int look_up(self, str text) except? 0xffffffff:
        cdef tuple parts = tuple(text.split())
        cdef bytes raw
        cdef const char *name
        cdef const char *other
        cdef c_btf.btf *btf = self.live()
        cdef const uapi.btf_type *type
        cdef unsigned int id, kind, best = 0, found = 0
        cdef unsigned int wanted = 0xffffffff
        if len(parts) == 2 and parts[0] in TAGS:
            raw = name_bytes(parts[1], "type name")
            wanted = {"struct": 1 << uapi.BTF_KIND_STRUCT, "union": 1 << uapi.BTF_KIND_UNION,
                      "enum": 1 << uapi.BTF_KIND_ENUM | 1 << uapi.BTF_KIND_ENUM64,
                      "typedef": 1 << uapi.BTF_KIND_TYPEDEF}[parts[0]] | 1 << uapi.BTF_KIND_FWD
        else:
            raw = name_bytes(text, "type name")
        name = raw
        for id in range(1, c_btf.btf__type_cnt(btf)):
            type = c_btf.btf__type_by_id(btf, id)
            kind = c_btf.btf_kind(type)
            if RANKS[kind] <= best or not wanted >> kind & 1 or not type.name_off:
                continue
            other = c_btf.btf__str_by_offset(btf, type.name_off)
            if other != NULL and other[0] == name[0] and strcmp(other, name) == 0:
                best = RANKS[kind]
                found = id
                if best == 4:
                    break
        if not found:
            from difflib import get_close_matches
            close = get_close_matches(parts[-1], self.names(), 3) if len(self) < 5000 and parts else ()
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise KeyError(f"{self.label} has no type {text!r}{hint}")
        return found

    def names(self, kind=None):
        """Return the names of all types that have one, of one kind or of those that values can have.

        Source: btf__name_by_offset().
        """
        cdef c_btf.btf *btf = self.live()
        cdef const uapi.btf_type *type
        cdef unsigned int wanted = 0 if kind is None else number_of(kind, "kind")
        cdef unsigned int id
        cdef dict found = {}
        for id in range(1, c_btf.btf__type_cnt(btf)):
            type = c_btf.btf__type_by_id(btf, id)
            if type.name_off and (c_btf.btf_kind(type) == wanted if wanted else RANKS[c_btf.btf_kind(type)] > 0):
                found[text_of(c_btf.btf__str_by_offset(btf, type.name_off))] = None
        return list(found)

    cdef const uapi.btf_type *type_of(self, unsigned int id) except NULL:
        cdef const uapi.btf_type *type = c_btf.btf__type_by_id(self.live(), id)
        if type == NULL:
            raise IndexError(f"type {id} of {len(self)}")
        return type

    cdef str describe(self, unsigned int id):
        """For messages."""
        return f"type {id} ({self.name(id) or 'without name'}) of {self.label}"

    def number(self, type):
        """Return the number of a type, given by name or by number; KeyError and IndexError if there is none.

        A bare name is that of a typedef, integer or float, else of a struct, union or enum, else of a section; with
        "struct", "union", "enum" or "typedef" before it, of that. Source: btf__type_by_id().
        """
        return self.resolve(type)

    def name(self, id):
        """Return the name of a type, "" if it has none. Source: btf__name_by_offset()."""
        return text_of(c_btf.btf__name_by_offset(self.live(), self.type_of(index_of(self, id, "a number")).name_off))

    def kind(self, id):
        """Return the kind of a type as the number in linux/btf.h, that of a BtfKind. Source: btf_kind()."""
        return c_btf.btf_kind(self.type_of(index_of(self, id, "a number")))

    def size(self, type):
        """Return the size of a type in bytes; BpfError if it has none. Source: btf__resolve_size()."""
        cdef unsigned int id = self.resolve(type)
        cdef long long size = c_btf.btf__resolve_size(self.live(), id)
        if size < 0:
            fail(<int>-size, "size of type", id)
        return size

    def alignment(self, type):
        """Return what addresses of a type are multiples of, in bytes; 1 for what is packed. ValueError if it has none.
        As BTF tells it: it does not know of ``__attribute__((aligned))``. Source: btf__align_of().
        """
        cdef unsigned int id = self.resolve(type)
        cdef c_btf.btf *types
        cdef Call call
        cdef int result
        self.made()
        types = self.live()
        enter(&call, NULL)
        result = c_btf.btf__align_of(types, id)
        finish(&call, 0, "alignment of", self)
        if result <= 0:
            raise ValueError(f"{self.describe(id)} has no alignment")
        return result

    def target(self, type):
        """Return the number of the type that one refers to: of pointers, typedefs, qualifiers, arrays (the element),
        variables, functions (the prototype) and prototypes (what is returned). ValueError for all others.

        Source: btf__type_by_id().
        """
        cdef unsigned int id = self.resolve(type)
        cdef const uapi.btf_type *found = self.type_of(id)
        cdef unsigned int kind = c_btf.btf_kind(found)
        if kind == uapi.BTF_KIND_ARRAY:
            return c_btf.btf_array(found).type
        if kind in (uapi.BTF_KIND_PTR, uapi.BTF_KIND_TYPEDEF, uapi.BTF_KIND_VOLATILE, uapi.BTF_KIND_CONST,
                    uapi.BTF_KIND_RESTRICT, uapi.BTF_KIND_FUNC, uapi.BTF_KIND_FUNC_PROTO, uapi.BTF_KIND_VAR,
                    uapi.BTF_KIND_DECL_TAG, uapi.BTF_KIND_TYPE_TAG):
            return found.type
        raise ValueError(f"{self.describe(id)} refers to no other type")

    def members(self, type):
        """Return the members of a struct or union, or the variables of a section, as a list of Member.

        Typedefs and qualifiers are looked through; ValueError for other types. Source: btf_members(),
        btf_var_secinfos().
        """
        cdef unsigned int id = self.resolve(type)
        cdef const uapi.btf_type *found
        cdef const uapi.btf_type *inner
        cdef const uapi.btf_var_secinfo *variable
        cdef unsigned int i
        cdef Member member
        cdef list members = []
        self.made()
        found = bare_type(self.live(), id)
        for i in range(c_btf.btf_vlen(found)):
            member = Member.__new__(Member)
            if c_btf.btf_is_composite(found):
                member.name = self.string(c_btf.btf_members(found)[i].name_off)
                member.type = c_btf.btf_members(found)[i].type
                member.offset = c_btf.btf_member_bit_offset(found, i)
                member.bits = c_btf.btf_member_bitfield_size(found, i)
                inner = bare_type(self.live(), member.type)
                if not member.bits and c_btf.btf_is_int(inner) and c_btf.btf_int_bits(inner) < 8 * inner.size:
                    member.bits = c_btf.btf_int_bits(inner)     # as compilers wrote them before there was a flag
                    member.offset += c_btf.btf_int_offset(inner)
            elif c_btf.btf_is_datasec(found):
                variable = &c_btf.btf_var_secinfos(found)[i]
                member.name = self.name(variable.type)
                member.type = variable.type
                member.offset = <unsigned long long>variable.offset * 8
            else:
                break
            members.append(member)
        if not members and not c_btf.btf_is_composite(found) and not c_btf.btf_is_datasec(found):
            raise ValueError(f"{self.describe(id)} has no members")
        return members

    def enumerators(self, type):
        """Return the names and numbers of an enum as a dict; ValueError for other types.

        Source: btf_enum(), btf_enum64().
        """
        cdef unsigned int id = self.resolve(type)
        self.made()
        cdef const uapi.btf_type *found = bare_type(self.live(), id)
        if not c_btf.btf_is_any_enum(found):
            raise ValueError(f"{self.describe(id)} is no enum")
        return enumerators(self.live(), found)

    def string(self, unsigned int offset):
        """Return a string by offset, as in LineInfo. Source: btf__str_by_offset()."""
        cdef const char *text = c_btf.btf__str_by_offset(self.live(), offset)
        if text == NULL:
            raise IndexError(f"no string at offset {offset}")
        return text_of(text)

    def tobytes(self):
        """Return a copy of the raw BTF, without the base's. Source: btf__raw_data()."""
        cdef unsigned int size
        cdef const char *data = <const char *>c_btf.btf__raw_data(self.live(), &size)
        if data == NULL:
            raise MemoryError()
        return data[:size]

    def dtype(self, type):
        """Return the numpy.dtype of a type, with the offsets and the size that it has in memory.

        Integers, floats and bool are what they are, pointers are u8, enums integers with ``metadata["enum"]``, a dict
        of names. ``char[N]`` is S N: what follows the last byte that is not NUL is not shown, but it is there. Members
        of structs without a name are members of the struct around them. Unions have all their members at 0. A flexible
        array has no elements. 128-bit integers are two u8 in the order of memory.

        Bit fields are not fields of the dtype, for numpy knows none: their bytes are, as "bits@<offset>", and
        ``bit_field()`` and ``set_bit_field()`` find the bits. ``.data`` and other sections become structs of their
        variables. The result is kept: the same type gives the same dtype. ValueError for what has no values, such as
        functions and structs that are only declared. Source: btf__type_by_id().
        """
        cdef Made made = self.made()
        cdef unsigned int id = self.resolve(type)
        found = made.dtypes.get(id)
        if found is None:
            from .dtypes import build
            found = build(self, id)
        return found

    def _classes(self):
        """For records: what it made of these types, by whatever it likes."""
        return self.made().classes

    def ctypes(self, type):
        """Return a ctypes type of a type: a Structure or Union for those, with bit fields and the members of nameless
        structs, c_uint32 and the like for numbers, arrays of them. Enums are integers, pointers c_void_p.

        The result is kept: the same type gives the same class. ValueError for what ctypes cannot lay out as it is: some
        packed bit fields. Source: btf__type_by_id().
        """
        from .records import ctypes_of
        return ctypes_of(self, self.number(type))

    def dataclass(self, type):
        """Return a dataclass of a struct, with a field for each member, ``from_bytes()`` and ``to_bytes()``.

        Fields are numbers, bool, bytes for char arrays, lists for arrays, dataclasses for structs; an enum is an IntEnum
        of its names. Bit fields are numbers among the others. All fields have a default: zero. A union has one field,
        its bytes as ``raw``, and a property for each member. What is in a nameless member is a property, too. The
        result is kept: the same type gives the same class. ValueError for what is no struct.
        Source: btf__type_by_id().
        """
        from .records import dataclass_of
        return dataclass_of(self, self.number(type))

    def c_decl(self, type):
        """Return the declaration of a type in C, with those that it needs, as libbpf writes it.

        Functions and variables, by their numbers, are declared too. BpfError if C cannot say it.
        Source: btf_dump__dump_type(), btf_dump__emit_type_decl().
        """
        from .btfdump import c_decl
        return c_decl(self, type)

    def format(self, value, type, *, compact=False, names=True, zeroes=False, indent="\t"):
        """Return a value as text, as libbpf writes it: bytes of the type's size, or something with such a buffer.

        ``compact`` for one line; without ``names`` those of members and types are left out; members that are zero are
        left out unless ``zeroes``. ValueError for another size. Source: btf_dump__dump_type_data().
        """
        from .btfdump import format_value
        return format_value(self, value, type, compact, names, zeroes, indent)


cdef unsigned int index_of(Btf btf, object number, str wanted) except? 0xffffffff:
    """The number of a type, from anything that is an integer."""
    cdef long long index
    if type(number) is not int:
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise TypeError(f"a type is {wanted}, not {type(number).__name__}")
        number = number.__index__()
    try:
        index = number
    except OverflowError:
        index = -1
    if not 0 <= index < c_btf.btf__type_cnt(btf.live()):
        raise IndexError(f"type {number} of {len(btf)}")
    return <unsigned int>index


cdef str text_of(const char *text):
    return "" if text == NULL else text.decode("utf-8", "surrogateescape")


cdef const uapi.btf_type *bare_type(c_btf.btf *btf, unsigned int id) noexcept:
    """Without qualifiers and typedefs; of types that were checked."""
    cdef const uapi.btf_type *type = c_btf.btf__type_by_id(btf, id)
    while c_btf.btf_is_mod(type) or c_btf.btf_is_typedef(type):
        type = c_btf.btf__type_by_id(btf, type.type)
    return type


cdef dict enumerators(c_btf.btf *btf, const uapi.btf_type *type):
    cdef dict values = {}
    cdef bint signed = c_btf.btf_kflag(type)
    cdef object number
    cdef unsigned int i, name
    for i in range(c_btf.btf_vlen(type)):
        if c_btf.btf_is_enum64(type):
            name = c_btf.btf_enum64(type)[i].name_off
            number = c_btf.btf_enum64_value(&c_btf.btf_enum64(type)[i])
            if signed:
                number = <long long><unsigned long long>number
        else:
            name = c_btf.btf_enum(type)[i].name_off
            number = c_btf.btf_enum(type)[i].val
            if not signed:
                number = <unsigned int><int>number
        values[text_of(c_btf.btf__str_by_offset(btf, name))] = number
    return values


cdef int check(c_btf.btf *btf, unsigned int first, str label) except -1:
    cdef char problem[300]
    cdef int code
    code = pylbpf_check_types(btf, first, problem, sizeof(problem))
    if code == -EINVAL:
        raise ValueError(f"BTF of {label}: {problem.decode('utf-8', 'replace')}")
    if code < 0:
        raise MemoryError()
    return 0


cdef Btf own_btf(c_btf.btf *ptr, Btf base, str label, bint trusted):
    """A Btf that owns its types; they are checked, but for the running kernel's."""
    cdef Btf btf = Btf.__new__(Btf)
    btf.ptr = ptr
    btf.owned = True
    btf.under = base
    btf.label = label
    btf.kept = Made()
    if not trusted:
        check(ptr, 1 if base is None else c_btf.btf__type_cnt(base.ptr), label)
    btf.kept.count = c_btf.btf__type_cnt(ptr)
    return btf


def btf_of(Handle handle):
    """The types of an object, or None."""
    cdef c_btf.btf *btf = <c_btf.btf *>libbpf.bpf_object__btf(handle.live())
    return None if btf == NULL else make_btf(handle, btf)


cdef Btf make_btf(Handle handle, c_btf.btf *ptr):
    cdef Btf btf = Btf.__new__(Btf)
    btf.handle = handle
    btf.ptr = ptr
    btf.label = handle.name
    if handle.types is None:
        handle.types = Made()
    btf.kept = handle.types
    return btf
