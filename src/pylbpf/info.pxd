from .c cimport uapi

# By pointer: the kernel's structures grow, and these classes must be as large for whoever was built with other headers.

cdef class ProgramInfo:
    cdef uapi.bpf_prog_info *raw
    cdef object source          # what has the program's descriptor, or None: then it is found by its number
    cdef int ask(self, uapi.bpf_prog_info *wanted) except -1

cdef class MapInfo:
    cdef uapi.bpf_map_info *raw

cdef class BtfInfo:
    cdef uapi.bpf_btf_info *raw
    cdef readonly str name

# What the kernel says about a descriptor that is open.
cdef ProgramInfo program_info(int fd, object source)
cdef MapInfo map_info(int fd)
cdef BtfInfo btf_info(int fd)
# The same for the number of a thing in the kernel; None if it is gone.
cdef object info_by_id(str kind, unsigned int id)
