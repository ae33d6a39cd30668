from .c cimport btf as c_btf
from .c cimport uapi
from .handle cimport Handle


cdef class Btf:
    cdef c_btf.btf *ptr
    cdef Handle handle              # whose BTF this is

    cdef c_btf.btf *live(self) except NULL
    cdef const uapi.btf_type *type_of(self, unsigned int id) except NULL


cdef Btf make_btf(Handle handle, c_btf.btf *ptr)
