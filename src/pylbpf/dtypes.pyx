"""Types of BTF as numpy dtypes."""
import sys as _sys

import numpy as _numpy

from .btf cimport Btf, enumerators
from .c cimport btf as c_btf
from .c cimport uapi

cdef object new_dtype = _numpy.dtype
cdef dict INTEGERS = {
    (size, signed): _numpy.dtype(f"{'i' if signed else 'u'}{size}") for size in (1, 2, 4, 8) for signed in (False, True)
}
cdef dict FLOATS = {size: _numpy.dtype(f"f{size}") for size in (2, 4, 8)}
cdef object BOOL = _numpy.dtype(bool)
cdef object WIDE = _numpy.dtype(("u8", (2,)))
cdef long long MAX_SIZE = 0x7fffffff    # of a dtype


def build(Btf btf, unsigned int id):
    """Make the dtype of a type, and keep it."""
    return Builder(btf).dtype_of(id)


cdef class Builder:
    # Follows types inside of types; that this comes to an end was checked.
    cdef Btf owner
    cdef c_btf.btf *btf
    cdef dict made

    def __cinit__(self, Btf owner):
        self.owner = owner
        self.made = owner.made().dtypes
        self.btf = owner.live()

    cdef str text(self, unsigned int offset):
        cdef const char *text = c_btf.btf__str_by_offset(self.btf, offset)
        return text.decode("utf-8", "surrogateescape")

    cdef const uapi.btf_type *bare(self, unsigned int *id):
        cdef const uapi.btf_type *type = c_btf.btf__type_by_id(self.btf, id[0])
        while c_btf.btf_is_mod(type) or c_btf.btf_is_typedef(type) or c_btf.btf_is_var(type):
            id[0] = type.type
            type = c_btf.btf__type_by_id(self.btf, id[0])
        return type

    cdef object dtype_of(self, unsigned int id):
        cdef object found = self.made.get(id)
        cdef unsigned int bare = id
        cdef const uapi.btf_type *type
        if found is not None:
            return found
        type = self.bare(&bare)
        if bare != id:
            found = self.made.get(bare)
        if found is None:
            found = self.made[bare] = self.make(bare, type)
        self.made[id] = found
        return found

    cdef object make(self, unsigned int id, const uapi.btf_type *type):
        cdef unsigned int kind = c_btf.btf_kind(type)
        if kind == uapi.BTF_KIND_INT:
            return self.integer(type)
        if kind == uapi.BTF_KIND_PTR:
            return INTEGERS[c_btf.btf__pointer_size(self.btf) or 8, False]
        if kind == uapi.BTF_KIND_ARRAY:
            return self.array(id)
        if kind == uapi.BTF_KIND_STRUCT or kind == uapi.BTF_KIND_UNION:
            return self.structure(id, type)
        if (kind == uapi.BTF_KIND_ENUM or kind == uapi.BTF_KIND_ENUM64) and type.size:
            return new_dtype(INTEGERS[type.size, bool(c_btf.btf_kflag(type))],
                             metadata={"enum": enumerators(self.btf, type)})
        if kind == uapi.BTF_KIND_FLOAT:
            return FLOATS.get(type.size) or new_dtype(f"V{type.size}")
        if kind == uapi.BTF_KIND_DATASEC:
            return self.section(id, type)
        declared = kind == uapi.BTF_KIND_FWD or kind == uapi.BTF_KIND_ENUM
        what = "is only declared" if declared else "has no values"
        raise ValueError(f"{self.owner.describe(id)} {what}")

    cdef object integer(self, const uapi.btf_type *type):
        cdef int encoding = c_btf.btf_int_encoding(type)
        if type.size == 16:
            return WIDE
        if encoding & uapi.BTF_INT_BOOL and type.size == 1:
            return BOOL
        return INTEGERS[type.size, bool(encoding & uapi.BTF_INT_SIGNED)]

    cdef object array(self, unsigned int id):
        """All its dimensions at once; the last one of a char array is the length of a string."""
        cdef const uapi.btf_type *type = c_btf.btf__type_by_id(self.btf, id)
        cdef list shape = []
        cdef long long size = c_btf.btf__resolve_size(self.btf, id)
        while c_btf.btf_is_array(type):
            shape.append(c_btf.btf_array(type).nelems)
            id = c_btf.btf_array(type).type
            type = self.bare(&id)
        if size < 0 or size > MAX_SIZE or max(shape) > MAX_SIZE:
            raise ValueError(f"an array of {' x '.join(map(str, shape))} of {self.owner.describe(id)} is too large for a dtype")
        if is_char(self.text(type.name_off), type):
            length = shape.pop()
            if length == 0:     # numpy takes a string of no length for one of any length
                return new_dtype(("S1", (*shape, 0)))
            return new_dtype((f"S{length}", tuple(shape))) if shape else new_dtype(f"S{length}")
        element = self.dtype_of(id)     # of __int128 an array itself
        return new_dtype((element.base, (*shape, *element.shape)))

    cdef object structure(self, unsigned int id, const uapi.btf_type *type):
        cdef Fields fields = Fields(self)
        fields.add(type, 0)
        fields.add_bits()
        return fields.finish(id, type.size)

    cdef object section(self, unsigned int id, const uapi.btf_type *type):
        cdef Fields fields = Fields(self)
        cdef const uapi.btf_var_secinfo *variable = c_btf.btf_var_secinfos(type)
        cdef const uapi.btf_type *what
        cdef unsigned int i
        for i in range(c_btf.btf_vlen(type)):
            what = c_btf.btf__type_by_id(self.btf, variable[i].type)
            if c_btf.btf_is_var(what) and c_btf.btf__resolve_size(self.btf, variable[i].type) >= 0:
                fields.put(self.text(what.name_off), self.dtype_of(variable[i].type), variable[i].offset)
        # Compilers leave the size to libbpf, which knows it when it opens the object.
        return fields.finish(id, type.size or fields.end())


