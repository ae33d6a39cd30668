"""BTF, the types of an object."""
cimport cython

from .c cimport btf as c_btf
from .c cimport uapi
from .call cimport Call, enter
from .errors cimport fail
from .handle cimport Handle
from .paths cimport name_bytes


@cython.final
cdef class Btf:
    """The types of an object, by number from 1; 0 is void. It keeps the object alive."""

    def __init__(self):
        raise TypeError("BTF comes from Object.btf")

    cdef c_btf.btf *live(self) except NULL:
        self.handle.live()
        return self.ptr

    def __repr__(self):
        if not self.handle.usable():
            return f"<Btf of {self.handle.name}: closed>"
        return f"<Btf of {self.handle.name}: {len(self)} types>"

    def __len__(self):
        """Number of types, without void. Source: btf__type_cnt()."""
        return c_btf.btf__type_cnt(self.live()) - 1

    def find(self, name):
        """Return the number of the first type of this name; KeyError if there is none. Source: btf__find_by_name()."""
        cdef bytes raw = name_bytes(name, "type name")
        cdef int id = c_btf.btf__find_by_name(self.live(), raw)
        if id < 0:
            raise KeyError(name)
        return id

    cdef const uapi.btf_type *type_of(self, unsigned int id) except NULL:
        cdef const uapi.btf_type *type = c_btf.btf__type_by_id(self.live(), id)
        if type == NULL:
            raise IndexError(f"type {id} of {len(self)}")
        return type

    def name(self, unsigned int id):
        """Return the name of a type, "" if it has none. Source: btf__name_by_offset()."""
        cdef const char *name = c_btf.btf__name_by_offset(self.live(), self.type_of(id).name_off)
        return "" if name == NULL else name.decode("utf-8", "surrogateescape")

    def kind(self, unsigned int id):
        """Return the kind of a type as the number in linux/btf.h. Source: btf_kind()."""
        return c_btf.btf_kind(self.type_of(id))

    def size(self, unsigned int id):
        """Return the size of a type in bytes; BpfError if it has none. Source: btf__resolve_size()."""
        self.type_of(id)
        cdef long long size = c_btf.btf__resolve_size(self.live(), id)
        if size < 0:
            fail(<int>-size, "size of type", id)
        return size

    def string(self, unsigned int offset):
        """Return a string by offset, as in LineInfo. Source: btf__str_by_offset()."""
        cdef const char *text = c_btf.btf__str_by_offset(self.live(), offset)
        if text == NULL:
            raise IndexError(f"no string at offset {offset}")
        return text.decode("utf-8", "surrogateescape")

    def tobytes(self):
        """Return a copy of the raw BTF. Source: btf__raw_data()."""
        cdef unsigned int size
        cdef const char *data = <const char *>c_btf.btf__raw_data(self.live(), &size)
        return data[:size]


cdef Btf make_btf(Handle handle, c_btf.btf *ptr):
    cdef Btf btf = Btf.__new__(Btf)
    btf.handle = handle
    btf.ptr = ptr
    return btf
