"""What programs are attached to, as C takes it."""
from .c.uapi cimport __u32, __u64


cdef class Target:
    cdef int fd                 # good as long as this lives,
    cdef bint opened            # if it is ours


cdef struct Anchor:
    # Where in the order of programs: all zero is at the end.
    __u32 flags
    __u32 relative_fd
    __u32 relative_id
    __u64 expected_revision


# A number, or an object with fileno(). The descriptor stays its owner's.
cdef int descriptor_of(object thing, str what) except -1
# Likewise, but of an object a duplicate: who closes that meanwhile does no harm.
cdef Target held(object thing, str what)
# The number of a network interface given by name or number.
cdef int interface_index(object interface) except -1
cdef int duplicate_fd(int fd) except -1
# A descriptor as of held(), or a path that is opened for as long as the Target lives.
cdef Target open_target(object thing, int flags, str what)
# What relative_fd means; None for None.
cdef Target beside(object relative_fd)
# Fill in; true if anything differs from zero.
cdef bint set_anchor(Anchor *anchor, unsigned int flags, Target beside, object relative_id,
                     object expected_revision) except -1
# Numbers as an array of C, of the format's letter, and names as an array of pointers into `raws`; None for None.
cdef bytes array_of(object numbers, str letter, str what)
cdef bytes pointers_to(list raws)
cdef list names_of(object names, str what)


cdef class Functions:
    # Those of a link to many: a pattern, or names, or numbers (addresses, offsets, ids), and what goes with each.
    cdef bytes raw
    cdef list names
    cdef bytes syms, numbers, counters, cookies     # arrays of C
    cdef size_t count                               # 0: by pattern
    cdef str words

# `letter` is the format of a number, `what` the name of their option.
cdef Functions functions_of(object pattern, object syms, object numbers, str letter, str what, object ref_ctr_offsets,
                            object cookies)
# The memory of bytes; NULL for None.
cdef const void *memory_of(bytes array) noexcept