cdef bint is_char(str name, const uapi.btf_type *type):
    """What strings are made of; not __u8, which has another name."""
    return c_btf.btf_is_int(type) and type.size == 1 and (
        name == "char" or bool(c_btf.btf_int_encoding(type) & uapi.BTF_INT_CHAR))


cdef class Fields:
    # The members of a struct, those of structs without a name inside it among them.
    cdef Builder builder
    cdef list names, formats, offsets
    cdef list bits                  # (first bit, bits, kind, name) of bit fields
    cdef dict places                # name -> (field, first bit in it, bits, kind) of bit fields

    def __cinit__(self, Builder builder):
        self.builder = builder
        self.names = []
        self.formats = []
        self.offsets = []
        self.bits = []
        self.places = {}

    cdef int put(self, str name, object dtype, unsigned long long offset) except -1:
        self.names.append(name)
        self.formats.append(dtype)
        self.offsets.append(offset)
        return 0

    cdef object end(self):
        return max([offset + dtype.itemsize for offset, dtype in zip(self.offsets, self.formats)], default=0)

    cdef int add(self, const uapi.btf_type *type, unsigned long long start) except -1:
        cdef const uapi.btf_member *members = c_btf.btf_members(type)
        cdef Builder builder = self.builder
        cdef const uapi.btf_type *inner
        cdef unsigned long long offset
        cdef unsigned int i, bits, id
        for i in range(c_btf.btf_vlen(type)):
            id = members[i].type
            inner = builder.bare(&id)
            offset = start + c_btf.btf_member_bit_offset(type, i)
            bits = c_btf.btf_member_bitfield_size(type, i)
            if not bits and c_btf.btf_is_int(inner) and c_btf.btf_int_bits(inner) < 8 * inner.size:
                bits = c_btf.btf_int_bits(inner)    # as compilers wrote them before there was a flag for it
                offset += c_btf.btf_int_offset(inner)
            if not members[i].name_off:
                if not bits and c_btf.btf_is_composite(inner):
                    self.add(inner, offset)
            elif bits or offset % 8:
                self.bits.append((offset, bits or 8 * inner.size, kind_of_bits(inner), builder.text(members[i].name_off)))
            else:
                self.put(builder.text(members[i].name_off), builder.dtype_of(members[i].type), offset // 8)
        return 0

    cdef int add_bits(self) except -1:
        """Bytes that hold bit fields become one field as far as they are next to each other."""
        cdef unsigned long long first = 0, end = 0, start, bits
        cdef str field = None
        self.bits.sort()
        for start, bits, kind, name in self.bits:
            if field is not None and start // 8 > end:
                self.put(field, new_dtype(("u1", (end - first,))), first)
                field = None
            if field is None:
                first = start // 8
                field = f"bits@{first}"
            end = max(end, (start + bits + 7) // 8)
            self.places[name] = (field, start - 8 * first, bits, kind)
        if field is not None:
            self.put(field, new_dtype(("u1", (end - first,))), first)
        return 0

    cdef object finish(self, unsigned int id, object size):
        cdef dict layout = {"names": self.names, "formats": self.formats, "offsets": self.offsets, "itemsize": size}
        try:
            return new_dtype(layout, metadata={"bits": self.places}) if self.places else new_dtype(layout)
        except (ValueError, OverflowError) as error:    # two members of one name, too large for numpy
            raise ValueError(f"{self.builder.owner.describe(id)} cannot be a dtype: {error}") from None


cdef str kind_of_bits(const uapi.btf_type *type):
    """As numpy's dtype.kind: b, i or u."""
    if c_btf.btf_is_int(type):
        if c_btf.btf_int_encoding(type) & uapi.BTF_INT_BOOL:
            return "b"
        return "i" if c_btf.btf_int_encoding(type) & uapi.BTF_INT_SIGNED else "u"
    return "i" if c_btf.btf_kflag(type) else "u"
