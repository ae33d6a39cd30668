from .c cimport btf as c_btf
from .c cimport uapi
from .handle cimport Handle


cdef class Made:
    # What was made of types, and of how many there were at that time.
    cdef unsigned int count
    cdef dict numbers               # name -> number
    cdef dict dtypes                # number -> numpy.dtype
    cdef dict classes               # (number, what) -> class, see records
    cdef object printer             # of values


cdef class Btf:
    cdef c_btf.btf *ptr
    cdef bint owned                 # ours to free
    cdef Handle handle              # whose BTF this is, or None,
    cdef Btf under                  # on top of this one, or None
    cdef str label
    cdef Made kept
    cdef object __weakref__

    cdef c_btf.btf *live(self) except NULL
    cdef Made made(self)
    cdef const uapi.btf_type *type_of(self, unsigned int id) except NULL
    # The number that a name or a number stands for.
    cdef unsigned int resolve(self, object type) except? 0xffffffff
    cdef unsigned int look_up(self, str text) except? 0xffffffff
    cdef str describe(self, unsigned int id)


# Of types that were checked, see Btf.made().
cdef const uapi.btf_type *bare_type(c_btf.btf *btf, unsigned int id) noexcept
cdef dict enumerators(c_btf.btf *btf, const uapi.btf_type *type)
cdef Btf own_btf(c_btf.btf *ptr, Btf base, str label, bint trusted)
cdef Btf make_btf(Handle handle, c_btf.btf *ptr)
